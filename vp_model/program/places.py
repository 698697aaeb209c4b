"""Operations on where in the brain a region lies, by what m finds of the anatomy around it: in words, or the part in a
lobe.

They look for lobes and gyri by themselves: a program that named each of them would have as many lines as a brain has
regions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.region import Region, crop_region
from vp_model.ontology import load_ontology
from vp_model.ontology.places import WHITE_MATTER, Aspect, load_places
from vp_model.program.errors import ProgramError
from vp_model.program.measures import missing_reason, whole_region
from vp_model.program.regions import single_visit
from vp_model.program.state import State
from vp_model.program.values import Part, Roi

ON = ("T1", "T1+C", "T2", "FLAIR", "PD", "CT")
"""Sequence types on which anatomy is told, best first."""
MAXIMUM_POINTS = 20_000
"""Voxels of a region that are asked where they lie; of larger ones an even choice."""
SIDED = 0.8
"""Share of a region that lies on one side from which it is said to lie there."""
MOSTLY = 0.5
"""Share of a region that the places named for it hold together."""
TERRITORY = " territory"
BYTES = 64
"""For a voxel of a grid, or a point, while places are looked for."""
UNKNOWN = "the anatomy around it was not found"
SCHEMATIC = "Arterial territories follow a schematic map of gyri and nuclei: their borders vary between people."


def lobe_of(state: State, roi: Roi) -> str:
    return _place_of(state, roi, "lobe", sided=True)


def territory_of(state: State, roi: Roi) -> str:
    state.findings.warnings.append(SCHEMATIC)
    return _place_of(state, roi, "territory", sided=False, noun=TERRITORY)


@cache
def lobes() -> tuple[str, ...]:
    """What `in_lobe` takes: places of the lobe table, with a side where they have two, and what they make up."""
    places = load_places()["lobe"]
    known = load_ontology().structures
    paired = dict.fromkeys(places.of.values(), True)
    for region, place in places.of.items():
        paired[place] = paired[place] and known[region].paired
    paired |= dict.fromkeys(places.together, False)
    return tuple(f"{side}{place}" for place in paired for side in ("", *(("left ", "right ") if paired[place] else ())))


def all_places() -> frozenset[str]:
    """Structures that `lobe_of` and `territory_of` may answer, without sides."""
    table = load_places()
    return frozenset({*table["lobe"].of.values(), *(f"{place}{TERRITORY}" for place in table["territory"].of.values())})


def in_lobe(state: State, roi: Roi, lobe: str) -> Roi:
    """The voxels that lie in a lobe, as `lobe_of` tells them apart, in every session.

    Raises:
        ProgramError: the anatomy that tells was not found.
    """
    side, name = _side_and_name(lobe)
    places = load_places()["lobe"]
    meant = places.together.get(name, (name,))
    parts = []
    for part in roi.parts:
        if part.region.empty:
            parts.append(part)
            continue
        told = _places_of(state, (part,), part.region, part.region.points(), "lobe")
        if told is None:
            raise ProgramError(f"What of {roi.label()} lies in the {lobe} cannot be told: {UNKNOWN}.")
        inside = [place in meant and side in ("", _side_and_name(near)[0]) for place, near in told]
        parts.append(replace(part, region=_chosen(part.region, np.array(inside))))
    telling = {region for region, place in places.of.items() if place in meant}
    experimental = any(region in telling and side in ("", own, "both") for region, own in state.experimental)
    suffix = f"{roi.suffix} in the {lobe}"
    return replace(roi, parts=tuple(parts), suffix=suffix, experimental=roi.experimental or experimental)


def _chosen(region: Region, inside: NDArray[np.bool_]) -> Region:
    """Of the voxels of a region, in order, those that are wanted."""
    voxels = np.zeros_like(region.voxels)
    voxels[tuple(region.indices()[inside].T)] = True
    return crop_region(region.grid, region.start, voxels)


def _place_of(state: State, roi: Roi, aspect: Aspect, sided: bool, noun: str = "") -> str:
    """The place that holds most of a region, or the first few that do together."""
    single_visit(roi)
    region = whole_region(state, roi)
    if region.empty:
        return missing_reason(roi)
    points = region.points()
    points = points[:: -(-len(points) // MAXIMUM_POINTS)]
    told = _places_of(state, roi.parts, region, points, aspect)
    if told is None:
        return UNKNOWN
    found = Counter(place for place, _ in told)
    side = _side_of([nearest for _, nearest in told]) if sided else ""
    named: list[str] = []
    held = 0
    for place, count in found.most_common():
        if held >= MOSTLY * len(points):
            break
        named.append(f"{side}{place}{noun}")
        held += count
    return " and ".join(named)


def _places_of(
    state: State, parts: Sequence[Part], region: Region, points: NDArray[np.float64], aspect: Aspect
) -> list[tuple[str, str]] | None:
    """Of each point (n, 3) in RAS mm, its place and the structure nearest to it; None where no anatomy was found.

    Args:
        parts: of one session, which `region` is of.
    """
    places = load_places()[aspect]
    cortex, others = _sided(list(places.cortex)), _sided([WHITE_MATTER, *places.structures])
    volume = _anatomical(state, parts)
    state.reserve(BYTES * (state.images[volume].voxels.size + len(points)), kept=region.voxels.size)
    landmarks = state.vision.landmarks(volume, [*cortex, *others])
    nearest = landmarks.nearest(points, [*cortex, *others])
    in_cortex = landmarks.nearest(points, cortex)
    if not nearest or not in_cortex:
        return None
    return [
        (places.of[_unsided(by_cortex if _unsided(near) == WHITE_MATTER else near)], near)
        for near, by_cortex in zip(nearest, in_cortex, strict=True)
    ]


def _anatomical(state: State, parts: Sequence[Part]) -> str:
    """Of the volumes that a region was found on, the one that shows anatomy best."""
    names = [name for part in parts for name in part.volumes]
    kinds = [state.volumes[name].kind.upper() for name in names]
    ranked = [ON.index(kind) if kind in ON else len(ON) for kind in kinds]
    return names[ranked.index(min(ranked))]


def _sided(structures: Sequence[str]) -> list[str]:
    """As m is asked for them: both sides of what has two."""
    known = load_ontology().structures
    sides = {True: ("left ", "right "), False: ("",)}
    return [f"{side}{name}" for name in structures for side in sides[known[name].paired]]


def _unsided(region: str) -> str:
    return _side_and_name(region)[1]


def _side_and_name(region: str) -> tuple[str, str]:
    """`left` or `right`, or nothing, and the rest of a name."""
    first, _, rest = region.partition(" ")
    return (first, rest) if first in ("left", "right") else ("", region)


def _side_of(regions: Sequence[str]) -> str:
    """`left `, `right `, or nothing: where nearly all of those that have a side lie."""
    sides = Counter(side for side, _ in map(_side_and_name, regions) if side)
    return next((f"{side} " for side, count in sides.items() if count >= SIDED * sides.total()), "")
