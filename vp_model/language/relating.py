"""Programs about two structures, or two sides of one: which is seen from which, and that both sides are of one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vp_model.language.asked import SEGMENTED, SIDES, Asked, known_in, mentions_of, regions_of, segmented_in

PLACE = 'task("location")'
FROM = "from"
BETWEEN = frozenset({"the", "of", "both", "bilateral"})
"""Words, beside sides, between `from` and the structure that others are seen from."""
FIRST, SECOND = "first", "second"
TWO = 2


def seen_from(prompt: str, known: Collection[str]) -> str:
    """Of the two structures that a prompt names, the one that the other is seen from ("where is the pons, seen from the
    thalamus"); an empty text where it names others, or says so of both or of none.
    """
    mentions = mentions_of(prompt)
    places = known_in(mentions, known)
    if len(places) != TWO or len({name for _, name in places}) != TWO:
        return ""
    found = []
    for index, name in places:
        before = index - 1
        while before >= 0 and (mentions[before].words[0] in BETWEEN or mentions[before].name in SIDES):
            before -= 1
        if before >= 0 and mentions[before].words[-1] == FROM:
            found.append(name)
    return found[0] if len(found) == 1 else ""


def relation_mended(statement: str, before: Sequence[str], asked: Sequence[Asked], reference: str) -> str:
    """A line about the first or second structure, or the other side, as it must be; itself where it may be so.

    Args:
        asked: what the prompt asks for.
        reference: the structure that the other one is seen from, if the prompt says so.
    """
    segmented = segmented_in([statement])
    if not segmented:
        return statement
    name, region = segmented[0]
    earlier = dict(segmented_in(before))
    left, right = SIDES
    if name == right and earlier.get(left, "").startswith(f"{left} "):
        return _of(statement, name, f"{right} {earlier[left].removeprefix(f'{left} ')}")
    if not reference or not before or before[0] != PLACE or not name.startswith((FIRST, SECOND)):
        return statement
    is_reference = name.startswith(SECOND)
    meant = [item for item in asked if (item.name == reference) == is_reference]
    if not meant or any(region in regions_of(item) for item in meant):
        return statement
    regions = sorted(regions_of(meant[0]))
    if len(regions) == 1:
        return _of(statement, SECOND if is_reference else FIRST, regions[0])
    sided = next((choice for choice in regions if choice.startswith(f"{left} ")), regions[0])
    return _of(statement, f"{SECOND if is_reference else FIRST}_{left}", sided)


def _of(statement: str, name: str, region: str) -> str:
    return SEGMENTED.sub(f'{name} = segment("{region}"', statement)
