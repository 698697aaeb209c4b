"""Operations that make and change regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging import intensity, morphology
from vp_model.imaging.merge import merge_probabilities
from vp_model.imaging.region import Region, combined_size
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, Side
from vp_model.program.errors import ProgramError
from vp_model.program.state import State, with_assembled
from vp_model.program.values import Encoding, Part, Quantity, Roi, RoiList, Visit, VolumeReference

Marked = tuple[VolumeReference, int]
"""A volume and the number of its `<MOD>` in the step."""


def segment(state: State, name: str, marked: Sequence[Marked]) -> Roi:
    """Calls m once for each side; merges a session's volumes into one region (paper, A.3)."""
    target = state.targets[name]
    inputs = [reference.volume for reference, _ in marked]
    phi = _modulations(state, marked)
    for volume in inputs:
        size = state.images[volume.name].voxels.size
        state.reserve(4 * size, kept=size * len(target.sides))
    parts: list[Part] = []
    for side, call in target.calls():
        maps = state.vision.segment(call, [volume.name for volume in inputs], phi)
        parts.extend(_merge(state, side, inputs, maps))
    found: Side = target.sides[0] if len(target.sides) == 1 else "both"
    if (target.structure, found) not in state.findings.segmented:
        state.findings.segmented.append((target.structure, found))
    experimental = any((target.structure, side) in state.experimental for side in (*target.sides, found))
    return Roi(target.structure, tuple(parts), experimental=experimental)


def _merge(
    state: State, side: Side, inputs: Sequence[InputVolume], maps: Mapping[str, NDArray[np.float32]]
) -> list[Part]:
    parts = []
    for session in sorted({volume.session for volume in inputs}):
        members = [volume for volume in inputs if volume.session == session]
        pairs = []
        for volume in members:
            image = state.images[volume.name]
            probability = maps[volume.name]
            if probability.shape != image.voxels.shape:
                raise ValueError(f"The mask of {volume.name} has another shape than the volume.")
            pairs.append((probability, image.world))
        region = merge_probabilities(pairs)
        parts.append(Part(side, state.visit(members[0]), tuple(v.name for v in members), region))
    return parts


def encode(state: State, marked: Sequence[Marked]) -> Encoding:
    """Calls the encoder of m; ε goes into the feedback."""
    values = state.vision.encode([reference.volume.name for reference, _ in marked], _modulations(state, marked))
    state.encodings.append(values)
    return Encoding(values)


def _modulations(state: State, marked: Sequence[Marked]) -> NDArray[np.float32]:
    phi: NDArray[np.float32] = state.modulations[[row for _, row in marked]]
    return phi


def visits(state: State, roi: Roi) -> list[Visit]:
    return list(roi.visits)


def earliest(state: State, roi: Roi) -> Visit:
    return roi.visits[0]


def latest(state: State, roi: Roi) -> Visit:
    return roi.visits[-1]


def visit(state: State, date: str) -> Visit:
    known = sorted({state.visit(volume) for volume in state.volumes.values()})
    for candidate in known:
        if candidate.date == date:
            return candidate
    dates = ", ".join(candidate.date for candidate in known if candidate.date) or "none"
    raise ProgramError(f"No volume was acquired on {date}. Dates of the volumes: {dates}.")


def at(state: State, roi: Roi, when: Visit) -> Roi:
    parts = tuple(part for part in roi.parts if part.visit == when)
    if not parts:
        listed = ", ".join(map(str, roi.visits))
        raise ProgramError(f"{roi.label()} was not segmented at {when}; it was at {listed}.")
    return replace(roi, parts=parts)


def union(state: State, first: Roi, second: Roi) -> Roi:
    structure = first.structure if first.structure == second.structure else f"{first.structure} and {second.structure}"
    parts = list(first.parts)
    for part in second.parts:
        _join(state, parts, part)
    return Roi(structure, _ordered(parts), experimental=first.experimental or second.experimental)


def _join(state: State, parts: list[Part], part: Part) -> None:
    """Adds a part to those of its side and session."""
    match = next((i for i, own in enumerate(parts) if own.side == part.side and own.visit == part.visit), None)
    if match is None:
        parts.append(part)
    else:
        own = parts[match]
        _reserve(state, own.region, part.region)
        volumes = tuple(dict.fromkeys(own.volumes + part.volumes))
        parts[match] = replace(own, region=morphology.union(own.region, part.region), volumes=volumes)


def assemble(state: State, name: str, rois: Sequence[Roi]) -> Roi:
    """One structure from its parts; where it has no sides, those of its parts are joined.

    Raises:
        ProgramError: something is no part of it, or a part is missing.
    """
    ontology = load_ontology()
    whole = ontology.structures[name]
    found = {(roi.label(""), part.side) for roi in rois for part in roi.parts}
    sides = {side for _, side in found} if whole.paired else {"left", "right"}
    wanted = {(part, side) for part in whole.parts for side in (sides if ontology.structures[part].paired else {""})}
    if found != wanted:
        raise ProgramError(f"The {name} is made of {', '.join(whole.parts)}: whole, on the same sides, nothing else.")
    parts: list[Part] = []
    for part in (part for roi in rois for part in roi.parts):
        _join(state, parts, part if whole.paired else replace(part, side=""))
    state.findings.segmented[:] = with_assembled(state.findings.segmented, whole)
    experimental = any(roi.experimental for roi in rois)
    return Roi(name, _ordered(parts), experimental=experimental)


def intersection(state: State, first: Roi, second: Roi) -> Roi:
    named = replace(first, prefix="part of ", suffix=f" in {second.label()}")
    return _against(state, named, second, morphology.intersection)


def difference(state: State, first: Roi, second: Roi) -> Roi:
    named = replace(first, prefix="part of ", suffix=f" outside {second.label()}")
    return _against(state, named, second, morphology.difference)


def _against(state: State, roi: Roi, other: Roi, function: Callable[[Region, Region], Region]) -> Roi:
    """Each part against all of the other region in the same session, whatever its side."""
    parts = []
    for part in roi.parts:
        region = _whole(state, other, part.visit)
        _reserve(state, part.region, region)
        parts.append(replace(part, region=function(part.region, region)))
    return replace(roi, parts=tuple(parts), experimental=roi.experimental or other.experimental)


def _whole(state: State, roi: Roi, when: Visit) -> Region:
    """All sides of a region in one session."""
    regions = [part.region for part in at(state, roi, when).parts]
    result = regions[0]
    for region in regions[1:]:
        _reserve(state, result, region)
        result = morphology.union(result, region)
    return result


def largest(state: State, roi: Roi) -> Roi:
    return _each(state, roi, morphology.largest)


def components(state: State, roi: Roi) -> RoiList:
    """Connected parts of one session, largest first. A component keeps the side of the part that it comes from."""
    single_visit(roi)
    counts = [morphology.component_sizes(part.region) for part in roi.parts]
    if sum(count for count, _ in counts) > state.limits.items:
        raise ProgramError(
            f"{roi.label()} has more than {state.limits.items} connected parts: use larger_than to drop small ones."
        )
    size = sum(size for _, size in counts)
    state.reserve(size, kept=size)
    pieces = [replace(part, region=region) for part in roi.parts for region in morphology.components(part.region)]
    pieces.sort(key=lambda piece: -piece.region.volume)
    named = [replace(roi, parts=(piece,), suffix=f"{roi.suffix} {n}") for n, piece in enumerate(pieces, start=1)]
    return RoiList(named, roi)


def larger_than(state: State, roi: Roi, volume: float) -> Roi:
    return _each(state, roi, lambda region: morphology.larger_than(region, volume))


def smaller_than(state: State, roi: Roi, volume: float) -> Roi:
    return _each(state, roi, lambda region: morphology.smaller_than(region, volume))


def dilate(state: State, roi: Roi, radius: float) -> Roi:
    grown = _each(state, roi, lambda region: morphology.dilate(region, radius), radius)
    return replace(grown, suffix=f"{roi.suffix} dilated by {radius:g} mm")


def erode(state: State, roi: Roi, radius: float) -> Roi:
    shrunk = _each(state, roi, lambda region: morphology.erode(region, radius), radius)
    return replace(shrunk, suffix=f"{roi.suffix} eroded by {radius:g} mm")


def opening(state: State, roi: Roi, radius: float) -> Roi:
    return _each(state, roi, lambda region: morphology.opening(region, radius), radius)


def closing(state: State, roi: Roi, radius: float) -> Roi:
    return _each(state, roi, lambda region: morphology.closing(region, radius), 2 * radius)


def fill(state: State, roi: Roi) -> Roi:
    return _each(state, roi, morphology.fill)


def surrounding(state: State, roi: Roi, radius: float) -> Roi:
    """The ring around each part. Its structure is renamed: it is not the region."""
    ring = _each(state, roi, lambda region: morphology.surrounding(region, radius), radius)
    return replace(ring, structure=f"tissue around {roi.structure}", prefix="", suffix=f" within {radius:g} mm")


def brighter_than(state: State, roi: Roi, reference: VolumeReference, threshold: Quantity | float) -> Roi:
    return _by_intensity(state, roi, reference, threshold, "hyperintense part of ", intensity.brighter_than)


def darker_than(state: State, roi: Roi, reference: VolumeReference, threshold: Quantity | float) -> Roi:
    return _by_intensity(state, roi, reference, threshold, "hypointense part of ", intensity.darker_than)


def _by_intensity(
    state: State,
    roi: Roi,
    reference: VolumeReference,
    threshold: Quantity | float,
    prefix: str,
    function: Callable[[intensity.Image, Region, float], Region],
) -> Roi:
    image = state.images[reference.volume.name]
    limit = threshold.value if isinstance(threshold, Quantity) else float(threshold)
    chosen = in_session(state, roi, reference)
    parts = []
    for part in chosen.parts:
        _reserve(state, part.region)
        parts.append(replace(part, region=function(image, part.region, limit)))
    return replace(chosen, parts=tuple(parts), prefix=prefix + roi.prefix)


def in_session(state: State, roi: Roi, reference: VolumeReference) -> Roi:
    """The region in the session of a volume; an error where it was not segmented there."""
    when = state.visit(reference.volume)
    if when not in roi.visits:
        listed = ", ".join(map(str, roi.visits))
        raise ProgramError(
            f"{reference.volume.name} belongs to {when}, but {roi.label()} was segmented at {listed}: "
            "segment it on a volume of that session too."
        )
    return at(state, roi, when)


def single_visit(roi: Roi) -> Visit:
    """The one session of a region; an error where there are several."""
    found = roi.visits
    if len(found) != 1:
        raise ProgramError(
            f"{roi.label()} spans {len(found)} sessions: choose one, as in at(roi, latest(roi)), "
            "or loop: for when in visits(roi)."
        )
    return found[0]


def _each(state: State, roi: Roi, function: Callable[[Region], Region], radius: float = 0.0) -> Roi:
    parts = []
    for part in roi.parts:
        size = morphology.working_bytes(part.region, radius)
        state.reserve(size, kept=size // 32)
        parts.append(replace(part, region=function(part.region)))
    return replace(roi, parts=tuple(parts))


def _ordered(parts: list[Part]) -> tuple[Part, ...]:
    order = {"left": 0, "right": 1}
    return tuple(sorted(parts, key=lambda part: (order.get(part.side, 2), part.visit)))


def _reserve(state: State, *regions: Region) -> None:
    """Room to combine regions: a few boolean arrays and samples in the box of all; a boolean array is kept."""
    voxels = combined_size(regions)
    state.reserve(8 * voxels, kept=voxels)
