"""The highest or the lowest intensity of a region: what a program that a prompt asks for it reports, and from where."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

INTENSITY_ANALYSIS = 'task("intensity analysis")'
EXTREMES = {"max": "maximum", "min": "minimum"}
"""Concepts of a prompt, which are also how functions begin, and what the value is called in a report."""
GREATEST, INTENSITY = "biggest", "intensity"
OTHER_MEASURES = frozenset({"mean", "median", "percentile", "spread", "brighter"})
"""Concepts beside which "highest" and "lowest" may mean another thing."""
REPORTED = re.compile(r'^report\("[^"]*", (?P<statistic>mean|sd|max|min)_intensity\((?P<rest>.*)\)\)$')
LOOKED_AT = re.compile(r'(?P<call>\bsegment\("[^"]+", )(?P<volumes>[^)]*)(?=\))')


def extreme_of(told: Collection[str], lesions: bool) -> str:
    """`max` or `min`, where concepts of a prompt ask for that alone; else an empty text.

    Args:
        lesions: the prompt names some, of which "the greatest" may be one.
    """
    found = {name for name in EXTREMES if name in told}
    if GREATEST in told and INTENSITY in told and not lesions:
        found.add("max")
    return found.pop() if len(found) == 1 and OTHER_MEASURES.isdisjoint(told) else ""


def fits_extreme(statement: str, before: Sequence[str], extreme: str, last: Sequence[str]) -> bool:
    """Whether a line of a program that analyses intensities reports the extreme that is asked for, and looks at the
    last session alone.

    Args:
        extreme: `max`, `min`, or an empty text, which any line fits.
        last: volumes of the last session.
    """
    if not extreme or not before or before[0] != INTENSITY_ANALYSIS:
        return True
    reported, looked_at = REPORTED.match(statement), LOOKED_AT.search(statement)
    if looked_at is not None:
        return set(re.findall(r"\w+(?=<MOD>)", looked_at["volumes"])) <= {*last}
    return reported is None or reported["statistic"] == extreme


def made_extreme(statement: str, before: Sequence[str], extreme: str, last: Sequence[str]) -> tuple[str, ...]:
    """A line that does not fit put right; nothing where the extreme is reported already."""
    if fits_extreme(statement, before, extreme, last):
        return ()
    volumes = ", ".join(f"{name}<MOD>" for name in last)
    found = LOOKED_AT.sub(rf"\g<call>{volumes}", statement)
    if (reported := REPORTED.match(found)) is not None:
        found = f'report("{EXTREMES[extreme]} intensity", {extreme}_intensity({reported["rest"]}))'
    return () if found in before else (found,)
