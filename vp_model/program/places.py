"""Operations that say in words where in the brain a region lies, by what m finds of the anatomy around it.

They look for lobes and gyri by themselves: a program that named each of them would have as many lines as a brain has
regions. Each takes a region of one session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vp_model.ontology import load_ontology
from vp_model.ontology.places import WHITE_MATTER, Aspect, load_places
from vp_model.program.measures import missing_reason, whole_region
from vp_model.program.regions import single_visit
from vp_model.program.state import State
from vp_model.program.values import Roi

ON = ("T1", "T1+C", "T2", "FLAIR", "PD", "CT")
"""Sequence types on which anatomy is told, best first."""
MAXIMUM_POINTS = 20_000
"""Voxels of a region that are asked where they lie; of larger ones an even choice."""
SIDED = 0.8
"""Share of a region that lies on one side from which it is said to lie there."""
MOSTLY = 0.5
"""Share of a region that the places named for it hold together."""
BYTES = 64
"""For a voxel of a grid, or a point, while places are looked for."""
UNKNOWN = "the anatomy around it was not found"
SCHEMATIC = "Arterial territories follow a schematic map of gyri and nuclei: their borders vary between people."


def lobe_of(state: State, roi: Roi) -> str:
    return _place_of(state, roi, "lobe", sided=True)


def territory_of(state: State, roi: Roi) -> str:
    state.findings.warnings.append(SCHEMATIC)
    return _place_of(state, roi, "territory", sided=False, noun=" territory")


def _place_of(state: State, roi: Roi, aspect: Aspect, sided: bool, noun: str = "") -> str:
    """The place that holds most of a region, or the first few that do together."""
    single_visit(roi)
    region = whole_region(state, roi)
    if region.empty:
        return missing_reason(roi)
    places = load_places()[aspect]
    cortex, others = _sided(list(places.cortex)), _sided([WHITE_MATTER, *places.structures])
    volume = _anatomical(state, roi)
    state.reserve(BYTES * (state.images[volume].voxels.size + min(region.count, MAXIMUM_POINTS)), kept=0)
    landmarks = state.vision.landmarks(volume, [*cortex, *others])
    points = region.points()
    points = points[:: -(-len(points) // MAXIMUM_POINTS)]
    nearest = landmarks.nearest(points, [*cortex, *others])
    in_cortex = landmarks.nearest(points, cortex)
    if not nearest or not in_cortex:
        return UNKNOWN
    of = {**places.cortex, **places.structures}
    structures = [_unsided(name) for name in nearest]
    by_cortex = [of[_unsided(name)] for name in in_cortex]
    found = Counter(
        place if structure == WHITE_MATTER else of[structure]
        for structure, place in zip(structures, by_cortex, strict=True)
    )
    side = _side_of(nearest) if sided else ""
    named: list[str] = []
    held = 0
    for place, count in found.most_common():
        if held >= MOSTLY * len(points):
            break
        named.append(f"{side}{place}{noun}")
        held += count
    return " and ".join(named)


def _anatomical(state: State, roi: Roi) -> str:
    """Of the volumes that a region was found on, the one that shows anatomy best."""
    names = [name for part in roi.parts for name in part.volumes]
    kinds = [state.volumes[name].kind.upper() for name in names]
    ranked = [ON.index(kind) if kind in ON else len(ON) for kind in kinds]
    return names[ranked.index(min(ranked))]


def _sided(structures: Sequence[str]) -> list[str]:
    """As m is asked for them: both sides of what has two."""
    known = load_ontology().structures
    sides = {True: ("left ", "right "), False: ("",)}
    return [f"{side}{name}" for name in structures for side in sides[known[name].paired]]


def _unsided(region: str) -> str:
    return region.removeprefix("left ").removeprefix("right ")


def _side_of(regions: Sequence[str]) -> str:
    """`left `, `right `, or nothing: where nearly all of those that have a side lie."""
    sides = Counter(region.split(" ")[0] for region in regions if region != _unsided(region))
    return next((f"{side} " for side, count in sides.items() if count >= SIDED * sides.total()), "")
