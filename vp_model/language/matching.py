"""Does a task, or a line of its program, match the prompt? Where a single structure lies is no question; a comparison
needs two, or two sides; the largest lesion, the last session and an axis are those that the prompt speaks of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from vp_model.language.asked import NEED_NO_PART, segmented_in
from vp_model.language.moments import YEAR
from vp_model.language.placing import lobe_fits, placed
from vp_model.language.prompted import LONGEST, VOLUME, Prompted
from vp_model.ontology import load_ontology

DIFFUSION = 'task("diffusion restriction")'
PLACE, COMPARISON = 'task("location")', 'task("volume comparison")'
SHARE, BRIGHT = (
    'task("relative volume analysis")',
    frozenset({"hyper", "hypo", "intensity", "brighter", "max", "min", "share"}),
)
"""A task, and the concepts that prompts have that ask it of one structure."""
DISTANCE, DIRECTION, WHERE = "distance", "direction", "where"
"""Concepts: how far one structure lies from another, and which way; and a word for the latter."""
SECOND = re.compile(r"^second\w* = segment\(")
"""The second structure of a program about two."""
RELATING = frozenset({"direction", "compare"})
"""Concepts of where one thing lies from another."""
RELATED = 3
"""Structures in a prompt about where one lies from another: the two, and where in the image to look."""
EXTENT = re.compile(r'(?P<call>\bextent\([^"]*, ")(?P<axis>[a-z-]+)(?="\))')
POSITION = frozenset(
    {
        "from",
        "to",
        "relation",
        "regard",
        "respect",
        "higher",
        "lower",
        "which",
        "position",
        "seen",
        "stand",
        "looking",
        "spatial",
        "placement",
        "reference",
        "situated",
        "lies",
        "lie",
        "side",
        "cranial",
        "w.r.t",
    }
)
"""Words, beside the concepts, with which prompts ask where one structure lies from another."""
SIDE_OF = tuple(
    (side, word) for side in ("left", "right", "rostral", "caudal", "front", "back", "top") for word in ("of", "or")
)
COMPARING = frozenset(
    {"compare", "ratio", "share", "grow", "largerthan", "smallerthan", "biggest", "smallest", "asymmetry"}
)
"""Concepts with which prompts compare structures."""
CHANGE, GREW = "change", {"grow", "visit"}
OF_SIDES = COMPARING - {"grow"} | {"both", "left", "right", "leftright", "other"}
"""Concepts of the sides of a structure."""
OF_SIDE = ("side", "hemispher", "uni", "each", "which", "same", "even", "alike", "parity", "one")
"""Beginnings of words that are so, too."""
MANY = 2
AS_WELL = "as well as"
COMPARED = frozenset(
    {
        "than",
        "or",
        "versus",
        "as",
        "same",
        "over",
        "which",
        "times",
        "into",
        "next",
        "/",
        "rank",
        "multiple",
        "make",
        "fill",
        "par",
        "stack",
        "winner",
        "differ",
    }
)
COMPARE = (
    "relat",
    "match",
    "contrast",
    "equal",
    "proportion",
    "similar",
    "identical",
    "divid",
    "exceed",
    "beside",
    "alongside",
    "outweigh",
)
"""Words, and beginnings of words, that do so, too."""
PART = re.compile(r"^\w+_all = segment\(")
MAXIMUM = "max"
"""Concept: "greatest", of lesions, of values or of diameters."""
SELECTING = frozenset(
    {
        "biggest",
        "smallest",
        "largerthan",
        "smallerthan",
        "periventricular",
        "juxtacortical",
        "deepwhite",
        "left",
        "right",
        "hyper",
        "hypo",
        "brighter",
        "intensity",
        MAXIMUM,
    }
)
"""Concepts that choose a part of a lesion load."""
SELECT = ("deep", "ventric", "cort")
"""Beginnings of words that do so, too."""
COUNT, SEGMENT, OPINION = "count", "segment", "type"
"""Concepts: of numbers, of masks, and of what images do not tell by measuring."""
PLAIN = frozenset({SEGMENT, "center", "longest", "crop", "box"})
"""Concepts with which anatomy is plainly asked for."""
SIZE, MEASURED = 'task("volume analysis")', frozenset({VOLUME, COUNT, "measure", "box", "extent"})
"""A task, and the concepts of which one asks for it where masks are asked for, too."""
OPINIONS = frozenset(
    {
        "why",
        "should",
        "explain",
        "cause",
        "causes",
        "because",
        "normal",
        "healthy",
        "too",
        "mean",
        "density",
        "into",
        "predict",
    }
)
"""Words with which prompts ask for opinions."""
HOW_TO = frozenset({"do", "does", "could", "can"})
"""Words after `how` with which they ask for advice."""
LARGEST = re.compile(r"\blargest\(")
BOUND = re.compile(r"\b(?P<call>larger_than|smaller_than)\(")
BOUNDS = ("largerthan", "smallerthan")
"""Concepts of lesions above and below a size."""
OTHER_BOUND = {"larger_than": "smallerthan", "smaller_than": "largerthan"}
"""Call that chooses lesions by size → the concept that speaks of the others."""
MOMENT = re.compile(r"^when = (?P<call>earliest|latest)\(")
TOLD_OF = {"earliest": "first", "latest": "last"}
ENDS = {"earliest": frozenset({"earlier", "begin", "began"}), "latest": frozenset({"end", "later", "lastly"})}
"""Words for the first and the last session that are no concepts."""


def task_fits(statement: str, prompted: Prompted) -> bool:
    """Whether what a prompt names is enough for a task, or for the second structure of a program."""
    if statement == DIFFUSION:
        restricts = any(word.startswith("restrict") for word in prompted.words)
        return restricts or "diffusion" in prompted.told or "DWI" in prompted.kinds
    kinds = {load_ontology().structures[item.name].kind for item in prompted.asked}
    if statement == SIZE and SEGMENT in prompted.told and "pathology" not in kinds:
        return not MEASURED.isdisjoint(prompted.measured)
    if statement == PLACE and len({item.name for item in prompted.asked}) > 1 and DISTANCE in prompted.told:
        return DIRECTION in prompted.told or WHERE in prompted.words
    if len(prompted.asked) != 1:
        return statement != COMPARISON or _compares(prompted)
    structure = load_ontology().structures[prompted.asked[0].name]
    if statement == PLACE:
        return structure.kind == "pathology"
    if statement == COMPARISON:
        years = {word[:4] for word in prompted.words if YEAR.match(word)}
        changed = CHANGE in prompted.told or prompted.told >= GREW
        changes = len(years) > 1 or (changed and not _of_sides(prompted))
        over_time = prompted.sessions and changes and prompted.told.isdisjoint(("asymmetry", "ratio"))
        return structure.paired and not over_time
    if statement == SHARE:
        return structure.kind == "pathology" or bool(prompted.told & BRIGHT)
    return SECOND.match(statement) is None


def line_fits(statement: str, before: Sequence[str], prompted: Prompted) -> bool:
    """Whether what a line chooses was spoken of: an axis, the largest of several, the first or the last session, and no
    more structures than a place relates.
    """
    extent = EXTENT.search(statement)
    if extent is not None and prompted.axis and extent["axis"] != prompted.axis:
        return False
    if LARGEST.search(statement) is not None and "biggest" not in prompted.measured:
        return MAXIMUM in prompted.told and LONGEST not in prompted.told
    bound = BOUND.search(statement)
    if bound is not None and {*BOUNDS} & prompted.told == {OTHER_BOUND[bound["call"]]}:
        return False
    if not lobe_fits(statement, prompted.lobes, prompted.told):
        return False
    names = [item.name for item in prompted.asked]
    if placed(statement, before, prompted.places, prompted.told, names, prompted.signalled):
        return False
    moment = MOMENT.match(statement)
    if moment is not None and TOLD_OF[moment["call"]] not in prompted.moments:
        return not ENDS[moment["call"]].isdisjoint(prompted.words)
    segmented = segmented_in([statement])
    if segmented and before and before[0] == PLACE and segmented[0][1] in NEED_NO_PART:
        return not _brain_beside(prompted)
    selecting = prompted.measured - ({MAXIMUM} if LONGEST in prompted.told else set())
    if PART.match(statement) is not None and SELECTING.isdisjoint(selecting) and not prompted.lobes:
        return any(word.startswith(SELECT) or word[0].isdigit() for word in prompted.words)
    return statement != PLACE or (len(prompted.asked) <= RELATED and _related(prompted))


def measurable(prompted: Prompted) -> bool:
    """Whether a prompt that names nothing unknown plainly asks for structures or their sizes, or how many lesions there
    are; lesions within a structure cannot be told from others, and opinions are not measured.
    """
    kinds = {load_ontology().structures[item.name].kind for item in prompted.asked if item.name not in NEED_NO_PART}
    asks_how = any(pair[0] == "how" and pair[1] in HOW_TO for pair in pairwise(prompted.words))
    if asks_how or OPINION in prompted.told or not OPINIONS.isdisjoint(prompted.words) or len(kinds) != 1:
        return False
    if kinds == {"pathology"}:
        return COUNT in prompted.told
    return prompted.sized or not PLAIN.isdisjoint(prompted.told)


def _compares(prompted: Prompted) -> bool:
    """Whether a prompt about several structures may want them compared: it says so, or does not merely list them."""
    others = [item for item in prompted.asked if item.name not in NEED_NO_PART]
    if not prompted.listed:
        return True
    words = " ".join(prompted.words).replace(AS_WELL, "").split()
    if len(others) < MANY or not COMPARING.isdisjoint(prompted.told) or not COMPARED.isdisjoint(words):
        return True
    return any(word.startswith(COMPARE) for word in words)


def _of_sides(prompted: Prompted) -> bool:
    """Whether a prompt may be about the sides of a structure."""
    return not OF_SIDES.isdisjoint(prompted.told) or any(word.startswith(OF_SIDE) for word in prompted.words)


def _related(prompted: Prompted) -> bool:
    """Whether a prompt about several anatomical structures speaks of how they lie to each other."""
    kinds = [load_ontology().structures[item.name].kind for item in prompted.asked if item.name not in NEED_NO_PART]
    if len(kinds) < 2 or "pathology" in kinds:
        return True
    beside = any(pair in SIDE_OF for pair in pairwise(prompted.words))
    return beside or not (RELATING.isdisjoint(prompted.told) and POSITION.isdisjoint(prompted.words))


def _brain_beside(prompted: Prompted) -> bool:
    """Whether the brain only says where the other structures of a prompt are: lesions, or two that are related."""
    others = [item for item in prompted.asked if item.name not in NEED_NO_PART]
    lesions = all(load_ontology().structures[item.name].kind == "pathology" for item in others)
    return len(others) > 1 or (len(others) == 1 and lesions and RELATING.isdisjoint(prompted.told))
