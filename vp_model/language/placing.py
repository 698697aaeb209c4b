"""The lobes and other places that a prompt names to say which lesions it means: `lesions in the left frontal lobe`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from vp_model.language.reading import Mention
from vp_model.ontology import load_ontology
from vp_model.ontology.places import load_places

IN_LOBE = re.compile(r'(?P<call>\bin_lobe\(\w+, ")(?P<side>left |right )?(?P<lobe>[a-z ]+)(?="\))')
SIDES = ("left", "right")
WITHIN = frozenset({"in", "within", "inside", "involving", "affecting", "of"})
"""Words before a place that something lies in."""
JOINING = frozenset({"and", "or", "plus", "vs", "versus", "to", "than", "from", "with", "by", "against"})
MOST_BETWEEN = 4
"""Words between lesions and the word before their place: `lesions are there in`, `lesions that are located within`."""
PART = re.compile(r'^(?P<name>\w+)_all = segment\("(?P<region>[^"]+)"')
WHOLE = re.compile(r'^(?P<name>roi(?:_\d+)?) = segment\("(?P<region>[^"]+)"(?P<volumes>.*)$')
ANY = re.compile(r'^roi\w* = segment\("[^"]+"(?P<volumes>.*)$')
SAID = 'task("location")'
MEASURED = frozenset({'task("segmentation")', 'task("volume analysis")'})
"""Tasks on lesions of a signal."""
SIGNALS = ("hyper", "hypo", "bright", "dark", "iso")
"""Beginnings of words for it."""
NOT_OF_SIGNAL = frozenset({"share", "change", "compare", "brighter", "biggest", "periventricular", "juxtacortical"})
"""Concepts of other questions, and of other parts."""
BETWEEN = frozenset({"the", "a", "left", "right", "l", "r", "both", "or", "either"})
"""Words between them and a place, or between places."""


def lobes_named(mentions: Sequence[Mention]) -> tuple[str, ...]:
    """Places of `in_lobe`, without sides, by their names or by words that are said of what lies there (`frontal`)."""
    return tuple(dict.fromkeys(place for _, place in _places(mentions)))


def lobes_of_lesions(prompt: str, mentions: Sequence[Mention]) -> tuple[str, ...]:
    """Of the places that a prompt names those that say where its lesions lie: `lesions in the frontal lobe`, `or
    parietal lobe`, `frontal lobe lesions`.
    """
    found: list[str] = []
    for index, place in _places(mentions):
        after = mentions[index + 1] if index + 1 < len(mentions) else None
        told_of = after is not None and _is_disease(after) and _beside(prompt, mentions[index], after)
        if told_of or holds_lesions(mentions, index, found):
            found.append(place)
    return tuple(dict.fromkeys(found))


def holds_lesions(mentions: Sequence[Mention], index: int, others: Collection[str] = ()) -> bool:
    """Whether a prompt names lesions within what it mentions: `in` and the like, shortly after them, tell of them; `of`
    where it stands beside them.

    Args:
        others: structures that hold them, too, and may stand before it: `in the frontal or parietal lobe`.
    """
    within = index - 1
    while within >= 0 and (mentions[within].words[0] in BETWEEN or mentions[within].name in others):
        within -= 1
    if within < 0 or len(mentions[within].words) > 1 or mentions[within].words[0] not in WITHIN:
        return False  # "in front of" is one mention
    most = 1 if mentions[within].words[0] == "of" else MOST_BETWEEN + 1
    for mention in reversed(mentions[max(0, within - most) : within]):
        if _is_disease(mention):
            return True
        if mention.sort == "structure" or mention.words[0] in JOINING:
            return False
    return False


def signal_of_lesions(mentions: Sequence[Mention]) -> bool:
    """Whether lesions are meant by their signal: `dark lesions`."""
    return any(
        _is_disease(lesion) and word.sort == "concept" and word.words[0].startswith(SIGNALS)
        for word, lesion in pairwise(mentions)
    )


def _beside(prompt: str, first: Mention, second: Mention) -> bool:
    """Whether nothing stands between two mentions: no comma, no sign of a list."""
    return re.search(rf"\b{re.escape(first.words[-1])}\s+{re.escape(second.words[0])}", prompt.lower()) is not None


def placed(
    statement: str,
    before: Sequence[str],
    lobes: Sequence[str],
    told: frozenset[str],
    asked: Sequence[str],
    signal: bool = False,
) -> list[str]:
    """What a line must be where lesions are meant by their place or signal and it takes all of them, or the place: they
    are segmented to choose from, and chosen from. Nothing where the line is right.

    Args:
        lobes: places of the lesions (`lobes_of_lesions`); told: concepts of the prompt.
        asked: structures that the prompt asks for, without these places.
        signal: `signal_of_lesions`.
    """
    chosen_by_signal = signal and bool(before) and before[0] in MEASURED and told.isdisjoint(NOT_OF_SIGNAL)
    if not (lobes or chosen_by_signal) or SAID in before:
        return []
    begins, whole = ANY.match(statement), WHOLE.match(statement)
    if len(asked) == 1 and begins is not None and not any(ANY.match(line.strip()) for line in before):
        right = f'roi_all = segment("{asked[0]}"{begins["volumes"]}'
        return [] if right == statement or not _names_disease(asked[0]) else [right]
    if not lobes:
        return []
    if whole is not None and _names_disease(whole["region"]):
        return [f'{whole["name"]}_all = segment("{whole["region"]}"{whole["volumes"]}']
    last = PART.match(before[-1].strip()) if before else None
    if last is None or not _names_disease(last["region"]) or IN_LOBE.search(statement) is not None:
        return []
    return lobes_mended(f'{last["name"]} = in_lobe({last["name"]}_all, "{lobes[0]}")', lobes, told)


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
    return mention.sort == "structure" and _names_disease(mention.name)


def _names_disease(region: str) -> bool:
    structure = load_ontology().structures.get(region)
    return structure is not None and structure.kind == "pathology"
