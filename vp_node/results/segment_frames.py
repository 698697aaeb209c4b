"""The frames of a segmentation, written as `highdicom.seg.Segmentation` would, in a fraction of its time and memory.

highdicom 0.28 takes all segments as one dense array (frames, rows, columns, segments), 10 GB for 100 segments on
400×512×512 voxels, and looks at each of its planes for each segment. Here highdicom makes the object from one plane of
one pixel, which gives everything but the frames; then each segment's box is cut out of its own mask and only the
slices in which it has voxels are packed. `tests/vp_node/test_results_frames.py` holds the objects of both ways equal.
This is written so that it could be proposed to highdicom as a constructor from one mask for each segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom import PlanePositionSequence
from highdicom.enum import CoordinateSystemNames, DimensionOrganizationTypeValues
from highdicom.frame import encode_frame
from highdicom.seg import SegmentsOverlapValues
from highdicom.spatial import VOLUME_INDEX_CONVENTION, get_normal_vector, get_volume_positions
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID

from vp_node.results.model import Form

Bool3D = NDArray[np.bool_]

_FRAME_CONTENT = Tag("FrameContentSequence")
_DIMENSION_INDEX_VALUES = Tag("DimensionIndexValues")
_PLANE_POSITION = Tag("PlanePositionSequence")
_DERIVATION_IMAGE = Tag("DerivationImageSequence")
_SEGMENT_IDENTIFICATION = Tag("SegmentIdentificationSequence")
_REFERENCED_SEGMENT_NUMBER = Tag("ReferencedSegmentNumber")

OCCUPIED = 255
"""Of a fractional segmentation: all of the voxel belongs to the segment (Maximum Fractional Value)."""


@dataclass(frozen=True, eq=False)
class _Box:
    """A segment without the empty space around it."""

    number: int
    slices: tuple[int, ...]
    """In which it has voxels."""
    rows: slice
    columns: slice
    planes: dict[int, Bool3D]
    """(rows, columns) of the box by slice."""

    def on(self, plane: NDArray[np.integer], index: int, value: int) -> None:
        """Writes the segment's voxels of a slice into a whole plane (rows, columns)."""
        plane[self.rows, self.columns][self.planes[index]] = value


def put_frames(
    dataset: Dataset,
    masks: Sequence[Bool3D],
    form: Form,
    positions: Sequence[tuple[float, float, float]],
    orientation: Sequence[float],
    derivations: Sequence[DicomSequence | None],
    transfer_syntax_uid: UID,
) -> None:
    """Puts per-frame functional groups, dimensions and pixels into a segmentation.

    Args:
        dataset: made by highdicom with the same segments, of one plane; changed.
        masks: (columns, rows, slices) of segment 1, 2, …, none of them empty.
        form: of a label map no two segments overlap.
        positions: LPS mm of each slice.
        orientation: six cosines.
        derivations: Derivation Image Sequence of each slice; None where no source is known.
        transfer_syntax_uid: uncompressed, or RLE Lossless for what is not binary.
    """
    columns, rows, _ = masks[0].shape
    boxes = [_boxed(number, mask) for number, mask in enumerate(masks, 1)]
    occupied = {index for box in boxes for index in box.slices}
    place = {
        index: order for order, index in enumerate((k for k in _in_order(positions, orientation) if k in occupied), 1)
    }
    planes = {index: PlanePositionSequence(CoordinateSystemNames.PATIENT, positions[index]) for index in place}
    dataset.Rows, dataset.Columns = rows, columns
    groups: list[Dataset] = []
    for box, index in _frames(boxes, place, form):
        values = [place[index]] if box is None else [box.number, place[index]]
        group = _group(values, planes[index], derivations[index])
        if box is not None and len(boxes) > 1:
            group.add(_segment_identification(box.number))
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(groups)
    if form == "labelmap":
        dataset.SegmentsOverlap = SegmentsOverlapValues.NO.value
    else:
        dataset.SegmentsOverlap = (SegmentsOverlapValues.YES if overlap(masks) else SegmentsOverlapValues.NO).value
    if len(place) > 1 and (form == "labelmap" or len(boxes) == 1):
        spacing, _ = get_volume_positions([positions[index] for index in sorted(place)], orientation, sort=False)
        if spacing is not None and spacing > 0:
            dataset.DimensionOrganizationType = DimensionOrganizationTypeValues.THREE_DIMENSIONAL.value
    _put_pixels(dataset, boxes, place, form, transfer_syntax_uid)


def overlap(masks: Sequence[Bool3D]) -> bool:
    """Whether any voxel belongs to two masks."""
    seen = np.zeros(masks[0].shape, bool)
    for mask in masks:
        box = _bounds(mask)
        if np.any(seen[box] & mask[box]):
            return True
        seen[box] |= mask[box]
    return False


def _frames(boxes: Sequence[_Box], place: dict[int, int], form: Form) -> Iterator[tuple[_Box | None, int]]:
    """Frames in their order, each with its segment; without one for a label map."""
    if form == "labelmap":
        yield from ((None, index) for index in place)
        return
    yield from _segment_frames(boxes, place)


def _segment_frames(boxes: Sequence[_Box], place: dict[int, int]) -> Iterator[tuple[_Box, int]]:
    for box in boxes:
        yield from ((box, index) for index in place if index in box.planes)


def _put_pixels(dataset: Dataset, boxes: Sequence[_Box], place: dict[int, int], form: Form, syntax: UID) -> None:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if form == "binary":
        dataset.PixelData = _packed(boxes, place, rows, columns)
        return
    kind = np.uint8 if int(dataset.BitsAllocated) == 8 else np.uint16
    encoded: list[bytes] = []
    for box, index in _frames(boxes, place, form):
        plane = np.zeros((rows, columns), kind)
        for item in boxes if box is None else (box,):
            if index in item.planes:
                item.on(plane, index, item.number if form == "labelmap" else OCCUPIED)
        if syntax.is_encapsulated:
            encoded.append(
                encode_frame(
                    plane,
                    transfer_syntax_uid=syntax,
                    bits_allocated=int(dataset.BitsAllocated),
                    bits_stored=int(dataset.BitsStored),
                    photometric_interpretation=dataset.PhotometricInterpretation,
                    pixel_representation=0,
                )
            )
        else:
            encoded.append(plane.tobytes())
    data = encapsulate(encoded) if syntax.is_encapsulated else b"".join(encoded)
    dataset.PixelData = data + b"\0" * (len(data) % 2)


def _packed(boxes: Sequence[_Box], place: dict[int, int], rows: int, columns: int) -> bytes:
    """Bits of all frames one after the other, the first pixel in the lowest bit (PS3.5 8.1.1)."""
    parts: list[bytes] = []
    rest = np.empty(0, bool)
    plane = np.zeros((rows, columns), bool)
    for box, index in _segment_frames(boxes, place):
        plane[box.rows, box.columns] = box.planes[index]
        bits = plane.ravel()
        if rest.size or bits.size % 8:
            bits = np.concatenate([rest, bits])
            whole = bits.size - bits.size % 8
            bits, rest = bits[:whole], bits[whole:]
        parts.append(np.packbits(bits, bitorder="little").tobytes())
        plane[box.rows, box.columns] = False
    parts.append(np.packbits(rest, bitorder="little").tobytes())
    data = b"".join(parts)
    return data + b"\0" * (len(data) % 2)


def _boxed(number: int, mask: Bool3D) -> _Box:
    columns, rows, slices = _bounds(mask)
    cut = np.ascontiguousarray(mask[columns, rows, slices].transpose(2, 1, 0))
    planes = {slices.start + k: plane for k, plane in enumerate(cut) if plane.any()}
    return _Box(number, tuple(planes), rows, columns, planes)


def _bounds(mask: Bool3D) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask."""
    in_plane: NDArray[np.bool_] = np.any(mask, axis=2)
    columns = _span(np.any(in_plane, axis=1))
    rows = _span(np.any(in_plane, axis=0))
    return columns, rows, _span(np.any(mask[columns, rows], axis=(0, 1)))


def _span(occupied: NDArray[np.bool_]) -> slice:
    found = np.flatnonzero(occupied)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _in_order(positions: Sequence[tuple[float, float, float]], orientation: Sequence[float]) -> list[int]:
    """Slices by their distance along the normal, as highdicom numbers them."""
    normal = get_normal_vector(orientation, index_convention=VOLUME_INDEX_CONVENTION)
    return [int(index) for index in np.argsort(np.asarray(positions) @ normal, kind="stable")]


def _group(values: list[int], position: PlanePositionSequence, derivation: DicomSequence | None) -> Dataset:
    """One item of Per-Frame Functional Groups. Elements are added by tag: attribute access costs several times more."""
    content = Dataset()
    content.add(DataElement(_DIMENSION_INDEX_VALUES, "UL", values))
    group = Dataset()
    group.add(DataElement(_FRAME_CONTENT, "SQ", [content]))
    group.add(DataElement(_PLANE_POSITION, "SQ", position))
    group.add(DataElement(_DERIVATION_IMAGE, "SQ", derivation if derivation is not None else []))
    return group


def _segment_identification(number: int) -> DataElement:
    item = Dataset()
    item.add(DataElement(_REFERENCED_SEGMENT_NUMBER, "US", number))
    return DataElement(_SEGMENT_IDENTIFICATION, "SQ", [item])
