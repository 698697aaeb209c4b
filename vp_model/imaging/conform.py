"""Images on other grids: axes turned to an orientation (a permutation and flips), resampled, reduced, cropped, padded.

Turning axes never touches a value: an oblique or sheared matrix stays what it was, written for the new order of axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.imaging.grid import Grid, Index, World, resample, spacing
from vp_model.imaging.intensity import Image, background

ANATOMICAL = ("LR", "PA", "IS")
"""Letters of the negative and positive direction of each RAS axis."""
MAXIMUM_VOXELS = 2_000_000_000
"""A grid beyond this is a mistake in its spacing, not an image."""


def orientation(world: World) -> str:
    """Where each index axis runs, nearest first: `RAS`, `LPI`, …; every anatomical axis occurs once.

    Axes are matched by the sum of cosines over all pairings, so that 45° obliques have one answer and sheared axes
    never share a letter.
    """
    cosines = world[:3, :3] / spacing(world)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    best = max(orders, key=lambda order: sum(abs(cosines[order[axis], axis]) for axis in range(3)))
    return "".join(ANATOMICAL[best[axis]][int(cosines[best[axis], axis] > 0)] for axis in range(3))


def reorient(image: Image, target: str = "RAS") -> Image:
    """The same voxels with their axes permuted and flipped so that they run nearest to `target`.

    Args:
        target: three letters, one of each of LR, PA, IS: the direction in which each index axis shall grow.

    Raises:
        ValueError: `target` is no orientation.
    """
    order, flips = turns(orientation(image.world), target)
    voxels = image.voxels.transpose(order)
    voxels = voxels[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    turn = np.eye(4)
    turn[:3, :3] = 0
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        turn[old, new] = -1 if flip else 1
        turn[old, 3] = image.voxels.shape[old] - 1 if flip else 0
    return Image(np.ascontiguousarray(voxels), image.world @ turn)


def turns(source: str, target: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For each axis of `target`: which axis of `source` it is, and whether it runs the other way."""
    letters = [next((axis for axis, pair in enumerate(ANATOMICAL) if letter in pair), -1) for letter in target.upper()]
    if sorted(letters) != [0, 1, 2]:
        raise ValueError(f"{target!r} is no orientation: write one letter of each of L/R, P/A and I/S, as in RAS.")
    order, flips = [], []
    for letter, axis in zip(target.upper(), letters, strict=True):
        position = next(place for place, own in enumerate(source) if own in ANATOMICAL[axis])
        order.append(position)
        flips.append(source[position] != letter)
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def resample_to(image: Image, grid: Grid, order: Literal[0, 1] = 1) -> Image:
    """The image on another grid, trilinear (order 1) or nearest (order 0); air beyond its field of view.

    Along axes that become coarser it is smoothed first, so that what lies between samples is not lost (an index step
    of the target that covers k of the source is averaged with a Gaussian of standard deviation √(k² − 1) / 2).
    """
    if np.prod([float(size) for size in grid.shape]) > MAXIMUM_VOXELS:
        raise ValueError(f"A grid of {grid.shape} voxels is too large: choose a coarser spacing.")
    outside = background(image)
    voxels = image.voxels
    if order == 1:
        relative = np.abs(np.asarray(np.linalg.solve(image.world, grid.world))[:3, :3])
        steps = np.maximum(relative.max(axis=1), 1.0)
        if (steps > 1.001).any():
            voxels = ndimage.gaussian_filter(voxels, 0.5 * np.sqrt(steps**2 - 1), mode="nearest", truncate=3.0)
    return Image(resample(voxels, image.world, grid, order, outside), grid.world)


def resample_spacing(image: Image, target: Sequence[float] | float, order: Literal[0, 1] = 1) -> Image:
    """The image with other voxel sizes in mm, its axes and its field of view kept."""
    return resample_to(image, spaced_grid(image.grid, target), order)


def spaced_grid(grid: Grid, target: Sequence[float] | float) -> Grid:
    """The grid of the same axes and field of view with steps of `target` mm; the outer voxel borders stay centred."""
    wanted = np.broadcast_to(np.asarray(target, dtype=np.float64), 3)
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError("Voxel sizes are positive numbers in mm.")
    lengths = grid.spacing
    extents = np.asarray(grid.shape) * lengths
    sizes = np.maximum(np.ceil(extents / wanted - 1e-6), 1).astype(np.int64)
    world = np.array(grid.world)
    world[:3, :3] = grid.world[:3, :3] * (wanted / lengths)
    middle = grid.world[:3, :3] @ ((np.asarray(grid.shape) - 1) / 2) + grid.world[:3, 3]
    world[:3, 3] = middle - world[:3, :3] @ ((sizes - 1) / 2)
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), world)


def reduce(image: Image, least: float) -> Image:
    """The mean of blocks of whole voxels along axes finer than `least` mm; a rest at the end is left out."""
    factors = np.maximum(np.floor(least / image.grid.spacing + 1e-6).astype(int), 1)
    factors = np.minimum(factors, image.voxels.shape)
    sizes = np.asarray(image.voxels.shape) // factors
    i, j, k = (int(size * factor) for size, factor in zip(sizes, factors, strict=True))
    blocks = image.voxels[:i, :j, :k].reshape(sizes[0], factors[0], sizes[1], factors[1], sizes[2], factors[2])
    world = np.array(image.world)
    world[:3, :3] = image.world[:3, :3] * factors
    world[:3, 3] = image.world[:3, :3] @ ((factors - 1) / 2) + image.world[:3, 3]
    return Image(blocks.mean(axis=(1, 3, 5), dtype=np.float32), world)


def cut(image: Image, start: Index, shape: Index) -> Image:
    """The box of `shape` voxels from `start`; a box that leaves the image is filled with air there."""
    low = [max(0, first) for first in start]
    high = [min(size, first + extent) for size, first, extent in zip(image.voxels.shape, start, shape, strict=True)]
    voxels: NDArray[np.float32] = np.full(shape, background(image), dtype=image.voxels.dtype)
    if all(end > begin for begin, end in zip(low, high, strict=True)):
        source = tuple(slice(begin, end) for begin, end in zip(low, high, strict=True))
        place = tuple(slice(begin - first, end - first) for begin, end, first in zip(low, high, start, strict=True))
        voxels[place] = image.voxels[source]
    return Image(voxels, image.grid.box(start, shape).world)
