"""Volumes whose slices lie side by side in one frame: Siemens mosaics and UIH VFRAMEs.

Neither is in the standard. Both are read only where the manufacturer's private elements say how the tiles lie.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from vp_node.studies.elements import number, numbers, tags_of
from vp_node.studies.frames import Triple
from vp_node.studies.private import csa_header, mosaic_tiles, uih_frames

_TAGS = tags_of("ImagePositionPatient ImageOrientationPatient PixelSpacing SpacingBetweenSlices SliceThickness")
_MOST = 4096
"""Tiles in a frame; a scanner has some dozens."""


@dataclass(frozen=True)
class Tiles:
    """How slices lie in a frame: row by row from its upper left corner."""

    columns: int
    """Of a tile, in pixels."""
    rows: int
    across: int
    """Tiles in a row of tiles."""
    positions: tuple[Triple, ...]
    """Of the centre of each tile's first pixel, LPS mm, in the order of the tiles."""

    def corner(self, index: int) -> tuple[int, int]:
        """Column and row in the frame of a tile's first pixel."""
        down, right = divmod(index, self.across)
        return (right * self.columns, down * self.rows)


def tiles_of(dataset: Dataset, columns: int, rows: int) -> Tiles | None:
    """The tiles of a frame of so many pixels; None where there are none, or nobody says how they lie."""
    return _mosaic(dataset, columns, rows) or _vframe(dataset, columns, rows)


def _mosaic(dataset: Dataset, columns: int, rows: int) -> Tiles | None:
    """A Siemens mosaic: a square of tiles, whose position is that of a slice as large as the mosaic.

    The CSA header says along which normal the slices follow each other.
    """
    header = csa_header(dataset)
    said = csa_numbers(header, "NumberOfImagesInMosaic", 1)
    count = mosaic_tiles(dataset) or (int(said[0]) if said else 0)
    normal = csa_numbers(header, "SliceNormalVector", 3)
    position = numbers(dataset, _TAGS["ImagePositionPatient"])
    orientation = numbers(dataset, _TAGS["ImageOrientationPatient"])
    spacing = numbers(dataset, _TAGS["PixelSpacing"])
    step = number(dataset, _TAGS["SpacingBetweenSlices"]) or number(dataset, _TAGS["SliceThickness"])
    complete = len(normal) == len(position) == 3 and len(orientation) == 6 and len(spacing) == 2
    if not 1 < count <= _MOST or not complete or not step or step <= 0:
        return None
    across = math.ceil(math.sqrt(count))
    if columns % across or rows % across:
        return None
    tile = (columns // across, rows // across)
    axes = np.asarray(orientation).reshape(2, 3)
    # Half of what the mosaic is larger than a slice, along its rows and columns.
    first = np.asarray(position)
    first = first + axes[0] * spacing[1] * (columns - tile[0]) / 2 + axes[1] * spacing[0] * (rows - tile[1]) / 2
    exact = np.cross(axes[0], axes[1])
    exact *= np.sign(exact @ normal)  # the CSA header's own has fewer digits
    return Tiles(tile[0], tile[1], across, tuple(_triple(first + index * step * exact) for index in range(count)))


def _vframe(dataset: Dataset, columns: int, rows: int) -> Tiles | None:
    """A UIH VFRAME: as nearly a square of tiles as can be, with an item for each, which says where it lies."""
    items = uih_frames(dataset)
    positions = [numbers(item, _TAGS["ImagePositionPatient"]) for item in items]
    if not 1 < len(items) <= _MOST or any(len(position) != 3 for position in positions):
        return None
    across = math.ceil(math.sqrt(len(items)))
    down = math.ceil(len(items) / across)
    if columns % across or rows % down:
        return None
    return Tiles(columns // across, rows // down, across, tuple(_triple(np.asarray(item)) for item in positions))


def _triple(values: np.ndarray) -> Triple:
    return (float(values[0]), float(values[1]), float(values[2]))


_CSA_TAG = struct.Struct("<64si4siii")
_CSA_ITEM = struct.Struct("<iiii")


def csa_numbers(header: bytes, name: str, count: int) -> tuple[float, ...]:
    """The first values of an element of a Siemens CSA header (the format that begins with SV10); empty without it.

    It is a list of elements, each a name, a number of items, and the items as texts, padded to four bytes. What a peer
    sent is read within its bounds only.
    """
    if header[:4] != b"SV10":
        return ()
    try:
        (elements,) = struct.unpack_from("<I", header, 8)
        place = 16
        for _ in range(min(elements, 1024)):
            label, _, _, _, items, _ = _CSA_TAG.unpack_from(header, place)
            place += _CSA_TAG.size
            wanted = label.split(b"\0")[0] == name.encode("ascii")
            values = []
            for _ in range(items):
                _, length, _, _ = _CSA_ITEM.unpack_from(header, place)
                place += _CSA_ITEM.size
                if length < 0 or place + length > len(header):
                    return ()
                if wanted and length:
                    values.append(float(header[place : place + length].split(b"\0")[0]))
                place += (length + 3) // 4 * 4
            if wanted:
                finite = len(values) >= count and all(math.isfinite(value) for value in values[:count])
                return tuple(values[:count]) if finite else ()
    except (struct.error, ValueError):
        return ()
    return ()
