"""A region: the voxels of one mask, kept as the smallest box of its grid that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.imaging.grid import Grid, Index, World, coverage, covered_box, lattice_offset, to_world

HALF = 0.5
"""Share of a voxel from which it belongs to a region that was brought to its grid."""


@dataclass(frozen=True, eq=False)
class Region:
    """Boolean voxels in a box of a grid.

    `voxels` is (w, h, d) of the box, `start` the box's first index in `grid`. Cropping makes every operation cost what
    the structure costs, not what the head does. An empty region has a box of zero voxels.
    """

    grid: Grid
    start: Index
    voxels: NDArray[np.bool_]

    @property
    def world(self) -> World:
        """4×4, index in the box → RAS mm."""
        return self.grid.box(self.start, self.grid.shape).world

    @property
    def empty(self) -> bool:
        return self.voxels.size == 0

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.voxels))

    @property
    def volume(self) -> float:
        """mm³."""
        return self.count * self.grid.voxel_volume

    def indices(self) -> NDArray[np.int64]:
        """(n, 3) indices of the voxels in the box."""
        return np.argwhere(self.voxels)

    def points(self) -> NDArray[np.float64]:
        """(n, 3) centres of the voxels in RAS mm."""
        return to_world(self.indices(), self.world)

    def full(self) -> NDArray[np.bool_]:
        """The mask on the whole grid."""
        mask = np.zeros(self.grid.shape, dtype=np.bool_)
        if not self.empty:
            mask[box_slices(self.start, array_shape(self.voxels))] = self.voxels
        return mask

    def padded(self, margin: Sequence[int]) -> tuple[Index, NDArray[np.bool_]]:
        """The box grown by `margin` voxels on each side, never beyond the grid: its start and its voxels."""
        low = [min(first, by) for first, by in zip(self.start, margin, strict=True)]
        ends = [first + size for first, size in zip(self.start, self.voxels.shape, strict=True)]
        high = [min(size - end, by) for size, end, by in zip(self.grid.shape, ends, margin, strict=True)]
        start = (self.start[0] - low[0], self.start[1] - low[1], self.start[2] - low[2])
        return start, np.pad(self.voxels, list(zip(low, high, strict=True)))

    def on(self, grid: Grid) -> Region:
        """The region on another grid: the same voxels where the lattices agree, at least half-filled ones elsewhere."""
        if self.empty:
            return empty_region(grid)
        offset = lattice_offset(self.world, grid.world, array_shape(self.voxels))
        if offset is not None:
            return crop_region(grid, *_clip(offset, self.voxels, grid.shape))
        first, last = covered_box((0, 0, 0), array_shape(self.voxels), self.world, grid.world)
        start = tuple(max(0, value) for value in first)
        stop = tuple(min(size, value) for size, value in zip(grid.shape, last, strict=True))
        shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
        if min(shape) <= 0:
            return empty_region(grid)
        begin = (start[0], start[1], start[2])
        # One voxel of background around the box: beyond its edge the interpolation must fall to zero, not stop.
        source = np.pad(self.voxels, 1)
        source_world = self.grid.box((self.start[0] - 1, self.start[1] - 1, self.start[2] - 1), (1, 1, 1)).world
        share = coverage(source, source_world, grid.box(begin, shape))
        return crop_region(grid, begin, share >= HALF)


def empty_region(grid: Grid) -> Region:
    return Region(grid, (0, 0, 0), np.zeros((0, 0, 0), dtype=np.bool_))


def crop_region(grid: Grid, start: Index, voxels: NDArray[np.bool_]) -> Region:
    """A region from voxels of the box at `start`, cropped to what is set."""
    if voxels.size == 0:
        return empty_region(grid)
    box = ndimage.find_objects(voxels.view(np.uint8))
    if not box or box[0] is None:
        return empty_region(grid)
    i, j, k = box[0]
    moved = (start[0] + int(i.start), start[1] + int(j.start), start[2] + int(k.start))
    return Region(grid, moved, np.ascontiguousarray(voxels[i, j, k]))


def region_from_mask(mask: NDArray[np.bool_], world: World) -> Region:
    """The region of a mask (w, h, d) on its own grid."""
    voxels = np.ascontiguousarray(mask, dtype=np.bool_)
    return crop_region(Grid(array_shape(voxels), np.asarray(world, dtype=np.float64)), (0, 0, 0), voxels)


def common_grid(regions: Sequence[Region]) -> Grid:
    """The finest lattice among regions, reaching over all that they hold."""
    base = min((region.grid for region in regions), key=lambda grid: grid.voxel_volume)
    first, last = _covered(regions, base)
    low, high = np.minimum(first, 0), np.maximum(last, base.shape)
    size = high - low
    return base.box((int(low[0]), int(low[1]), int(low[2])), (int(size[0]), int(size[1]), int(size[2])))


def combined_size(regions: Sequence[Region]) -> int:
    """Voxels of the box, on the finest lattice among regions, that holds all of them."""
    base = min((region.grid for region in regions), key=lambda grid: grid.voxel_volume)
    first, last = _covered(regions, base)
    return int(np.prod(last - first))


def _covered(regions: Sequence[Region], base: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Box of the base lattice that holds all regions: first index, and one past the last."""
    boxes = [
        covered_box((0, 0, 0), array_shape(region.voxels), region.world, base.world)
        for region in regions
        if not region.empty
    ]
    if not boxes:
        return np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    return np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)


def _clip(offset: Index, voxels: NDArray[np.bool_], shape: Index) -> tuple[Index, NDArray[np.bool_]]:
    low = [max(0, -value) for value in offset]
    high = [min(size, limit - value) for size, limit, value in zip(voxels.shape, shape, offset, strict=True)]
    if any(end <= begin for begin, end in zip(low, high, strict=True)):
        return (0, 0, 0), np.zeros((0, 0, 0), dtype=np.bool_)
    inside = voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return (offset[0] + low[0], offset[1] + low[1], offset[2] + low[2]), inside


def array_shape(array: NDArray[Any]) -> Index:
    w, h, d = array.shape
    return int(w), int(h), int(d)


def box_slices(start: Index, shape: Index) -> tuple[slice, slice, slice]:
    i, j, k = (slice(first, first + size) for first, size in zip(start, shape, strict=True))
    return i, j, k
