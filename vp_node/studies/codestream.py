"""The size that a compressed frame declares for itself, read before a decoder may allocate for it.

JPEG and JPEG-LS: the start-of-frame marker (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2). JPEG 2000: the SIZ segment
(ISO/IEC 15444-1 A.5.1).
"""

from __future__ import annotations

import struct

_START_OF_IMAGE = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC); F7 is JPEG-LS.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def declared_size(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG, JPEG-LS or JPEG 2000 codestream; None where it is none of these.

    Raises:
        ValueError: it begins like one and ends, or breaks off, before its size.
    """
    try:
        if stream.startswith(_JPEG_2000):
            return _jpeg_2000(stream)
        if stream.startswith(_START_OF_IMAGE):
            return _jpeg(stream)
    except (struct.error, IndexError) as error:
        raise ValueError("the compressed frame breaks off inside its header") from error
    return None


def _jpeg_2000(stream: bytes) -> tuple[int, int, int]:
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    return bottom - top, right - left, components


def _jpeg(stream: bytes) -> tuple[int, int, int]:
    offset = 2
    while True:
        if stream[offset] != 0xFF:
            raise ValueError("the compressed frame's header is damaged")
        marker = stream[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker in _STANDALONE:
            offset += 2
            continue
        (length,) = struct.unpack_from(">H", stream, offset + 2)
        if marker in _START_OF_FRAME:
            rows, columns, components = struct.unpack_from(">HHB", stream, offset + 5)
            return rows, columns, components
        offset += 2 + length
