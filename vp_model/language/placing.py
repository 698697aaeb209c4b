"""The lobes and other places that a prompt names to say which lesions it means: `lesions in the left frontal lobe`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vp_model.language.reading import Mention
from vp_model.ontology import load_ontology
from vp_model.ontology.places import load_places

IN_LOBE = re.compile(r'(?P<call>\bin_lobe\(\w+, ")(?P<side>left |right )?(?P<lobe>[a-z ]+)(?="\))')
SIDES = ("left", "right")
WITHIN = frozenset({"in", "within", "inside", "into", "of", "involving", "affecting"})
"""Words before a place that something lies in."""
BETWEEN = frozenset({"the", "a", "left", "right", "l", "r", "both", "or", "either"})
"""Words between them and a place, or between places."""
LESION_WORDS = 2
"""Words between a place and the lesions that it is said of: `frontal lobe (white matter) lesions`."""


def lobes_named(mentions: Sequence[Mention]) -> tuple[str, ...]:
    """Places of `in_lobe`, without sides, by their names or by words that are said of what lies there (`frontal`)."""
    return tuple(dict.fromkeys(place for _, place in _places(mentions)))


def lobes_of_lesions(mentions: Sequence[Mention]) -> frozenset[str]:
    """Of the structures that a prompt names those that say where its lesions lie: `in the frontal lobe`, `or parietal
    lobe`, `frontal lobe lesions`. Empty where it names no lesions.
    """
    diseases = [index for index, mention in enumerate(mentions) if _is_disease(mention)]
    if not diseases:
        return frozenset()
    found = set()
    for index, place in _places(mentions):
        before = index - 1
        while before >= 0 and (mentions[before].words[0] in BETWEEN or mentions[before].name in found):
            before -= 1
        within = before >= 0 and mentions[before].words[0] in WITHIN
        told_of = any(0 < disease - index <= LESION_WORDS for disease in diseases)
        if (within and any(disease < index for disease in diseases)) or told_of:
            found.add(place)
    return frozenset(found)


def lobe_before_lesions(mentions: Sequence[Mention]) -> str:
    """The place of lesions that are told by a word alone: `frontal` of `left frontal white matter lesions`; or `""`."""
    spoken = load_places()["lobe"].spoken
    for index, place in _places(mentions):
        if mentions[index].words[0] in spoken and any(_is_disease(item) for item in mentions[index + 1 : index + 2]):
            return place
    return ""


def lobe_fits(statement: str, lobes: Sequence[str], told: frozenset[str]) -> bool:
    """Whether a line selects by a place that the prompt names, on the side that it says.

    Args:
        lobes: that the prompt names (`lobes_named`); told: its concepts.
    """
    call = IN_LOBE.search(statement)
    return call is None or statement in lobes_mended(statement, lobes, told)


def lobes_mended(statement: str, lobes: Sequence[str], told: frozenset[str]) -> list[str]:
    """A line that selects by a place, for each that the prompt may mean."""
    if IN_LOBE.search(statement) is None:
        return []
    sides = [side for side in SIDES if side in told]
    sided = sides if len(sides) == 1 else ["", *sides]
    paired = {place for place in lobes if _has_sides(place)}
    texts = [f"{side} {place}".strip() for place in lobes for side in (sided if place in paired else [""])]
    return [IN_LOBE.sub(lambda call, text=text: call["call"] + text, statement) for text in texts]  # type: ignore[misc]


def _places(mentions: Sequence[Mention]) -> Iterator[tuple[int, str]]:
    """Index and place of each mention of one."""
    table = load_places()["lobe"]
    places = {*table.of.values(), *table.together}
    for index, mention in enumerate(mentions):
        place = mention.name if mention.sort == "structure" else table.spoken.get(mention.words[0], "")
        if place in places:
            yield index, place


def _has_sides(place: str) -> bool:
    table, structures = load_places()["lobe"], load_ontology().structures
    regions = [region for region, where in table.of.items() if where == place]
    return bool(regions) and all(structures[region].paired for region in regions)


def _is_disease(mention: Mention) -> bool:
    return mention.sort == "structure" and load_ontology().structures[mention.name].kind == "pathology"
