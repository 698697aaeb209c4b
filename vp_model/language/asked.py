"""The structures that a prompt names, on which sides, and how a program that is about them names its regions."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from vp_model.language.grounding import HOLDS_LESIONS
from vp_model.language.reading import HEMISPHERE, Mention, read_all
from vp_model.ontology import load_ontology

SIDES, BOTH = ("left", "right"), "both"
BESIDE = frozenset({"side", "sides", "sided", "hand", "handed", "hemispheric"})
"""Words between a side and what it is the side of: `left-sided caudate`."""
OF = frozenset({"of", "on", "in", "within", "at", "from"})
"""Words that join a structure and its side: `caudate on the left`."""
HISTORY = frozenset(
    {
        "sclerosis",
        "signs",
        "ataxia",
        "syndrome",
        "epilepsy",
        "palsy",
        "bleed",
        "seizure",
        "seizures",
        "dementia",
        "blindness",
        "dysplasia",
    }
)
"""Words that make a structure's name the beginning of a disease's, which prompts tell of a patient."""
BODY = frozenset(
    {
        "weakness",
        "numbness",
        "hemiparesis",
        "hemiplegia",
        "hemianopia",
        "paresis",
        "droop",
        "arm",
        "leg",
        "hand",
        "handed",
        "facial",
        "face",
        "foot",
        "visual",
        "tremor",
        "neglect",
        "pain",
        "limb",
        "extremity",
    }
)
"""Words after a side that tell of a patient's body: `right-sided weakness`, `left arm`."""
SEVERAL_OF_STUDY = frozenset(
    {"images", "volumes", "sequences", "series", "timepoints", "points", "acquisitions", "mris"}
)
"""Words that `both` may count, beside those for sessions."""
NEED_NO_PART = frozenset({"brain"})
"""What prompts also name to say where (`in the brain`), or as a part of another name (`brain images`)."""
HOLDING = frozenset({"of", "in", "on", "within", "inside", "into", "from", "with", "this", "to"})
"""Words before what a prompt names to say where."""
WHOLE = frozenset({"the", "whole", "entire"})
JOINS = frozenset(
    {"and", "or", "plus", "the", "left", "right", "both", "bilateral", "side", "sided", "of", "on", "l", "r"}
)
"""Words between the names of a list, sides among them."""
AS_WELL_AS = frozenset({"as", "well", "with", "then", "also"})
"""Others that join."""
MOST_DROPPED = 5
SAID_TWICE = re.compile(r"\b(left|right)\s*\(\s*(?:left|right|l|r)\s*\)", re.IGNORECASE)
IN_BRACKETS = re.compile(r"\(\s*(left|right|l|r|lt|rt)\s*\)", re.IGNORECASE)
SEGMENTED = re.compile(r'^(?P<name>\w+) = segment\("(?P<region>[^"]+)"')
PLACES = "lobe_of(", "territory_of(", "in_lobe("
NUMBERED_NAME = re.compile(r"^roi_(?P<number>\d+)(?:_|$)")

Reading = tuple["Asked", ...]
"""What a prompt asks for, in its order."""


@dataclass(frozen=True)
class Asked:
    """A known structure that a prompt names, and the sides on which it can be meant.

    Attributes:
        clear: the sides are those that the prompt says, or both where it says none; else it may mean one of them.
        meant: it is named by more than a word that prompts also have for other reasons ("the whole brain").
    """

    name: str
    sides: frozenset[str]
    clear: bool = True
    meant: bool = False


def asked_structures(prompt: str, known: Collection[str]) -> tuple[Asked, ...]:
    """The known structures that a prompt names, in order.

    A side that tells of the patient ("left arm weakness") is none of a structure, nor are "both scans".

    A structure beside which the prompt says one side is meant on that side; where any side cannot be told to belong
    to one structure, all are meant on both.
    """
    mentions = mentions_of(prompt)
    found = known_in(mentions, known)
    structures = {index for index, _ in found}
    owners: dict[int, int | None] = {}
    for index, mention in enumerate(mentions):
        if mention.sort != "concept" or mention.name not in (*SIDES, BOTH) or _remaining(index, mentions, structures):
            continue
        if not _of_other(mentions, index, structures):
            owners[index] = _owner(index, mentions, structures, owners.values())
    clear = all(owner is not None for place, owner in owners.items() if mentions[place].name != BOTH)
    asked = []
    for index, name in found:
        told = {mentions[place].name for place, owner in owners.items() if owner == index} if clear else set()
        sides = frozenset(SIDES if BOTH in told else told or SIDES)
        # "The right putamen and caudate" may mean the right caudate.
        beside = _beside_in_list(index, mentions, structures)
        meant = (name in NEED_NO_PART and (len(mentions[index].words) > 1 or beside > 0)) or beside == len(SIDES)
        asked.append(Asked(name, sides, clear and bool(told or not owners), meant))
    return tuple(asked)


def in_one_list(prompt: str, known: Collection[str]) -> bool:
    """Whether nothing but words that join stands between the known structures that a prompt names."""
    mentions = mentions_of(prompt)
    places = [index for index, _ in known_in(mentions, known)]
    between = (mention for one, two in pairwise(places) for mention in mentions[one + 1 : two])
    return all({*mention.words} <= JOINS | AS_WELL_AS for mention in between)


def mentions_of(prompt: str) -> tuple[Mention, ...]:
    """Everything in a prompt, in order; a side in brackets is that of what stands before it."""
    return read_all(IN_BRACKETS.sub(r" on the \1 side ", SAID_TWICE.sub(r"\1", prompt)))


def known_in(mentions: Sequence[Mention], known: Collection[str]) -> list[tuple[int, str]]:
    """Places and names of the known structures."""
    found: list[tuple[int, str]] = []
    for index, mention in enumerate(mentions):
        following = mentions[index + 1].words[0] if index + 1 < len(mentions) else ""
        if mention.sort == "structure" and not _hemisphere(mention, known) and following not in HISTORY:
            name = load_ontology().meant(mention.name, " ".join(mention.words), known)
            if name is not None:
                found.append((index, name))
    return found


def _remaining(index: int, mentions: Sequence[Mention], structures: Collection[int]) -> bool:
    """Whether `left` is what is left: "nothing but the right thalamus left"."""
    if mentions[index].name != SIDES[0] or index - 1 not in structures or index + 1 in structures:
        return False
    return index > 1 and mentions[index - 2].sort == "concept" and mentions[index - 2].name == SIDES[1]


def _of_other(mentions: Sequence[Mention], index: int, structures: Collection[int]) -> bool:
    """Whether a side is one of the patient's body, or `both` counts sessions or images."""
    following = [mention for mention in mentions[index + 1 : index + 4] if mention.words[0] not in BESIDE]
    if not following:
        return False
    if mentions[index].name == BOTH:
        return following[0].name == "visit" or following[0].words[0] in SEVERAL_OF_STUDY
    before = [mention.words[0] for mention in mentions[max(0, index - 3) : index]]
    if before[1:] == ["on", "the"] and index - 3 in structures:
        return False  # "the caudate on the left (visual loss)"
    return following[0].words[0] in BODY or (before[1:] in (["on", "the"], ["in", "the"]) and before[0] in BODY)


def _beside_in_list(place: int, mentions: Sequence[Mention], structures: Collection[int]) -> int:
    """On how many sides of a structure others stand in a list with it: between them are but sides and words that join,
    and before it no word that says where.
    """
    start = place - 1
    while start >= 0 and mentions[start].words[0] in WHOLE:
        start -= 1
    if start >= 0 and mentions[start].words[0] in HOLDING:
        return 0
    found = 0
    for step in (-1, 1):
        other = place + step
        while 0 <= other < len(mentions) and mentions[other].words[0] in JOINS:
            other += step
        found += other in structures
    return found


def _hemisphere(mention: Mention, known: Collection[str]) -> bool:
    return mention.words[-1] in HEMISPHERE and mention.name not in known


def _owner(
    place: int, mentions: Sequence[Mention], structures: Collection[int], sided: Collection[int | None]
) -> int | None:
    """Index of the structure that a side belongs to; None where it cannot be told.

    Args:
        sided: structures that sides before this one belong to.
    """
    after = place + 1
    while after < len(mentions) and _beside(mentions[after], mentions[place].name):
        after += 1
    before = place - 1
    joined = False
    while before >= 0 and (
        _beside(mentions[before], mentions[place].name) or mentions[before].words[0] in (*OF, "the")
    ):
        joined = joined or mentions[before].words[0] in OF
        before -= 1
    follows, precedes = after in structures, before in structures
    if follows and (not precedes or before in sided):
        return after
    if precedes and (joined or not follows):
        return before
    return None


def _beside(mention: Mention, side: str) -> bool:
    """Whether words may stand between a side and its structure: they say the same side again, or that it is one."""
    return (
        mention.words[0] in BESIDE
        or (mention.sort == "concept" and mention.name == side)
        or mention.words[-1] in HEMISPHERE
    )


def readings_of(asked: Reading) -> tuple[Reading, ...]:
    """What of the structures that a prompt names may be what it asks for: all, or all but some of those that are also
    named for another reason: the brain, diseases ("known glioma"), and the white matter that lesions lie in.
    """
    structures = load_ontology().structures
    diseases = {item.name for item in asked if structures[item.name].kind == "pathology"}
    other = {*NEED_NO_PART, *diseases, *([HOLDS_LESIONS] if diseases else [])}
    extra = [index for index, item in enumerate(asked) if item.name in other and not item.meant][:MOST_DROPPED]
    found: list[Reading] = []
    for count in range(len(extra) + 1):
        for dropped in combinations(extra, count):
            if len(dropped) < len(asked) or not asked:
                found.append(tuple(item for index, item in enumerate(asked) if index not in dropped))
    return tuple(found)


def wholly(asked: Asked, regions: Collection[str]) -> bool:
    """Whether all of a structure is among regions: both sides where both are meant, every part of an assembled one."""
    if not asked.clear:
        return bool(regions_of(asked) & {*regions})
    paired = load_ontology().structures[asked.name].paired
    own = {f"{side} {asked.name}" for side in asked.sides} if paired else {asked.name}
    parts = regions_of(asked) - own
    return own <= {*regions} or (bool(parts) and parts <= {*regions})


def segmented_in(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Name and region of each line that segments."""
    found = (SEGMENTED.match(line.strip()) for line in lines)
    return [(match["name"], match["region"]) for match in found if match is not None]


def says_where(lines: Sequence[str]) -> bool:
    """Whether a program tells in which lobe or territory something lies, or chooses what lies in one."""
    return any(call in line for line in lines for call in PLACES)


def fits(reading: Reading, segmented: Sequence[tuple[str, str]]) -> bool:
    """Whether what a program segments under numbered names is what the reading asks for, in its order."""
    for name, region in segmented:
        numbered = NUMBERED_NAME.match(name)
        if numbered is None:
            continue
        number = int(numbered["number"]) if len(reading) > 1 else 1  # parts of a single structure are numbered, too
        if number > len(reading) or region not in regions_of(reading[number - 1]):
            return False
    return True


def regions_of(asked: Asked) -> frozenset[str]:
    """Regions that may be segmented for a structure: itself and, where it is assembled, its parts."""
    ontology = load_ontology()
    structure = ontology.structures[asked.name]
    found: set[str] = set()
    for part in (asked.name, *structure.parts):
        if ontology.structures[part].paired:
            found.update(f"{side} {part}" for side in (asked.sides if structure.paired else SIDES))
        else:
            found.add(part)
    return frozenset(found)
