"""What a prompt says of its task: what it names, and in which words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vp_model.language.asked import Reading, in_one_list
from vp_model.language.moments import PRESENT
from vp_model.language.placing import lobes_named, signal_of_lesions
from vp_model.language.reading import Mention, words_of

VOLUME, LONGEST = "volume", "longest"
"""Concepts: of sizes, and of the longest diameter."""
IMAGES = ("volumes",)
"""A word that is also said of images."""
PER = "/"
AXES = {"frontback": "anterior-posterior", "topdown": "superior-inferior"}
"""Concepts of a direction of the body, and how programs name it."""
NO_AXIS = "leftright"
"""A concept that also tells both sides of a structure."""
LENGTHS = ("length", "long", "longer", "deep", "elongat")
"""Beginnings of words for an axis that are said of any."""
OWNED = frozenset({"my", "our", "the", "a", "this", "her", "his"})
"""Words before a report that is written."""
LOOKED_AT = frozenset((word, "the") for word in ("in", "on", "from"))
"""Words before the volume that is looked at, where nothing is said of which it is the volume."""
DIAMETERS = frozenset({"inplane", LONGEST, "extent", "short", "crosssection"})
"""Concepts of what is largest of a structure, not of several."""
DIAMETER = frozenset({"axis", "diameter", "dimension", "length", "distance"})
"""Words for it."""


@dataclass(frozen=True)
class Prompted:
    """What a prompt says of its task.

    Attributes:
        asked: structures that it names, in order.
        told: its concepts.
        kinds: sequence types that it names.
        words: all of it.
        sessions: the study has several.
        sized: it asks for a volume, and does not only call images so.
        moments: concepts of the first and the last session.
        listed: nothing but words that join stands between the structures that it names.
        measured: `told`, without what only sounds so: a report that is written, the volume that is looked at, the
            largest diameter.
        lobes: places of lesions that it may name (`placing.lobes_named`); places: that it surely does;
            signalled: it means lesions by their signal.
        axis: the one direction of the body that it names, as programs write it; empty where it names none, or several.
    """

    asked: Reading
    told: frozenset[str]
    kinds: tuple[str, ...]
    words: tuple[str, ...]
    sessions: bool
    sized: bool = False
    moments: frozenset[str] = frozenset()
    axis: str = ""
    listed: bool = True
    measured: frozenset[str] = frozenset()
    lobes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    signalled: bool = False


def prompted_by(
    prompt: str,
    known: Collection[str],
    mentions: Sequence[Mention],
    asked: Reading,
    kinds: tuple[str, ...],
    sessions: bool,
    places: Sequence[str] = (),
) -> Prompted:
    """
    Args:
        known: names of the structures that can be asked for, without sides.
        mentions: everything in the prompt.
        asked: structures that it names.
        kinds: sequence types that it names.
        sessions: the study has several.
        places: of its lesions (`placing.lobes_of_lesions`).
    """
    concepts = [item for item in mentions if item.sort == "concept"]
    return Prompted(
        asked,
        frozenset(item.name for item in concepts),
        kinds,
        (*words_of(prompt), *([PER] if PER in prompt else [])),
        sessions,
        any(item.name == VOLUME and item.words != IMAGES for item in concepts),
        frozenset(item.name for item in concepts if item.words != (PRESENT,)),
        axis_of(mentions),
        in_one_list(prompt, known),
        measured_in(mentions),
        lobes_named(mentions),
        tuple(places),
        signal_of_lesions(mentions),
    )


def measured_in(mentions: Sequence[Mention]) -> frozenset[str]:
    """Concepts of a prompt, without those of words that only sound so where they stand."""
    found = set()
    for index, item in enumerate(mentions):
        before = tuple(mention.words[0] for mention in mentions[max(0, index - 2) : index])
        after = mentions[index + 1] if index + 1 < len(mentions) else None
        written = item.words == ("report",) and before[-1:] and before[-1] in OWNED
        looked_at = item.words == (VOLUME,) and before in LOOKED_AT and (after is None or after.words[0] != "of")
        of_diameter = after is not None and (after.name in DIAMETERS or after.words[0] in DIAMETER)
        diameter = item.name == "biggest" and of_diameter
        if item.sort == "concept" and not (written or looked_at or diameter):
            found.add(item.name)
    return frozenset(found)


def axis_of(mentions: Sequence[Mention]) -> str:
    """The direction of the body that a prompt names alone, as programs write it, or an empty text.

    "Length" is said of any direction, and counts where no other is named; sides are no direction.
    """
    told = [item for item in mentions if item.sort == "concept" and item.name in (*AXES, NO_AXIS)]
    clear = [item for item in told if not item.words[0].startswith(LENGTHS)]
    names = {item.name for item in clear}
    return AXES[names.pop()] if len(names) == 1 and NO_AXIS not in names else ""
