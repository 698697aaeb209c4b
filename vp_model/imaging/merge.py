"""One region for a session from the probability maps of its volumes (paper, A.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.grid import Grid, Index, World, covered_box, lattice_offset, resample
from vp_model.imaging.region import (
    Region,
    array_shape,
    box_slices,
    crop_region,
    empty_region,
    region_from_mask,
)

THRESHOLD = 0.5
"""Probability above which a voxel belongs to a region."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What one volume's map says: its values, and the region above the threshold."""

    values: NDArray[np.float32]
    region: Region

    def offset(self, base: Grid) -> Index | None:
        return lattice_offset(self.region.world, base.world, array_shape(self.region.voxels))

    def box_on(self, base: Grid) -> tuple[Index, Index]:
        """Box of the base lattice outside of which this map stays below the threshold: first, one past last.

        A linear interpolation exceeds the threshold only next to a voxel that does: one voxel of margin is enough.
        """
        offset = self.offset(base)
        if offset is not None:
            i, j, k = (first + size for first, size in zip(offset, self.region.voxels.shape, strict=True))
            return offset, (i, j, k)
        i, j, k = (first - 1 for first in self.region.start)
        w, h, d = (size + 2 for size in self.region.voxels.shape)
        return covered_box((i, j, k), (w, h, d), self.region.grid.world, base.world)

    def on(self, base: Grid, begin: Index, shape: Index) -> NDArray[np.bool_]:
        """Above the threshold in a box of the base lattice."""
        offset = self.offset(base)
        if offset is not None:
            mask = np.zeros(shape, dtype=np.bool_)
            place = (offset[0] - begin[0], offset[1] - begin[1], offset[2] - begin[2])
            mask[box_slices(place, array_shape(self.region.voxels))] = self.region.voxels
            return mask
        start, voxels = self.region.padded((2, 2, 2))  # the values beside the box, which the interpolation reaches
        source = self.values[box_slices(start, array_shape(voxels))]
        world = self.region.grid.box(start, array_shape(voxels)).world
        above: NDArray[np.bool_] = resample(source, world, base.box(begin, shape)) > THRESHOLD
        return above


def merge_probabilities(maps: Sequence[tuple[NDArray[np.float32], World]]) -> Region:
    """The maximum of the maps, thresholded.

    The maps are compared on the grid of the finest volume (smallest voxels; the first among equals), extended over
    what the others found beyond its field of view; a map on another grid is resampled trilinearly.

    Args:
        maps: probabilities (w, h, d) and world matrix of each volume of one session.
    """
    if not maps:
        raise ValueError("There is no probability map to merge.")
    finest, world = min(maps, key=lambda item: float(abs(np.linalg.det(item[1][:3, :3]))))
    base = Grid(array_shape(finest), np.asarray(world, dtype=np.float64))
    found = [_Found(values, region_from_mask(values > THRESHOLD, matrix)) for values, matrix in maps]
    found = [item for item in found if not item.region.empty]
    if not found:
        return empty_region(base)
    boxes = [item.box_on(base) for item in found]
    low = np.min([first for first, _ in boxes], axis=0)
    high = np.max([last for _, last in boxes], axis=0)
    begin = (int(low[0]), int(low[1]), int(low[2]))
    shape = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    merged = np.zeros(shape, dtype=np.bool_)
    for item in found:
        merged |= item.on(base, begin, shape)
    first = np.minimum(low, 0)
    last = np.maximum(high, base.shape)
    extent = last - first
    extended = base.box((int(first[0]), int(first[1]), int(first[2])), (int(extent[0]), int(extent[1]), int(extent[2])))
    offset = low - first
    return crop_region(extended, (int(offset[0]), int(offset[1]), int(offset[2])), merged)
