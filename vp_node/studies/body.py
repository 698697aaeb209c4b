"""Whether a volume shows the head: what the scanner wrote first, then what people wrote."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal

Head = Literal["yes", "no", "unknown"]


def head_of(body_part: str, *words: str) -> tuple[Head, str]:
    """The verdict, and its evidence in words of the lists alone.

    Args:
        body_part: Body Part Examined (0018,0015).
        words: series description and protocol name, which count where the body part says nothing.
    """
    folded = re.sub(r"[^a-z]", "", body_part.casefold())
    verdict, word = _verdict(lambda part: part in folded)
    if word:
        return verdict, f"head {verdict}: Body Part Examined says {word!r}"
    told = set(re.findall(r"[a-z]+", " ".join(words).casefold()))
    verdict, word = _verdict(told.__contains__)
    return verdict, f"head {verdict}: the description says {word!r}" if word else "head unknown: nothing says so"


def is_other_body_part(body_part: str) -> bool:
    """Whether Body Part Examined says that the head is not shown."""
    return head_of(body_part)[0] == "no"


def _verdict(is_said: Callable[[str], bool]) -> tuple[Head, str]:
    lists = _lists()
    verdicts: tuple[tuple[Head, str], ...] = (("yes", "head"), ("no", "other"))
    for verdict, name in verdicts:
        word = next((word for word in lists[name] if is_said(word)), "")
        if word:
            return verdict, word
    return "unknown", ""


@cache
def _lists() -> Mapping[str, Sequence[str]]:
    return tomllib.loads((resources.files("vp_node.studies") / "data" / "body_parts.toml").read_text(encoding="utf-8"))
