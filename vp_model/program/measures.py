"""Operations that measure regions and relate measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging import intensity, morphology, plane, shape
from vp_model.imaging.region import Region, combined_size
from vp_model.program.errors import ProgramError
from vp_model.program.regions import in_session, single_visit
from vp_model.program.state import State
from vp_model.program.values import (
    Point,
    Quantity,
    Roi,
    RoiList,
    Source,
    Value,
    VolumeReference,
    missing_quantity,
)
from vp_model.program.vocabulary import UNIT_KINDS

DAYS_PER_YEAR = 365.25
HOUNSFIELD = "[hnsf'U]"
NO_UNIT = "1"
FACTORS = {"ml": 1.0, "mm3": 1e-3, "cm3": 1.0, "l": 1e3, "mm": 1.0, "cm": 10.0, "mm2": 1.0, "cm2": 100.0}
"""How many ml, mm or mm² a unit is."""


def volume(state: State, roi: Roi) -> Quantity:
    source = source_of(roi)
    total = sum(part.region.volume for part in roi.parts)
    return Quantity(total / 1000, "ml", source)


def extent(state: State, roi: Roi, axis: str) -> Quantity:
    def measure(region: Region) -> tuple[float, tuple[shape.Vector, ...]]:
        return shape.extent(region, shape.AXES[axis])

    return _length(state, roi, measure)


def bounding_box(state: State, roi: Roi) -> list[Quantity]:
    source = source_of(roi)
    region = whole_region(state, roi)
    if region.empty:
        return [_not_found(roi, "mm", source) for _ in shape.AXES]
    corners = shape.bounding_box(region)
    return [Quantity(high - low, "mm", source, corners) for low, high in zip(*corners, strict=True)]


def longest_diameter(state: State, roi: Roi) -> Quantity:
    return _length(state, roi, shape.longest_diameter)


def plane_diameter(state: State, roi: Roi, name: str) -> Quantity:
    def measure(region: Region) -> tuple[float, tuple[shape.Vector, ...]]:
        found = plane.plane_diameters(region, name)
        return found.long, found.long_ends

    return _length(state, roi, measure)


def perpendicular_diameter(state: State, roi: Roi, name: str) -> Quantity:
    def measure(region: Region) -> tuple[float, tuple[shape.Vector, ...]]:
        found = plane.plane_diameters(region, name)
        return found.short, found.short_ends

    return _length(state, roi, measure)


def bidimensional_product(state: State, roi: Roi, name: str) -> Quantity:
    def measure(region: Region) -> tuple[float, tuple[shape.Vector, ...]]:
        found = plane.plane_diameters(region, name)
        return found.product, (*found.long_ends, *found.short_ends)

    return replace(_length(state, roi, measure), unit="mm2")


def cross_section(state: State, roi: Roi, name: str) -> Quantity:
    def measure(region: Region) -> tuple[float, tuple[shape.Vector, ...]]:
        return plane.largest_section(region, name)[0], ()

    return replace(_length(state, roi, measure), unit="mm2")


def oriented_box(state: State, roi: Roi) -> list[Quantity]:
    source = source_of(roi)
    region = whole_region(state, roi)
    if region.empty:
        return [_not_found(roi, "mm", source) for _ in shape.AXES]
    extents, corners = shape.oriented_box(region)
    return [Quantity(extent, "mm", source, corners) for extent in extents]


def sphericity(state: State, roi: Roi) -> Quantity:
    def measure(region: Region) -> tuple[float, tuple[shape.Vector, ...]]:
        return shape.sphericity(region), ()

    return replace(_length(state, roi, measure), unit=NO_UNIT)


def in_unit(state: State, quantity: Quantity, unit: str) -> Quantity:
    """The same in another unit of the same kind."""
    if UNIT_KINDS.get(quantity.unit) != UNIT_KINDS[unit]:
        raise ProgramError(f"A quantity in {quantity.unit} cannot be written in {unit}.")
    return replace(quantity, value=quantity.value * FACTORS[quantity.unit] / FACTORS[unit], unit=unit)


def coordinate_of(state: State, point: Point, axis: str) -> Quantity:
    value = point.position[shape.AXES[axis]]
    places = () if point.missing else (point.position,)
    return Quantity(value, "mm", point.source, places, point.missing)


def surface_area(state: State, roi: Roi) -> Quantity:
    source = source_of(roi)
    regions = [part.region for part in roi.parts if not part.region.empty]
    if not regions:
        return _not_found(roi, "mm2", source)
    return Quantity(sum(shape.surface_area(region) for region in regions), "mm2", source)


def center_of_mass(state: State, roi: Roi) -> Point:
    source = source_of(roi)
    region = whole_region(state, roi)
    if region.empty:
        return Point((0.0, 0.0, 0.0), source, missing=missing_reason(roi))
    return Point(shape.center_of_mass(region), source)


def mean_intensity(state: State, roi: Roi, reference: VolumeReference) -> Quantity:
    return _statistic(state, roi, reference, np.mean)


def sd_intensity(state: State, roi: Roi, reference: VolumeReference) -> Quantity:
    return _statistic(state, roi, reference, np.std)


def median_intensity(state: State, roi: Roi, reference: VolumeReference) -> Quantity:
    return _statistic(state, roi, reference, np.median)


def percentile_intensity(state: State, roi: Roi, reference: VolumeReference, percentile: float) -> Quantity:
    return _statistic(state, roi, reference, lambda values: np.percentile(values, percentile))


def count(state: State, items: Sequence[Value]) -> Quantity:
    """The number of elements, measured on the regions that they are."""
    source = Source()
    if isinstance(items, RoiList):
        whole = items.origin
        source = Source(whole.structure, whole.side, whole.label(), whole.visits, whole.parts)
        pieces = tuple(part for roi in items for part in roi.parts)
        source = replace(source, parts=(*whole.parts, *pieces), experimental=whole.experimental)
    return Quantity(float(len(items)), NO_UNIT, source)


def asymmetry(state: State, left: Quantity, right: Quantity) -> Quantity:
    source = _pair(left, right)
    if left.value + right.value == 0:
        return missing_quantity("the asymmetry is not defined: both sides are zero", "%", source)
    return Quantity(intensity.asymmetry(left.value, right.value), "%", source)


def percent_change(state: State, before: Quantity, after: Quantity) -> Quantity:
    return _percent(before, after, before, lambda: 100 * (after.value - before.value) / before.value)


def percent_of(state: State, part: Quantity, whole: Quantity) -> Quantity:
    return _percent(part, whole, whole, lambda: 100 * part.value / whole.value)


def ratio(state: State, first: Quantity, second: Quantity) -> Quantity:
    result = _percent(first, second, second, lambda: first.value / second.value)
    return replace(result, unit=NO_UNIT)


def per_year(state: State, change: Quantity) -> Quantity:
    """A change divided by the years between the first and the last of its sessions, where their dates are known."""
    unit = f"{change.unit}/a" if change.unit != NO_UNIT else "/a"
    if change.missing:
        return replace(change, unit=unit)
    dates = [when.date for when in change.source.visits]
    if len(dates) < 2:
        raise ProgramError("per_year needs a change between two sessions.")
    if not all(dates):
        return replace(
            change, value=float("nan"), unit=unit, points=(), missing="the dates of the sessions are not known"
        )
    days = (date.fromisoformat(dates[-1]) - date.fromisoformat(dates[0])).days
    if days <= 0:
        return replace(change, value=float("nan"), unit=unit, points=(), missing="the sessions are of one day")
    return replace(change, value=change.value / (days / DAYS_PER_YEAR), unit=unit)


def _percent(first: Quantity, second: Quantity, divisor: Quantity, compute: Callable[[], float]) -> Quantity:
    source = replace(_pair(first, second), label=first.source.label)
    if first.missing or second.missing:
        return missing_quantity(first.missing or second.missing, "%", source)
    if divisor.value == 0:
        where = f" of {divisor.source.label}" if divisor.source.label else ""
        return missing_quantity(f"the value{where} to compare with is zero", "%", source)
    return Quantity(compute(), "%", source)


def _pair(first: Quantity, second: Quantity) -> Source:
    """The joint source of two quantities of one unit."""
    if first.unit != second.unit:
        raise ProgramError(f"A quantity in {first.unit} and one in {second.unit} cannot be compared.")
    return first.source.joined(second.source)


def source_of(roi: Roi, volumes: tuple[str, ...] = ()) -> Source:
    when = single_visit(roi)
    return Source(roi.structure, roi.side, roi.label(), (when,), roi.parts, volumes, roi.experimental)


def whole_region(state: State, roi: Roi) -> Region:
    """All sides of a region together."""
    result = roi.parts[0].region
    for part in roi.parts[1:]:
        state.reserve(8 * combined_size([result, part.region]), kept=0)
        result = morphology.union(result, part.region)
    return result


def _length(state: State, roi: Roi, measure: Callable[[Region], tuple[float, tuple[shape.Vector, ...]]]) -> Quantity:
    source = source_of(roi)
    region = whole_region(state, roi)
    if region.empty:
        return _not_found(roi, "mm", source)
    value, points = measure(region)
    return Quantity(value, "mm", source, tuple(points))


def _statistic(
    state: State, roi: Roi, reference: VolumeReference, function: Callable[[NDArray[np.float64]], np.floating]
) -> Quantity:
    chosen = in_session(state, roi, reference)
    unit = intensity_unit(reference)
    source = source_of(chosen, (reference.volume.name,))
    image = state.images[reference.volume.name]
    regions = [part.region for part in chosen.parts if not part.region.empty]
    values = [intensity.values_in(image, region) for region in regions]
    joined = np.concatenate(values) if values else np.zeros(0)
    if joined.size == 0:
        return _not_found(roi, unit, source)
    return Quantity(float(function(joined)), unit, source)


def intensity_unit(reference: VolumeReference) -> str:
    """Hounsfield units for CT; MR intensities have no unit."""
    return HOUNSFIELD if reference.volume.kind.upper() == "CT" else NO_UNIT


def missing_reason(roi: Roi) -> str:
    return f"{roi.label()} was not found"


def _not_found(roi: Roi, unit: str, source: Source) -> Quantity:
    return missing_quantity(missing_reason(roi), unit, source)
