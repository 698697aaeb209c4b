"""Statistics of an image inside a region, and images made from one: cropped, with tissue removed or isolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.grid import Grid, Index, World
from vp_model.imaging.region import Region, crop_region


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels (w, h, d) in stored units, and their matrix (index → RAS mm)."""

    voxels: NDArray[np.float32]
    world: World

    @property
    def grid(self) -> Grid:
        w, h, d = self.voxels.shape
        return Grid((int(w), int(h), int(d)), self.world)


def values_in(image: Image, region: Region) -> NDArray[np.float64]:
    """The finite values of the image's own voxels that lie in the region (brought to the image's grid)."""
    inside = region.on(image.grid)
    if inside.empty:
        return np.zeros(0)
    values = image.voxels[_box(inside)][inside.voxels].astype(np.float64)
    return values[np.isfinite(values)]


def brighter_than(image: Image, region: Region, threshold: float) -> Region:
    """The voxels of the region, on the image's grid, whose value is above a threshold."""
    inside = region.on(image.grid)
    if inside.empty:
        return inside
    return crop_region(inside.grid, inside.start, inside.voxels & (image.voxels[_box(inside)] > threshold))


def darker_than(image: Image, region: Region, threshold: float) -> Region:
    """The voxels of the region, on the image's grid, whose value is below a threshold."""
    inside = region.on(image.grid)
    if inside.empty:
        return inside
    return crop_region(inside.grid, inside.start, inside.voxels & (image.voxels[_box(inside)] < threshold))


def histogram(values: NDArray[np.float64], bins: int = 64) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts (bins,) and edges (bins + 1,) of equal width between the lowest and highest value."""
    counts, edges = np.histogram(values, bins=bins)
    return counts.astype(np.int64), edges


def asymmetry(left: float, right: float) -> float:
    """Asymmetry index in percent: 100 · (left − right) / mean of both; positive where the left is larger.

    ValueError where both are zero.
    """
    mean = (left + right) / 2
    if mean == 0:
        raise ValueError("Both sides are zero: their asymmetry is not defined.")
    return 100 * (left - right) / mean


def crop(image: Image, region: Region, margin: float) -> Image:
    """The box of the image around a region, `margin` mm wider on each side, its matrix following. Values unchanged."""
    start, shape = cropped_box(image.grid, region, margin)
    i, j, k = (slice(first, first + size) for first, size in zip(start, shape, strict=True))
    return Image(np.ascontiguousarray(image.voxels[i, j, k]), image.grid.box(start, shape).world)


def cropped_box(grid: Grid, region: Region, margin: float) -> tuple[Index, Index]:
    """First index and shape of the box of `crop`. ValueError where the region is empty on this grid."""
    inside = region.on(grid)
    if inside.empty:
        raise ValueError("The region is empty on this image: there is nothing to crop to.")
    steps = [int(np.ceil(margin / size - 1e-6)) for size in grid.spacing]
    start, voxels = inside.padded(steps)
    w, h, d = voxels.shape
    return start, (int(w), int(h), int(d))


def pad(image: Image, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Image:
    """Voxels of `value` added before and after each index axis, the matrix following."""
    if min(*before, *after) < 0:
        raise ValueError("Padding cannot be negative: crop instead.")
    start = (-before[0], -before[1], -before[2])
    voxels = np.pad(image.voxels, list(zip(before, after, strict=True)), constant_values=value)
    return Image(voxels, image.grid.box(start, image.grid.shape).world)


def remove(image: Image, region: Region) -> Image:
    """The image with the region's voxels set to the image's lowest value (air)."""
    voxels = image.voxels.copy()
    inside = region.on(image.grid)
    if not inside.empty:
        box = voxels[_box(inside)]
        box[inside.voxels] = background(image)
    return Image(voxels, image.world)


def isolate(image: Image, region: Region) -> Image:
    """Only the region's voxels; all others set to the image's lowest value (air)."""
    voxels = np.full_like(image.voxels, background(image))
    inside = region.on(image.grid)
    if not inside.empty:
        place = _box(inside)
        voxels[place][inside.voxels] = image.voxels[place][inside.voxels]
    return Image(voxels, image.world)


def background(image: Image) -> float:
    """What stands for "no tissue": the lowest finite value; 0 where there is none."""
    finite = image.voxels[np.isfinite(image.voxels)]
    return float(finite.min()) if finite.size else 0.0


def _box(region: Region) -> tuple[slice, slice, slice]:
    i, j, k = (slice(first, first + size) for first, size in zip(region.start, region.voxels.shape, strict=True))
    return i, j, k
