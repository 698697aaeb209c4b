"""Segmentations (PS3.3 A.51, A.92, C.8.20): segments, frames, planes, pixels, tracking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from vp_node.results.rules.problems import Problem


def segmentation(dataset: Dataset) -> Iterator[Problem]:
    frames = int(dataset.get("NumberOfFrames") or 0)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if frames < 1 or len(groups) != frames:
        yield "frames", f"{len(groups)} items, {frames} frames"
    is_label_map = dataset.get("SegmentationType") == "LABELMAP"
    segments = dataset.get("SegmentSequence") or []
    numbers = [int(item.SegmentNumber) for item in segments]
    first = 0 if is_label_map and 0 in numbers else 1
    if not is_label_map and numbers != list(range(first, first + len(numbers))):
        yield "segments", "the numbers have gaps, or begin elsewhere than at 1"
    if not numbers or len(set(numbers)) != len(numbers):
        yield "segments", "none, or two of one number"
    yield from _tracking(segments)
    yield from _planes(dataset, groups)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    if not is_label_map:
        named = [_segment_number(group, shared) for group in groups]
        if set(named) - set(numbers):
            yield "segments", "a frame names a segment that is not there"
        for number in sorted(set(numbers) - set(named)):
            yield "no-empty", f"segment {number}"
    yield from _pixels(dataset, frames, numbers, is_label_map)
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or []
        for item in series.ReferencedInstanceSequence
    }
    if named_sources(groups) - listed:
        yield "derivation", "a frame names an image that Referenced Series does not list"


def house_segmentation(dataset: Dataset) -> Iterator[Problem]:
    """What segmentations of this node are, beyond the standard."""
    for item in dataset.get("SegmentSequence") or []:
        if int(item.SegmentNumber) == 0:
            continue
        for keyword in ("SegmentAlgorithmName", "TrackingID", "TrackingUID", "RecommendedDisplayCIELabValue"):
            if not item.get(keyword):
                yield "house-segment", f"segment {item.SegmentNumber} has no {keyword}"
    if not dataset.get("ReferencedSeriesSequence"):
        yield "house-derivation", "there is no Referenced Series"
    yield from _empty_frames(dataset)


def named_sources(groups: Sequence[Dataset]) -> set[str]:
    """SOP Instance UIDs of the images that frames were derived from."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for group in groups
        for derivation in group.get("DerivationImageSequence") or []
        for item in derivation.get("SourceImageSequence") or []
    }


def is_orthonormal(orientation: object) -> bool:
    """Six cosines of two orthogonal unit vectors, to four digits (PS3.3 C.7.6.2.1.1)."""
    if orientation is None:
        return False
    axes = np.asarray(orientation, dtype=np.float64)
    return axes.shape == (6,) and bool(np.allclose(axes.reshape(2, 3) @ axes.reshape(2, 3).T, np.eye(2), atol=1e-4))


def _tracking(segments: Sequence[Dataset]) -> Iterator[Problem]:
    uids = [str(item.TrackingUID) for item in segments if item.get("TrackingUID")]
    if len(set(uids)) != len(uids):
        yield "tracking", "two segments have one Tracking UID"


def _planes(dataset: Dataset, groups: Sequence[Dataset]) -> Iterator[Problem]:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    dimensions = len(dataset.get("DimensionIndexSequence") or [])
    without_position = badly_placed = badly_indexed = 0
    for group in groups:
        position = group.get("PlanePositionSequence") or shared.get("PlanePositionSequence")
        if not position:
            without_position += 1
        orientation = group.get("PlaneOrientationSequence") or shared.get("PlaneOrientationSequence")
        if not orientation or not is_orthonormal(orientation[0].get("ImageOrientationPatient")):
            badly_placed += 1
        values = (group.get("FrameContentSequence") or [Dataset()])[0].get("DimensionIndexValues")
        count = 0 if values is None else 1 if isinstance(values, int) else len(values)
        if count != dimensions:
            badly_indexed += 1
    if without_position:
        yield "plane", f"{without_position} frame(s) have no position"
    if badly_placed:
        yield "plane", f"the orientation of {badly_placed} frame(s)"
    if badly_indexed:
        yield "dimensions", f"{badly_indexed} frame(s)"


def _segment_number(group: Dataset, shared: Dataset) -> int:
    """One segment alone may be named for all frames at once."""
    identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return int(identification[0].ReferencedSegmentNumber) if identification else 0


def _pixels(dataset: Dataset, frames: int, numbers: Sequence[int], is_label_map: bool) -> Iterator[Problem]:
    bits = int(dataset.BitsAllocated)
    if bits != (1 if dataset.get("SegmentationType") == "BINARY" else bits) or bits not in (1, 8, 16):
        yield "pixels", f"{bits} bits allocated"
    if UID(dataset.file_meta.TransferSyntaxUID).is_compressed:
        return
    expected = (frames * int(dataset.Rows) * int(dataset.Columns) * bits + 7) // 8
    if len(dataset.get("PixelData") or b"") not in (expected, expected + expected % 2):
        yield "pixels", f"expected {expected} bytes"
    elif is_label_map and bits in (8, 16):
        found = np.unique(np.frombuffer(dataset.PixelData, f"<u{bits // 8}"))
        if set(found.tolist()) - set(numbers) - {int(dataset.get("PixelPaddingValue") or 0)}:
            yield "segments", "a pixel has the label of no segment"


def _empty_frames(dataset: Dataset) -> Iterator[Problem]:
    """Frames without a pixel cost transfer and hang viewers."""
    if UID(dataset.file_meta.TransferSyntaxUID).is_compressed or int(dataset.BitsAllocated) != 1:
        return
    size, frames = int(dataset.Rows) * int(dataset.Columns), int(dataset.NumberOfFrames)
    data = np.frombuffer(dataset.PixelData, np.uint8)
    if data.size * 8 < size * frames:
        return  # `pixels` says so
    empty = [index for index in range(frames) if not _has_pixel(data, index * size, size)]
    if empty:
        yield "no-empty", f"{len(empty)} frame(s), the first {empty[0] + 1}"


def _has_pixel(data: NDArray[np.uint8], start: int, size: int) -> bool:
    """Whether any bit from `start` on is set; bits at both ends may share a byte with another frame."""
    end = start + size
    first, last = (start + 7) // 8, end // 8
    if first <= last and bool(data[first:last].any()):
        return True
    edges = (*range(start, min(first * 8, end)), *range(max(last * 8, start), end))
    return any(data[bit // 8] >> (bit % 8) & 1 for bit in edges)
