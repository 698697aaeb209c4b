"""The digest of a data set: what tells an identical resend from other content under the same UID."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

PREAMBLE_BYTES = 128
CHUNK_BYTES = 1 << 20


def dataset_digest(path: Path) -> str:
    """SHA-256 of a Part 10 file without its preamble and file meta information (PS3.10 7.1).

    The meta information is left out because it names who wrote the file, not what was sent.

    Raises:
        ValueError: the file does not begin like a Part 10 file.
    """
    with path.open("rb") as file:
        _skip_meta(file)
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def inflated_size(path: Path, at_most: int) -> int:
    """Bytes of a deflated data set (PS3.5 A.5) once inflated, counted until they are more than `at_most`.

    Damage is not judged here: what cannot be inflated counts as far as it goes.

    Raises:
        ValueError: the file does not begin like a Part 10 file.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    with path.open("rb") as file:
        _skip_meta(file)
        try:
            while size <= at_most and not inflate.eof:
                compressed = inflate.unconsumed_tail or file.read(CHUNK_BYTES)
                if not compressed:
                    break
                size += len(inflate.decompress(compressed, CHUNK_BYTES))
        except zlib.error:
            return size
    return size


def _skip_meta(file: BinaryIO) -> None:
    start = file.read(PREAMBLE_BYTES + 4)
    # (0002,0000) UL, 4 bytes: the length of the rest of the group.
    element = file.read(12)
    if start[PREAMBLE_BYTES:] != b"DICM" or element[:8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ValueError("The file does not begin with a DICOM preamble and the length of its meta information.")
    file.seek(struct.unpack("<I", element[8:])[0], 1)
