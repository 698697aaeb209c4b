"""Bright or dark: a share that a prompt asks for is of what it says, and signal is named as in the image's modality."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

BRIGHT, DARK = "hyper", "hypo"
"""Concepts of a prompt."""
LIMIT = re.compile(r"^limit = (?P<mean>mean_intensity\(.*\)) (?P<sign>[+-]) spread$")
SELECTED = re.compile(r"^part = (?P<call>brighter_than|darker_than)\(")
OF_SIGNAL = re.compile(r'(?P<call>\bwith_signal\(\w+, \w+, ")(?:hyper|hypo|iso)(?=intense")')
SPOKEN = {
    BRIGHT: ("hyper", "bright", "high", "increased", "elevated"),
    DARK: ("hypo", "dark", "low", "black", "decreased", "reduced"),
    "iso": ("iso", "same"),
}
"""Beginnings of words for the signal of lesions."""
MORE = frozenset({"hypothalamus", "hypothalamic", "highlight", "highlighted", "lower", "isolate", "isolated"})
"""Words that begin like them."""
SIGNS, CALLS = {BRIGHT: "+", DARK: "-"}, {BRIGHT: "brighter_than", DARK: "darker_than"}
READ = re.compile(r"^inside = mean_intensity\(roi, (?P<volume>v\d+)\)$")
ANSWERED = re.compile(r'answer\("(?P<beginning>hyper|hypo|iso)(?P<ending>dense|intense)"')
DENSITY, SIGNAL = "dense", "intense"


def signal_of(words: Sequence[str]) -> str:
    """Hyper, hypo or iso, as a prompt's words say, if they say one alone; else an empty text."""
    found = {
        signal
        for signal, starts in SPOKEN.items()
        if any(word.startswith(starts) and word not in MORE for word in words)
    }
    return found.pop() if len(found) == 1 else ""


def contrast_mended(
    statement: str, before: Sequence[str], told: Collection[str], kinds: Mapping[str, str], words: Sequence[str] = ()
) -> str:
    """What a line should say; the line itself where it agrees, or speaks of nothing of the kind.

    Args:
        told: concepts of the prompt; words: all of it.
        kinds: sequence type of each volume.
    """
    asked = [concept for concept in (BRIGHT, DARK) if concept in told]
    if len(asked) == 1:
        limit = LIMIT.match(statement)
        if limit is not None:
            return f"limit = {limit['mean']} {SIGNS[asked[0]]} spread"
        if (selected := SELECTED.match(statement)) is not None:
            return statement.replace(selected["call"], CALLS[asked[0]])
    if (signal := signal_of(words)) and OF_SIGNAL.search(statement) is not None:
        return OF_SIGNAL.sub(rf"\g<call>{signal}", statement)
    answered = ANSWERED.search(statement)
    read = [found["volume"] for line in before if (found := READ.match(line.strip())) is not None]
    if answered is not None and read:
        ending = DENSITY if kinds.get(read[-1]) == "CT" else SIGNAL
        return ANSWERED.sub(rf'answer("\g<beginning>{ending}"', statement)
    return statement
