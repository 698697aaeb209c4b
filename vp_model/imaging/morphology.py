"""Morphology of regions in millimetres: exact for anisotropic voxels, and for sheared ones.

A voxel belongs to the dilation by r when its centre lies within r of the centre of a voxel of the region; erosion is
the dilation of the background. Beyond the grid there is background.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from vp_model.imaging.grid import World, spacing
from vp_model.imaging.region import Region, common_grid, crop_region, empty_region

NEIGHBOURS = np.ones((3, 3, 3), np.bool_)
"""Voxels that share a corner are connected."""
DIRECT_BALL = 250
"""Voxels of a structuring ball up to which dilation by shifting is faster than by spectrum."""


def dilate(region: Region, radius: float) -> Region:
    """Grows a region by `radius` mm, within its grid."""
    if region.empty or radius <= 0:
        return region
    start, voxels = region.padded(_margin(region.grid.world, radius))
    return crop_region(region.grid, start, _within(voxels, region.grid.world, radius))


def erode(region: Region, radius: float) -> Region:
    """Removes what lies within `radius` mm of the background."""
    if region.empty or radius <= 0:
        return region
    background = _within(~np.pad(region.voxels, 1), region.grid.world, radius)
    return crop_region(region.grid, region.start, ~background[1:-1, 1:-1, 1:-1])


def opening(region: Region, radius: float) -> Region:
    """Erosion, then dilation: what is thinner than 2 × `radius` mm goes."""
    return dilate(erode(region, radius), radius)


def closing(region: Region, radius: float) -> Region:
    """Dilation, then erosion: gaps narrower than 2 × `radius` mm are closed. Never loses a voxel of the region."""
    if region.empty or radius <= 0:
        return region
    margin = [2 * size for size in _margin(region.grid.world, radius)]
    grown = _within(np.pad(region.voxels, [(size, size) for size in margin]), region.grid.world, radius)
    kept = ~_within(~grown, region.grid.world, radius)
    start = tuple(first - size for first, size in zip(region.start, margin, strict=True))
    low = [max(0, -first) for first in start]
    high = [min(size, limit - first) for size, limit, first in zip(kept.shape, region.grid.shape, start, strict=True)]
    inside = kept[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return crop_region(region.grid, (start[0] + low[0], start[1] + low[1], start[2] + low[2]), inside)


def fill(region: Region) -> Region:
    """Fills holes: background that the region encloses on all sides."""
    if region.empty:
        return region
    return crop_region(region.grid, region.start, ndimage.binary_fill_holes(region.voxels))


def surrounding(region: Region, radius: float) -> Region:
    """The ring of tissue within `radius` mm around a region, without the region."""
    if region.empty:
        return region
    return difference(dilate(region, radius), region)


def components(region: Region) -> tuple[Region, ...]:
    """The connected parts, largest first; equal ones in the order of their first voxel."""
    if region.empty:
        return ()
    labels = _labels(region)
    counts = np.bincount(labels.ravel())[1:]
    boxes = ndimage.find_objects(labels)
    parts = []
    for label in np.argsort(-counts, kind="stable"):
        i, j, k = boxes[label]
        start = (region.start[0] + int(i.start), region.start[1] + int(j.start), region.start[2] + int(k.start))
        parts.append(Region(region.grid, start, np.ascontiguousarray(labels[i, j, k] == label + 1)))
    return tuple(parts)


def component_sizes(region: Region) -> tuple[int, int]:
    """Number of connected parts, and voxels in all of their boxes together: what `components` would hold."""
    if region.empty:
        return 0, 0
    labels = _labels(region)
    boxes = ndimage.find_objects(labels)
    return len(boxes), int(sum(np.prod([side.stop - side.start for side in box]) for box in boxes))


def largest(region: Region) -> Region:
    """The largest connected part."""
    return _select(region, lambda counts: np.arange(counts.size) == int(np.argmax(counts)))


def larger_than(region: Region, volume: float) -> Region:
    """The connected parts of more than `volume` mm³."""
    return _select(region, lambda counts: counts * region.grid.voxel_volume > volume)


def smaller_than(region: Region, volume: float) -> Region:
    """The connected parts of less than `volume` mm³."""
    return _select(region, lambda counts: counts * region.grid.voxel_volume < volume)


def union(first: Region, second: Region) -> Region:
    return _combine(first, second, np.logical_or)


def intersection(first: Region, second: Region) -> Region:
    return _combine(first, second, np.logical_and)


def difference(first: Region, second: Region) -> Region:
    """What belongs to the first and not to the second."""
    return _combine(first, second, lambda one, other: one & ~other)


def distance_map(region: Region) -> NDArray[np.float32]:
    """Signed distance in mm from each voxel centre of the grid to the region's edge voxels: negative inside.

    Outside: distance to the nearest voxel centre of the region. Inside: minus the distance to the nearest background
    voxel centre. Infinite everywhere for an empty region. The grid's axes must be orthogonal.
    """
    if not _orthogonal(region.grid.world):
        raise ValueError("A distance map needs orthogonal voxel axes: resample the sheared volume first.")
    if region.empty:
        return np.full(region.grid.shape, np.inf, dtype=np.float32)
    mask = region.full()
    steps = spacing(region.grid.world)
    inside = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=steps)[1:-1, 1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~mask, sampling=steps)
    signed: NDArray[np.float32] = (outside - inside).astype(np.float32)
    return signed


def _combine(
    first: Region,
    second: Region,
    function: Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.bool_]],
) -> Region:
    """Boolean operation over the box that holds both, on their finest common lattice."""
    grid = common_grid((first, second))
    one, other = first.on(grid), second.on(grid)
    present = [region for region in (one, other) if not region.empty]
    if not present:
        return empty_region(grid)
    low = np.min([region.start for region in present], axis=0)
    high = np.max([np.add(region.start, region.voxels.shape) for region in present], axis=0)
    arrays = []
    for region in (one, other):
        box = np.zeros(tuple(high - low), dtype=np.bool_)
        if not region.empty:
            i, j, k = (int(value) for value in np.subtract(region.start, low))
            w, h, d = region.voxels.shape
            box[i : i + w, j : j + h, k : k + d] = region.voxels
        arrays.append(box)
    return crop_region(grid, (int(low[0]), int(low[1]), int(low[2])), function(*arrays))


def _labels(region: Region) -> NDArray[Any]:
    """Numbers of the connected parts, from 1, in the box of a region."""
    labels: NDArray[Any] = ndimage.label(region.voxels, structure=NEIGHBOURS)[0]
    return labels


def _select(region: Region, keep: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> Region:
    if region.empty:
        return region
    labels = _labels(region)
    kept = np.concatenate([[False], keep(np.bincount(labels.ravel())[1:])])
    return crop_region(region.grid, region.start, kept[labels])


def working_bytes(region: Region, radius: float) -> int:
    """Upper bound of what morphology with a radius holds at its peak: a grown box of distances, or of a spectrum."""
    if region.empty:
        return 0
    margin = _margin(region.grid.world, radius)
    voxels = int(np.prod([size + 2 * by + 2 for size, by in zip(region.voxels.shape, margin, strict=True)]))
    if _orthogonal(region.grid.world):
        return 32 * voxels
    return 48 * int(np.prod([size + 4 * by + 2 for size, by in zip(region.voxels.shape, margin, strict=True)]))


def _within(mask: NDArray[np.bool_], world: World, radius: float) -> NDArray[np.bool_]:
    """Voxels whose centre lies within `radius` mm of a centre in the mask.

    Orthogonal axes: the exact Euclidean distance. Others: the sum with a ball, directly while it is small, else by
    its spectrum (counts of neighbours, so that rounding is far below the threshold of one half).
    """
    if not mask.any():
        return np.zeros_like(mask)
    if _orthogonal(world):
        distances = ndimage.distance_transform_edt(~mask, sampling=spacing(world))
        result: NDArray[np.bool_] = distances <= radius + 1e-6
        return result
    ball = _ball(world, radius)
    if np.count_nonzero(ball) <= DIRECT_BALL:
        grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, structure=ball)
        return grown
    shape = [fft.next_fast_len(n + m, real=True) for n, m in zip(mask.shape, ball.shape, strict=True)]
    spectrum = fft.rfftn(mask.astype(np.float64), shape)
    spectrum *= fft.rfftn(ball.astype(np.float64), shape)
    counts = fft.irfftn(spectrum, shape)
    i, j, k = (slice(m // 2, m // 2 + n) for n, m in zip(mask.shape, ball.shape, strict=True))
    near: NDArray[np.bool_] = counts[i, j, k] > 0.5
    return near


def _ball(world: World, radius: float) -> NDArray[np.bool_]:
    """Index offsets whose world length is at most `radius`: (2m+1, 2n+1, 2o+1)."""
    margin = _margin(world, radius)
    offsets = np.stack(np.meshgrid(*[np.arange(-size, size + 1) for size in margin], indexing="ij"), axis=-1)
    lengths = np.linalg.norm(offsets @ world[:3, :3].T, axis=-1)
    ball: NDArray[np.bool_] = lengths <= radius + 1e-6
    return ball


def _margin(world: World, radius: float) -> list[int]:
    """Voxels along each index axis that a ball of `radius` mm reaches: from the rows of the inverse, shear included."""
    reach = radius * np.linalg.norm(np.linalg.inv(world[:3, :3]), axis=1)
    return [int(np.floor(value + 1e-6)) for value in reach]


def _orthogonal(world: World) -> bool:
    axes = world[:3, :3] / spacing(world)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4)
