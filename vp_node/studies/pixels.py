"""The voxels of a volume. Runs in the compute process only: nothing else of the node decodes what a peer sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.uid import UID

from vp_node.studies.codestream import declared_size
from vp_node.studies.elements import PARSE_ERRORS, tags_of
from vp_node.studies.frames import FRAME_TAGS, FrameHeader, frame_headers
from vp_node.studies.model import FrameReference, SourceVolume
from vp_node.studies.padding import Padding, padding_range, within
from vp_node.studies.stored import cut_tile, fastest_plugin, fits_tile, load_stored

DEFAULT_LIMIT_BYTES = 8 << 30
"""Largest volume, as float32 voxels."""

_TAGS = tags_of(
    "SOPInstanceUID Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit "
    "PixelRepresentation NumberOfFrames PlanarConfiguration PixelPaddingValue PixelPaddingRangeLimit "
    "ModalityLUTSequence ExtendedOffsetTable ExtendedOffsetTableLengths PixelData"
)
_WANTED = [*_TAGS.values(), *FRAME_TAGS.values()]


class PixelError(ValueError):
    """Pixels that cannot be read or decoded. Its text names no patient."""


def load_voxels(volume: SourceVolume, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> NDArray[np.float32]:
    """The voxels in rescaled units (Hounsfield units for CT), of shape (columns, rows, slices) as in `volume.world`.

    Stored values are cut to their Bits Stored, MONOCHROME1 is inverted within that range (the volume is flagged
    `inverted`), each frame is rescaled by its own slope and intercept (PS3.3 C.11.1.1.2), padding is brought to the
    smallest real value where it is none. Slices that never came are interpolated between their neighbours: such a
    volume is flagged `missing-slice`, and taken only where it was asked for. So is one with varying gaps, flagged
    `irregular-spacing`, whose slices are interpolated on an even grid.

    Raises:
        PixelError: pixels are missing, truncated, undecodable, or of another size than the header says.
    """
    columns, rows, slices = volume.shape
    if columns * rows * slices * 4 > limit_bytes:
        raise PixelError(
            f"The volume of {columns}×{rows}×{slices} voxels is larger than the limit of {limit_bytes} bytes."
        )
    stored = [(place, frame) for place, (_, frame) in enumerate(volume.uneven)] or [
        (index, frame) for index, frame in enumerate(volume.frames) if not frame.is_missing
    ]
    voxels = np.empty((len(volume.uneven) or slices, rows, columns), dtype=np.float32)
    padding = Padding()
    for path, wanted in _by_file(stored).items():
        if not load_stored(path, wanted, voxels, padding):
            _load_parsed(path, wanted, voxels, padding, limit_bytes)
    _fill_missing(voxels, volume.missing_slices)
    padding.apply(voxels, volume.modality)
    if volume.uneven:
        voxels = _on_even_grid(voxels, [place for place, _ in volume.uneven], slices)
    return voxels.transpose(2, 1, 0)


Wanted = list[tuple[int, FrameReference]]
"""Slice index and frame, of one file, in the order of its frames."""


def _load_parsed(path: Path, wanted: Wanted, voxels: NDArray[np.float32], padding: Padding, limit_bytes: int) -> None:
    """Parses the file and decodes its frames: what is compressed, or was not indexed in detail."""
    dataset = _read(path, wanted, voxels.shape, limit_bytes)
    headers = frame_headers(dataset, _frame_count(dataset))
    by_frame: dict[int, Wanted] = defaultdict(list)
    for slice_index, frame in wanted:
        by_frame[(frame.frame_number or 1) - 1].append((slice_index, frame))
    indices = list(by_frame)
    if max(indices) >= len(headers):
        raise PixelError("A file has fewer frames than its header said when the study came in.")
    for index, whole in zip(indices, _decoded(dataset, indices), strict=True):
        for slice_index, frame in by_frame[index]:
            stored = cut_tile(whole, frame.tile, voxels.shape)
            padded = _padding_mask(stored, dataset)
            _rescale(stored, dataset, headers[index], voxels[slice_index])
            padding.add(slice_index, padded)


def _by_file(stored: Wanted) -> dict[Path, Wanted]:
    files: dict[Path, Wanted] = defaultdict(list)
    for slice_index, frame in stored:
        files[frame.path].append((slice_index, frame))
    # A decoder walks through a file's frames once, in their order.
    return {path: sorted(wanted, key=lambda item: item[1].frame_number or 0) for path, wanted in files.items()}


def _read(path: Path, wanted: Wanted, shape: tuple[int, ...], limit_bytes: int) -> Dataset:
    """The data set, its declared size checked against the volume and against what is there."""
    try:
        dataset = dcmread(path, specific_tags=list(_WANTED))
    except (InvalidDicomError, EOFError, *PARSE_ERRORS) as error:
        raise PixelError("A file of the volume is no readable DICOM file any more.") from error
    except FileNotFoundError as error:
        raise PixelError("A file of the volume is gone. Send the study again.") from error
    first = wanted[0][1]
    if str(dataset.get("SOPInstanceUID", "")) != first.sop_instance_uid:
        raise PixelError("A file of the volume holds another instance than when the study came in.")
    if "PixelData" not in dataset or dataset.PixelData is None:
        raise PixelError("A file of the volume has no Pixel Data.")
    size = (dataset.get("Rows", 0), dataset.get("Columns", 0))
    fits = all(fits_tile(frame.tile, size, shape) for _, frame in wanted)
    if not fits or dataset.get("SamplesPerPixel", 1) != 1:
        raise PixelError("An image of the volume has another size than when the study came in.")
    expected = _expected_bytes(dataset)
    if expected > limit_bytes:
        raise PixelError(f"An image declares {expected} bytes of pixels: more than the limit of {limit_bytes}.")
    if not _syntax(dataset).is_encapsulated and len(dataset.PixelData) < expected:
        raise PixelError(
            f"Pixel Data is truncated: {len(dataset.PixelData)} bytes of {expected}. Send the study again."
        )
    return dataset


def _frame_count(dataset: Dataset) -> int:
    return max(1, int(dataset.get("NumberOfFrames") or 1))


def _expected_bytes(dataset: Dataset) -> int:
    bits = int(dataset.get("BitsAllocated", 0) or 0)
    if bits not in (8, 16, 32):
        raise PixelError(f"Bits Allocated is {bits}: only 8, 16 and 32 hold intensities.")
    return int(dataset.Rows) * int(dataset.Columns) * _frame_count(dataset) * (bits // 8)


def _syntax(dataset: Dataset) -> UID:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise PixelError("A file of the volume does not say its transfer syntax.")
    return UID(syntax)


def _decoded(dataset: Dataset, indices: list[int]) -> Iterator[NDArray[np.int64]]:
    """Stored values of the frames asked for, (rows, columns), cut and sign-extended to Bits Stored."""
    syntax = _syntax(dataset)
    if syntax.is_encapsulated:
        _check_declared_sizes(dataset, indices)
    try:
        decoder = get_decoder(syntax)
        plugin = fastest_plugin(decoder, syntax)
        frames = decoder.iter_array(
            dataset, indices=indices, raw=True, decoding_plugin=plugin, allow_excess_frames=True
        )
        for frame, _ in frames:
            if frame.shape != (dataset.Rows, dataset.Columns):
                raise PixelError("A decoded frame has another size than its header says.")
            yield _cut(frame, dataset, syntax.is_encapsulated)
    except NotImplementedError as error:
        raise PixelError(f"Pixels in transfer syntax {syntax.name} cannot be decoded here.") from error
    except PixelError:
        raise
    except (RuntimeError, *PARSE_ERRORS) as error:
        raise PixelError(f"Pixels in transfer syntax {syntax.name} are damaged: they do not decode.") from error


def _check_declared_sizes(dataset: Dataset, indices: list[int]) -> None:
    """Compares each wanted frame's own size with the header, before a decoder allocates what the frame asks for."""
    frames = _frame_count(dataset)
    try:
        offsets = dataset.get("ExtendedOffsetTable")
        lengths = dataset.get("ExtendedOffsetTableLengths")
        table = (offsets, lengths) if offsets and lengths else None
        wanted = set(indices)
        seen = set()
        for number, stream in enumerate(
            generate_frames(dataset.PixelData, number_of_frames=frames, extended_offsets=table)
        ):
            if number not in wanted:
                continue
            seen.add(number)
            size = declared_size(stream)
            if size is not None and size != (dataset.Rows, dataset.Columns, 1):
                raise PixelError("A compressed frame declares another size than its header: it is not decoded.")
    except PixelError:
        raise
    except (ValueError, IndexError, EOFError) as error:
        raise PixelError("Compressed Pixel Data is truncated or damaged. Send the study again.") from error
    if seen != wanted:
        raise PixelError("Compressed Pixel Data holds fewer frames than its header says. Send the study again.")


def _cut(frame: NDArray[Any], dataset: Dataset, encapsulated: bool) -> NDArray[np.int64]:
    """Only the bits from High Bit down are pixels (PS3.5 8.1.1): others may hold overlays, or a wrong sign."""
    stored = int(dataset.get("BitsStored", dataset.BitsAllocated))
    high = int(dataset.get("HighBit", stored - 1))
    values = frame.astype(np.int64)
    if not encapsulated and high + 1 > stored:
        values >>= high + 1 - stored
    values &= (1 << stored) - 1
    if dataset.get("PixelRepresentation", 0) == 1:
        sign = 1 << (stored - 1)
        values = (values ^ sign) - sign
    return values


def _rescale(stored: NDArray[np.int64], dataset: Dataset, header: FrameHeader, out: NDArray[np.float32]) -> None:
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        signed = dataset.get("PixelRepresentation", 0) == 1
        stored = -1 - stored if signed else (1 << int(dataset.BitsStored)) - 1 - stored
    if dataset.get("ModalityLUTSequence"):
        out[...] = apply_modality_lut(stored, dataset)
        return
    if header.slope == 1.0 and header.intercept == 0.0:
        out[...] = stored
        return
    # One frame in double precision costs little, and rounds once.
    out[...] = stored * header.slope + header.intercept


def _padding_mask(stored: NDArray[np.int64], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where Pixel Padding Value, or its range, stands (PS3.3 C.7.5.1.1.2); None where there is none."""
    ends = padding_range(dataset)
    return within(stored, ends) if ends is not None else None


def _fill_missing(voxels: NDArray[np.float32], missing: tuple[int, ...]) -> None:
    """Linear interpolation along the slices; the first and the last slice are never missing."""
    present = [index for index in range(len(voxels)) if index not in missing]
    for index in missing:
        before = max(item for item in present if item < index)
        after = min(item for item in present if item > index)
        weight = np.float32((index - before) / (after - before))
        voxels[index] = (1 - weight) * voxels[before] + weight * voxels[after]


def _on_even_grid(voxels: NDArray[np.float32], places: Sequence[float], slices: int) -> NDArray[np.float32]:
    """Slices of an even grid, each interpolated between the acquired ones before and after it.

    Args:
        voxels: (acquired slices, rows, columns).
        places: of the acquired slices, as indices of the grid, ascending.
    """
    even = np.empty((slices, *voxels.shape[1:]), dtype=np.float32)
    for index in range(slices):
        after = int(np.clip(np.searchsorted(places, index), 1, len(places) - 1))
        share = np.float32(np.clip((index - places[after - 1]) / (places[after] - places[after - 1]), 0, 1))
        even[index] = (1 - share) * voxels[after - 1] + share * voxels[after]
    return even
