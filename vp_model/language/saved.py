"""Images that a program saves: the same is done to every volume that it looks at, in their order, with one margin."""

from __future__ import annotations

import re
from collections.abc import Sequence

SAVED = re.compile(
    r"^save\((?P<operation>remove|isolate|crop)\((?P<volume>v\d+), (?P<region>\w+)(?:, (?P<margin>[0-9.]+))?\)\)$"
)
LOOKED_AT = re.compile(r"\w+(?=<MOD>)")


def saved_volumes(lines: Sequence[str]) -> list[str]:
    """Volumes of which lines save an image."""
    return [match["volume"] for line in lines if (match := SAVED.match(line.strip())) is not None]


def unsaved_volumes(lines: Sequence[str]) -> list[str]:
    """Volumes of which a program that saves images has not saved one yet, of all in which it looks for its regions."""
    saved = saved_volumes(lines)
    looked_at = dict.fromkeys(name for line in lines for name in LOOKED_AT.findall(line))
    return [name for name in looked_at if name not in saved] if saved else []


def consistent(statement: str, before: Sequence[str], margins: Sequence[float]) -> tuple[str, ...]:
    """What a line that saves an image may say; empty for other lines, and where all is saved.

    Args:
        margins: that the prompt may mean.
    """
    match = SAVED.match(statement)
    if match is None:
        return ()
    earlier = [found for line in before if (found := SAVED.match(line.strip())) is not None]
    looked_at = dict.fromkeys(name for line in before for name in LOOKED_AT.findall(line))
    waiting = [name for name in looked_at if name not in {found["volume"] for found in earlier}]
    if not waiting:
        return ()
    first = earlier[0] if earlier else match
    ends: Sequence[str] = ("",)
    if first["operation"] == "crop":
        written = f"{float(first['margin'] or 0):g}"
        allowed = [f"{margin:g}" for margin in margins]
        ends = [f", {margin}" for margin in ([written] if earlier or written in allowed else allowed)]
    return tuple(f"save({first['operation']}({waiting[0]}, {first['region']}{end}))" for end in ends)
