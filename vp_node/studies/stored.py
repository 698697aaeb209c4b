"""Pixels straight from their place in the file, which the index knows: nothing is parsed twice.

A file that is not exactly as it was when it was indexed is left to the parser (`vp_node.studies.pixels`), which says
what is wrong with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless

from vp_node.studies.codestream import declared_size
from vp_node.studies.elements import PARSE_ERRORS
from vp_node.studies.model import FrameReference, StoredFrame, StoredLayout
from vp_node.studies.padding import Padding, within

_FASTEST = {str(JPEGLSLossless): "pyjpegls", str(JPEGLSNearLossless): "pyjpegls"}
_EXACT = 1 << 22
"""Whole intercepts below this are added to 16-bit values in single precision without rounding."""


def load_stored(
    path: Path, wanted: Sequence[tuple[int, FrameReference]], voxels: NDArray[np.float32], padding: Padding
) -> bool:
    """Reads frames of one file into their slices; False where the file has to be parsed.

    Args:
        wanted: slice index and frame, in the order of the frames.
        voxels: (slices, rows, columns), of rescaled values; written in place.
    """
    frames = [(index, frame.stored, frame.tile) for index, frame in wanted]
    first = frames[0][1]
    if first is None or any(stored is None or stored.file_state != first.file_state for _, stored, _ in frames):
        return False
    size = (first.layout.rows, first.layout.columns)
    if any(not fits_tile(tile, size, voxels.shape) for _, _, tile in frames):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        state = os.fstat(descriptor)
        if (state.st_size, state.st_mtime_ns) != first.file_state:
            return False
        held: tuple[int, NDArray[Any]] | None = None
        for slice_index, stored, tile in frames:
            assert stored is not None  # noqa: S101 (looked at above)
            if held is None or held[0] != stored.offset:
                frame = _read_frame(descriptor, stored, state.st_size)
                if frame is None:
                    return False
                held = (stored.offset, as_stored(frame, stored.layout))
            values = cut_tile(held[1], tile, voxels.shape)
            ends = stored.layout.padding
            padding.add(slice_index, within(values, ends) if ends is not None else None)
            _rescale(values, stored, voxels[slice_index])
    finally:
        os.close(descriptor)
    return True


def same_pixels(one: FrameReference, other: FrameReference) -> bool | None:
    """Whether two frames hold the same bytes; None where that cannot be told without a decoder."""
    if one.stored is None or other.stored is None:
        return None
    if one.stored.layout.transfer_syntax_uid or other.stored.layout.transfer_syntax_uid:
        return None
    held = []
    for path, stored in ((one.path, one.stored), (other.path, other.stored)):
        try:
            with path.open("rb") as file:
                file.seek(stored.offset)
                held.append(file.read(stored.layout.frame_bytes))
        except OSError:
            return None
    return held[0] == held[1]


def _read_frame(descriptor: int, stored: StoredFrame, size: int) -> NDArray[Any] | None:
    """The frame's values before they are cut to their bits, unsigned; None where a parser has to say what is wrong."""
    layout = stored.layout
    unsigned = "u1" if layout.bits_allocated == 8 else "<u2"
    if not layout.transfer_syntax_uid:
        raw = os.pread(descriptor, layout.frame_bytes, stored.offset)
        return np.frombuffer(bytearray(raw), dtype=unsigned) if len(raw) == layout.frame_bytes else None
    try:
        encapsulated = os.pread(descriptor, size - stored.offset, stored.offset)
        stream = next(generate_frames(encapsulated, number_of_frames=1))
        if declared_size(stream) not in (None, (layout.rows, layout.columns, 1)):
            return None  # before a decoder allocates what the frame asks for
        return np.array(_decode(encapsulated, layout)).view(unsigned)
    except (RuntimeError, StopIteration, *PARSE_ERRORS):
        return None


def _decode(encapsulated: bytes, layout: StoredLayout) -> NDArray[Any]:
    decoder = get_decoder(UID(layout.transfer_syntax_uid))
    options: Any = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": PhotometricInterpretation.MONOCHROME2,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": "PixelData",
    }
    plugin = fastest_plugin(decoder, layout.transfer_syntax_uid)
    decoded, _ = decoder.as_array(encapsulated, index=0, raw=True, decoding_plugin=plugin, **options)
    if decoded.shape != (layout.rows, layout.columns):
        raise ValueError("A decoded frame has another size than its header says.")
    return decoded


def fastest_plugin(decoder: Decoder, syntax: str) -> str:
    """The name of a decoder that is faster than pydicom's own choice; empty where there is none at hand."""
    fastest = _FASTEST.get(syntax, "")
    return fastest if fastest in decoder.available_plugins else ""


def as_stored(unsigned: NDArray[Any], layout: StoredLayout) -> NDArray[Any]:
    """Stored values (rows, columns), cut and sign-extended to Bits Stored in place: other bits may hold overlays."""
    values = unsigned.reshape(layout.rows, layout.columns)
    if layout.bits_stored < layout.bits_allocated:
        values &= values.dtype.type((1 << layout.bits_stored) - 1)
    if not layout.signed:
        return values
    signed: NDArray[Any] = values.view(values.dtype.str.replace("u", "i"))
    if layout.bits_stored < layout.bits_allocated:
        sign = signed.dtype.type(1 << (layout.bits_stored - 1))
        signed ^= sign
        signed -= sign
    return signed


def fits_tile(tile: tuple[int, int] | None, size: tuple[int, int], shape: Sequence[int]) -> bool:
    """Whether a slice of a volume lies inside a frame.

    Args:
        size: rows and columns of the frame.
        shape: (slices, rows, columns) of the volume.
    """
    if tile is None:
        return tuple(size) == tuple(shape[1:])
    column, row = tile
    return 0 <= column <= size[1] - shape[2] and 0 <= row <= size[0] - shape[1]


def cut_tile(frame: NDArray[Any], tile: tuple[int, int] | None, shape: Sequence[int]) -> NDArray[Any]:
    """The part of a frame that is one slice; arguments as in `fits_tile`."""
    if tile is None:
        return frame
    column, row = tile
    return frame[row : row + shape[1], column : column + shape[2]]


def _rescale(values: NDArray[Any], stored: StoredFrame, out: NDArray[np.float32]) -> None:
    if stored.layout.inverted:
        # Within the range of Bits Stored; the type of the values holds it.
        values = (
            -1 - values if stored.layout.signed else values.dtype.type((1 << stored.layout.bits_stored) - 1) - values
        )
    if stored.slope == 1.0 and stored.intercept == 0.0:
        out[...] = values
    elif stored.slope == 1.0 and stored.intercept.is_integer() and abs(stored.intercept) < _EXACT:
        np.add(values, np.float32(stored.intercept), out=out)
    else:
        # One frame in double precision costs little, and rounds once.
        exact = np.multiply(values, stored.slope, dtype=np.float64)
        exact += stored.intercept
        out[...] = exact
