"""Which tracking UID a region has: of its structure where there is one of it, of its place where there are several.

A region keeps the UID of the region that it overlaps: on another volume of the same run, or in the run that this one
follows. Its number in a list says nothing, because a lesion that vanishes renumbers the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from vp_model.outcome import Mask
from vp_node.results.codes import structure_codes
from vp_node.results.model import TrackedRegion
from vp_node.results.sources import LPS, Source
from vp_node.results.uids import tracking_uid, uid_of

SMALLEST_OVERLAP = 0.2
"""Part of the smaller of two regions that must lie in the other for both to be one finding."""


Codes = tuple[str, str]
"""Of a structure and its side."""


@dataclass(frozen=True)
class Tracking:
    identifier: str
    uid: str


def track(regions: Sequence[tuple[Source, Mask]], known: Sequence[TrackedRegion] = ()) -> dict[str, Tracking]:
    """Tracking of masks by their identifier.

    Args:
        regions: the masks of a run that have voxels, each with the volume that it lies on.
        known: of the run before.
    """
    found: dict[str, Tracking] = {}
    remembered: dict[Codes, list[TrackedRegion]] = defaultdict(list)
    for region in known:
        remembered[region.type_code, region.side_code].append(region)
    by_volume: dict[tuple[str, Codes], list[tuple[Source, Mask]]] = defaultdict(list)
    for source, mask in regions:
        by_volume[source.chosen.name, _codes(mask)].append((source, mask))
    volumes_of = Counter(codes for _, codes in by_volume)
    for (_, codes), items in by_volume.items():
        before = remembered[codes]
        kept = _inherited(items, before)
        names = {region.tracking_id for region in before}
        taken = {region.tracking_uid for region in before}
        for source, mask in items:
            tracking = kept.get(mask.identifier)
            if tracking is None:
                tracking = _new(source, mask, before, sole=len(items) == 1, taken=taken, names=names)
            names.add(tracking.identifier)
            taken.add(tracking.uid)
            found[mask.identifier] = tracking
            if volumes_of[codes] > 1:
                remembered[codes].append(_remember(source, mask, tracking))
    return found


def regions_of(path: Path) -> tuple[TrackedRegion, ...]:
    """The tracked regions of a binary SEG that this node wrote."""
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    measures = shared.PixelMeasuresSequence[0]
    between_rows, between_columns = map(float, measures.PixelSpacing)
    between_slices = float(measures.get("SpacingBetweenSlices") or measures.SliceThickness)
    size = int(dataset.Rows) * int(dataset.Columns)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    places: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        named = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        rows, columns = np.nonzero(bits[index * size : (index + 1) * size].reshape(dataset.Rows, dataset.Columns))
        origin = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, float)
        offsets = columns[:, None] * axes[0] * between_columns + rows[:, None] * axes[1] * between_rows
        places[int(named[0].ReferencedSegmentNumber)].append((origin + offsets) @ LPS[:3, :3])
    return tuple(
        TrackedRegion(
            *_codes_of_segment(segment),
            tracking_id=str(segment.TrackingID),
            tracking_uid=str(segment.TrackingUID),
            frame_of_reference_uid=str(dataset.FrameOfReferenceUID),
            points=np.concatenate(places[int(segment.SegmentNumber)]),
            voxel_mm3=between_rows * between_columns * between_slices,
        )
        for segment in dataset.SegmentSequence
        if places.get(int(segment.SegmentNumber))
    )


def _inherited(items: Sequence[tuple[Source, Mask]], known: Sequence[TrackedRegion]) -> dict[str, Tracking]:
    """Masks of one structure on one volume that overlap known regions, the best overlaps first, each region once."""
    pairs = [
        (overlap, number, region)
        for number, (source, mask) in enumerate(items)
        for region in known
        if (region.type_code, region.side_code) == _codes(mask)
        and region.frame_of_reference_uid == source.frame_of_reference_uid
        and (overlap := _overlap(mask, region)) >= SMALLEST_OVERLAP
    ]
    kept: dict[str, Tracking] = {}
    taken: set[str] = set()
    for _, number, region in sorted(pairs, key=lambda pair: (-pair[0], pair[1])):
        identifier = items[number][1].identifier
        if identifier not in kept and region.tracking_uid not in taken:
            kept[identifier] = Tracking(region.tracking_id, region.tracking_uid)
            taken.add(region.tracking_uid)
    return kept


def _overlap(mask: Mask, region: TrackedRegion) -> float:
    """Common volume as a part of the smaller region's."""
    inverse = np.linalg.inv(mask.world)
    index = np.rint(region.points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
    inside = np.all((index >= 0) & (index < mask.voxels.shape), axis=1)
    common = int(mask.voxels[tuple(index[inside].T)].sum()) * region.voxel_mm3
    own = float(mask.voxels.sum() * abs(np.linalg.det(mask.world[:3, :3])))
    return min(1.0, common / min(own, len(region.points) * region.voxel_mm3))


def _new(
    source: Source, mask: Mask, before: Sequence[TrackedRegion], *, sole: bool, taken: set[str], names: set[str]
) -> Tracking:
    name = " ".join(word for word in (mask.side, mask.structure) if word)[:60]
    patient = source.chosen.volume.patient_key
    by_name = tracking_uid(patient, mask.structure, mask.side)
    if sole and not _is_another_finding(source, mask, by_name, before):
        return Tracking(name, by_name)
    number = 1
    while (label := name if number == 1 else f"{name} {number}") in names:
        number += 1
    place = ",".join(f"{value:.0f}" for value in _middle(mask))
    parts = ("tracking", patient, mask.structure, mask.side, source.frame_of_reference_uid, place)
    uid, number = uid_of(*parts), 1
    while uid in taken:
        number += 1
        uid = uid_of(*parts, str(number))
    return Tracking(label, uid)


def _is_another_finding(source: Source, mask: Mask, by_name: str, before: Sequence[TrackedRegion]) -> bool:
    """Whether the structure's own UID stands for a pathology at another place of the same Frame of Reference.

    An anatomical structure is one and the same wherever it is found.
    """
    return not structure_codes(mask.structure, mask.side).is_anatomy and any(
        region.tracking_uid == by_name and region.frame_of_reference_uid == source.frame_of_reference_uid
        for region in before
    )


def _middle(mask: Mask) -> NDArray[np.float64]:
    """RAS mm of the centroid; never a negative zero, which would read otherwise."""
    middle: NDArray[np.float64] = np.argwhere(mask.voxels).mean(axis=0) @ mask.world[:3, :3].T + mask.world[:3, 3]
    return np.rint(middle) + 0.0


def _remember(source: Source, mask: Mask, tracking: Tracking) -> TrackedRegion:
    points = np.argwhere(mask.voxels) @ mask.world[:3, :3].T + mask.world[:3, 3]
    voxel = float(abs(np.linalg.det(mask.world[:3, :3])))
    codes = _codes(mask)
    return TrackedRegion(*codes, tracking.identifier, tracking.uid, source.frame_of_reference_uid, points, voxel)


def _codes(mask: Mask) -> Codes:
    written = structure_codes(mask.structure, mask.side)
    return str(written.type.value), str(written.laterality.value) if written.laterality is not None else ""


def _codes_of_segment(segment: Dataset) -> Codes:
    concept = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = concept.get("SegmentedPropertyTypeModifierCodeSequence") or []
    return str(concept.CodeValue), str(modifiers[0].CodeValue) if modifiers else ""
