"""Operations that relate one region to another of the same session: position, distance, overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vp_model.imaging import morphology, relation, shape
from vp_model.imaging.region import Region, combined_size, empty_region
from vp_model.program.errors import ProgramError
from vp_model.program.measures import missing_reason, source_of, whole_region
from vp_model.program.regions import at, single_visit
from vp_model.program.state import State
from vp_model.program.values import Quantity, Roi, Source, missing_quantity

MOSTLY = 0.5
"""Share of a region's volume from which it counts as inside another, or beyond it."""
LEAST_SHARE = 0.05
"""Share of a region's volume from which `located_in` names a place besides the first."""
POINT_BYTES = 96
"""Of one voxel as a point: its coordinates, its place in a search tree, and the answer of a search."""


def boundary_of(state: State, roi: Roi) -> Roi:
    return replace(_voxelwise(state, roi, relation.boundary), prefix=f"boundary of {roi.prefix}")


def within_distance(state: State, roi: Roi, other: Roi, distance: float) -> Roi:
    named = replace(roi, prefix="part of ", suffix=f"{roi.suffix} within {distance:g} mm of {other.label()}")
    return _beside(state, named, other, lambda region, rest: relation.near(region, rest, distance))


def touching(state: State, roi: Roi, other: Roi) -> Roi:
    return _beside(state, replace(roi, suffix=f"{roi.suffix} touching {other.label()}"), other, relation.touching)


def apart_from(state: State, roi: Roi, other: Roi) -> Roi:
    return _beside(state, replace(roi, suffix=f"{roi.suffix} apart from {other.label()}"), other, relation.apart_from)


def nearest_part(state: State, roi: Roi, other: Roi) -> Roi:
    def nearest(region: Region, rest: Region) -> Region:
        return empty_region(region.grid) if region.empty or rest.empty else relation.nearest_part(region, rest)

    return _beside(state, replace(roi, suffix=f"{roi.suffix} nearest to {other.label()}"), other, nearest)


def outermost(state: State, roi: Roi, direction: str) -> Roi:
    """The outermost part of each side and session."""

    def farthest(region: Region) -> Region:
        return region if region.empty else relation.outermost(region, direction)

    return replace(_voxelwise(state, roi, farthest), prefix=f"most {direction} part of ")


def on_side(state: State, roi: Roi, direction: str, other: Roi) -> Roi:
    """What of the region lies beyond the other's centre of mass; nothing where the other is empty."""

    def beyond(region: Region, rest: Region) -> Region:
        if rest.empty:
            return empty_region(region.grid)
        return relation.on_side(region, direction, shape.center_of_mass(rest))

    named = replace(roi, prefix="part of ", suffix=f"{roi.suffix} {direction} of the centre of {other.label()}")
    return _beside(state, named, other, beyond)


def distance_to(state: State, roi: Roi, other: Roi) -> Quantity:
    first, second, source = _two(state, roi, other)
    if first.empty or second.empty:
        return missing_quantity(missing_reason(roi if first.empty else other), "mm", source)
    if not morphology.intersection(first, second).empty:
        return Quantity(0.0, "mm", source)
    value, ends = relation.gap(relation.boundary(first), relation.boundary(second))
    return Quantity(value, "mm", source, ends)


def center_distance(state: State, roi: Roi, other: Roi) -> Quantity:
    first, second, source = _two(state, roi, other)
    if first.empty or second.empty:
        return missing_quantity(missing_reason(roi if first.empty else other), "mm", source)
    ends = shape.center_of_mass(first), shape.center_of_mass(second)
    return Quantity(float(np.linalg.norm(np.subtract(*ends))), "mm", source, ends)


def dice_overlap(state: State, roi: Roi, other: Roi) -> Quantity:
    first, second, source = _two(state, roi, other)
    if first.empty and second.empty:
        return missing_quantity(missing_reason(roi), "1", source)
    return Quantity(relation.dice(first, second), "1", source)


def percent_inside(state: State, roi: Roi, other: Roi) -> Quantity:
    first, second, source = _two(state, roi, other)
    if first.empty:
        return missing_quantity(missing_reason(roi), "%", replace(source, label=roi.label()))
    return Quantity(100 * relation.share_inside(first, second), "%", replace(source, label=roi.label()))


def direction_from(state: State, roi: Roi, other: Roi) -> str:
    """In words, the largest difference first; `at the same place` where the centres are within 5 mm."""
    first, second, _ = _two(state, roi, other)
    if first.empty or second.empty:
        return missing_reason(roi if first.empty else other)
    words = relation.direction(first, second)
    return " and ".join(words) if words else "at the same place"


def located_in(state: State, roi: Roi, places: Sequence[Roi]) -> str:
    """The names of the places that hold a part of the region, the largest share first."""
    when = single_visit(roi)
    region = whole_region(state, roi)
    if region.empty:
        return missing_reason(roi)
    shares = []
    for place in places:
        rest = whole_region(state, at(state, place, when))
        state.reserve(8 * combined_size([region, rest]), kept=0)
        shares.append((relation.share_inside(region, rest), place.label()))
    found = [(share, name) for share, name in sorted(shares, key=lambda item: -item[0]) if share >= LEAST_SHARE]
    if not found:
        return "in none of " + ", ".join(place.label() for place in places)
    return ", ".join(f"{name} ({100 * share:.0f} %)" for share, name in found)


def is_inside(state: State, roi: Roi, other: Roi) -> bool:
    first, second, _ = _two(state, roi, other)
    return not first.empty and relation.share_inside(first, second) >= MOSTLY


def is_toward(state: State, roi: Roi, word: str, other: Roi) -> bool:
    """Whether the region's centre of mass lies in a direction from the other's."""
    first, second, _ = _two(state, roi, other)
    if first.empty or second.empty:
        return False
    axis, sign = relation.toward(word)
    return sign * (shape.center_of_mass(first)[axis] - shape.center_of_mass(second)[axis]) > 0


def _two(state: State, roi: Roi, other: Roi) -> tuple[Region, Region, Source]:
    """Both regions with all their sides, of one session; and the source of what is measured between them."""
    when, then = single_visit(roi), single_visit(other)
    if when != then:
        raise ProgramError(
            f"{roi.label()} is of {when} and {other.label()} of {then}: positions of two sessions differ. "
            "Bring one to the other's session first: align_to(roi, latest(other))."
        )
    first, second = whole_region(state, roi), whole_region(state, other)
    state.reserve(8 * combined_size([first, second]) + POINT_BYTES * (first.count + second.count), kept=0)
    return first, second, source_of(roi).joined(source_of(other))


def _beside(state: State, roi: Roi, other: Roi, function: Callable[[Region, Region], Region]) -> Roi:
    """Each part against all of the other region in the same session, whatever its side."""
    parts = []
    for part in roi.parts:
        rest = whole_region(state, at(state, other, part.visit))
        size = 8 * combined_size([part.region, rest]) + POINT_BYTES * (part.region.count + rest.count)
        state.reserve(size, kept=part.region.voxels.size)
        parts.append(replace(part, region=function(part.region, rest)))
    return replace(roi, parts=tuple(parts), experimental=roi.experimental or other.experimental)


def _voxelwise(state: State, roi: Roi, function: Callable[[Region], Region]) -> Roi:
    parts = []
    for part in roi.parts:
        state.reserve(POINT_BYTES * part.region.voxels.size, kept=part.region.voxels.size)
        parts.append(replace(part, region=function(part.region)))
    return replace(roi, parts=tuple(parts))
