"""Operations on how a region looks in a volume, alone and against other tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging import intensity, morphology
from vp_model.imaging.region import empty_region
from vp_model.program.errors import ProgramError
from vp_model.program.measures import intensity_unit, missing_reason, source_of
from vp_model.program.regions import in_session
from vp_model.program.state import State
from vp_model.program.values import Quantity, Roi, Source, VolumeReference, missing_quantity

HYPERINTENSE, ISOINTENSE, HYPOINTENSE = SIGNALS = ("hyperintense", "isointense", "hypointense")
SIGNAL_SD = 1.0
"""Standard deviations of the reference tissue by which a mean must differ to be called hyper- or hypointense."""


def min_intensity(state: State, roi: Roi, reference: VolumeReference) -> Quantity:
    values, source = _values(state, roi, reference)
    return _result(values, float(values.min()) if values.size else 0.0, intensity_unit(reference), roi, source)


def max_intensity(state: State, roi: Roi, reference: VolumeReference) -> Quantity:
    values, source = _values(state, roi, reference)
    return _result(values, float(values.max()) if values.size else 0.0, intensity_unit(reference), roi, source)


def intensity_histogram(state: State, roi: Roi, reference: VolumeReference, bins: float) -> list[Quantity]:
    """Shares in percent of equally wide bins from the lowest to the highest value."""
    values, source = _values(state, roi, reference)
    number = max(round(bins), 1)
    if not values.size:
        return [missing_quantity(missing_reason(roi), "%", source)]
    counts, _ = intensity.histogram(values, number)
    return [Quantity(100 * float(count) / values.size, "%", source) for count in counts]


def contrast_with(state: State, roi: Roi, other: Roi, reference: VolumeReference) -> Quantity:
    """100 (mean − other mean) / |other mean|."""
    values, source = _values(state, roi, reference)
    rest, second = _values(state, other, reference)
    return _relative(values, rest, roi, other.label(), source.joined(second))


def contrast_to_surrounding(state: State, roi: Roi, reference: VolumeReference, radius: float) -> Quantity:
    values, source = _values(state, roi, reference)
    chosen = in_session(state, roi, reference)
    image = state.images[reference.volume.name]
    rings = []
    for part in chosen.parts:
        state.reserve(morphology.working_bytes(part.region, radius), kept=0)
        rings.append(intensity.values_in(image, morphology.surrounding(part.region, radius)))
    rest = np.concatenate(rings) if rings else np.zeros(0)
    return _relative(values, rest, roi, "the surrounding tissue", source)


def standard_score(state: State, roi: Roi, other: Roi, reference: VolumeReference) -> Quantity:
    """(mean − other mean) / other SD."""
    values, source = _values(state, roi, reference)
    rest, second = _values(state, other, reference)
    joined = replace(source.joined(second), label=source.label)
    if not values.size or not rest.size:
        return missing_quantity(missing_reason(other if values.size else roi), "1", joined)
    spread = float(rest.std())
    if spread == 0:
        return missing_quantity(f"{other.label()} has one value throughout", "1", joined)
    return Quantity((float(values.mean()) - float(rest.mean())) / spread, "1", joined)


def percent_brighter(state: State, roi: Roi, reference: VolumeReference, threshold: Quantity | float) -> Quantity:
    return _percent(state, roi, reference, threshold, 1)


def percent_darker(state: State, roi: Roi, reference: VolumeReference, threshold: Quantity | float) -> Quantity:
    return _percent(state, roi, reference, threshold, -1)


def signal_against(state: State, roi: Roi, other: Roi, reference: VolumeReference) -> str:
    """Hyper-, iso- or hypointense (CT: -dense) against the other region's mean and standard deviation."""
    result = standard_score(state, roi, other, reference)
    if result.missing:
        return result.missing
    signal = _signal_of(result.value)
    return signal.replace("intense", "dense") if reference.volume.kind.upper() == "CT" else signal


def with_signal(state: State, roi: Roi, other: Roi, signal: str, references: Sequence[VolumeReference]) -> Roi:
    """The connected parts with a signal, each by its mean against the other region's mean and standard deviation.

    Args:
        signal: one of `SIGNALS`, on CT too.
        references: one volume of each session of the region.

    Raises:
        ProgramError: a session has no volume among them, or several.
    """
    parts = []
    by_session = {state.visit(reference.volume): reference for reference in references}
    if {*by_session} != {*roi.visits} or len(by_session) != len(references):
        raise ProgramError(f"{roi.label()} takes its signal from one volume of each of its sessions.")
    for part in roi.parts:
        reference = by_session[part.visit]
        rest, _ = _values(state, other, reference)
        state.reserve(morphology.working_bytes(part.region, 0.0), kept=part.region.voxels.size)
        image = state.images[reference.volume.name]
        kept = empty_region(part.region.grid)
        spread = float(rest.std()) if rest.size else 0.0
        for piece in morphology.components(part.region) if spread else ():
            values = intensity.values_in(image, piece)
            if values.size and _signal_of((float(values.mean()) - float(rest.mean())) / spread) == signal:
                kept = morphology.union(kept, piece)
        parts.append(replace(part, region=kept))
    return replace(roi, parts=tuple(parts), prefix=f"{signal} {roi.prefix}")


def _signal_of(score: float) -> str:
    """One of `SIGNALS`, by how many standard deviations of other tissue a mean lies above its mean."""
    if abs(score) < SIGNAL_SD:
        return ISOINTENSE
    return HYPERINTENSE if score > 0 else HYPOINTENSE


def _percent(state: State, roi: Roi, reference: VolumeReference, threshold: Quantity | float, sign: int) -> Quantity:
    values, source = _values(state, roi, reference)
    if isinstance(threshold, Quantity) and threshold.missing:
        return missing_quantity(threshold.missing, "%", source)
    limit = threshold.value if isinstance(threshold, Quantity) else float(threshold)
    share = 100 * float(np.count_nonzero(sign * values > sign * limit)) / max(values.size, 1)
    return _result(values, share, "%", roi, source)


def _values(state: State, roi: Roi, reference: VolumeReference) -> tuple[NDArray[np.float64], Source]:
    """The volume's values in all sides of the region in its session, and where they come from."""
    chosen = in_session(state, roi, reference)
    image = state.images[reference.volume.name]
    found = []
    for part in chosen.parts:
        state.reserve(8 * part.region.voxels.size, kept=0)
        found.append(intensity.values_in(image, part.region))
    source = source_of(chosen, (reference.volume.name,))
    return (np.concatenate(found) if found else np.zeros(0)), source


def _relative(
    values: NDArray[np.float64], rest: NDArray[np.float64], roi: Roi, against: str, source: Source
) -> Quantity:
    named = replace(source, label=roi.label())
    if not values.size:
        return missing_quantity(missing_reason(roi), "%", named)
    if not rest.size or float(rest.mean()) == 0:
        return missing_quantity(f"{against} has no value to compare with", "%", named)
    return Quantity(100 * (float(values.mean()) - float(rest.mean())) / abs(float(rest.mean())), "%", named)


def _result(values: NDArray[np.float64], value: float, unit: str, roi: Roi, source: Source) -> Quantity:
    return Quantity(value, unit, source) if values.size else missing_quantity(missing_reason(roi), unit, source)
