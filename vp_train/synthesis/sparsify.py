"""Sparsification (paper B.2): thicker slices or a smaller field of view, at random or until a study fits a budget of
voxels; what a prompt asks for is never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Shape, World, corners, cropped_world, spacing
from vp_train.synthesis.chance import Chance

SEPARATION_MM = (1.0, 6.0)
"""Slice separations (paper B.2)."""
WINDOW = (0.4, 0.95)
"""Share of the field of view along each axis that a crop keeps."""
SMALLEST = 8
"""Voxels along an axis below which nothing is cropped."""
PRESENT = 0.5
"""Share of a voxel that a region must fill somewhere to count as whole."""
TRIES = 6

Presence = Callable[[Shape, World], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Of a region on a grid: shares (n,) of the voxels (n, 3) that it touches; empty where it is not on the grid."""


def presence_of(points: NDArray[np.float64], share: Callable[[Shape, World], torch.Tensor]) -> Presence:
    """The presence of a region, measured only where it lies on a grid.

    Args:
        points: (n, 3) world mm that mark where it lies; none where it lies nowhere.
        share: (w, h, d) share of each voxel of a grid that it fills.
    """

    def measure(shape: Shape, world: World) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        nowhere = np.zeros(0, np.float32), np.zeros((0, 3), np.int64)
        if not len(points):
            return nowhere
        indices = (points - world[:3, 3]) @ np.linalg.inv(world[:3, :3]).T
        low = np.maximum(np.floor(indices.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(indices.max(axis=0)).astype(int) + 2, shape)
        if (high <= low).any():
            return nowhere
        w, h, d = (int(size) for size in high - low)
        found = share((w, h, d), cropped_world(world, low.tolist()))
        where = found.nonzero()
        shares: NDArray[np.float32] = found[where[:, 0], where[:, 1], where[:, 2]].cpu().numpy()
        return shares, where.cpu().numpy() + low

    return measure


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid that one or more images of a study share.

    Attributes:
        images: how many.
        slice_axis: the axis that slices are stacked along.
        kept: each region that must not be lost.
    """

    shape: Shape
    world: World
    slice_axis: int
    images: int = 1
    kept: tuple[Presence, ...] = ()

    @property
    def voxels(self) -> int:
        return int(np.prod(self.shape)) * self.images


def sparsify(grids: Sequence[Grid], budget_voxels: int, probability: float, chance: Chance) -> list[Grid]:
    """The grids of a study, made sparser with a `probability`, and as long as their voxels exceed the budget.

    A region that fills half a voxel somewhere still does so afterwards; one that fills less, still as much. Where a
    budget is too small for the regions of every image, the regions come first and the budget is exceeded.
    """
    result = list(grids)
    if chance.happens(probability):
        result = [sparser(grid, chance) for grid in result]
    stuck: set[int] = set()
    while sum(grid.voxels for grid in result) > budget_voxels and len(stuck) < len(result):
        largest = max((number for number in range(len(result)) if number not in stuck), key=lambda n: result[n].voxels)
        for _ in range(TRIES):
            smaller = sparser(result[largest], chance)
            if smaller.voxels == result[largest].voxels:
                smaller = cropped(result[largest], chance)
            if smaller.voxels < result[largest].voxels:
                result[largest] = smaller
                break
        else:
            stuck.add(largest)
    return result


def sparser(grid: Grid, chance: Chance) -> Grid:
    """Thicker slices or a crop, whichever is drawn."""
    return separated(grid, chance) if chance.happens(0.5) else cropped(grid, chance)


def separated(grid: Grid, chance: Chance) -> Grid:
    """Slices further apart, if a separation within `SEPARATION_MM` is drawn that loses no region; or the same."""
    present = float(spacing(grid.world)[grid.slice_axis])
    low, high = max(SEPARATION_MM[0], present), SEPARATION_MM[1]
    for _ in range(TRIES):
        if high <= low:
            break
        separation = chance.number(low, high)
        candidate = _with_separation(grid, separation)
        if candidate.voxels < grid.voxels and all(
            _strongest(kept(candidate.shape, candidate.world)) >= _wanted(kept(grid.shape, grid.world))
            for kept in grid.kept
        ):
            return candidate
        high = separation
    return grid


def cropped(grid: Grid, chance: Chance) -> Grid:
    """A smaller field of view: a window that holds each region whole where it fits, and where it does not, one of its
    voxels. At least `SMALLEST` voxels along each axis remain, or as many as there were.
    """
    shape = np.asarray(grid.shape)
    window = np.ceil(shape * chance.uniform(*WINDOW, 3).numpy()).astype(int)
    window = np.minimum(np.maximum(window, SMALLEST), shape)
    anchors, boxes = [], []
    for kept in grid.kept:
        shares, places = kept(grid.shape, grid.world)
        if len(shares):
            strong = places[shares >= min(PRESENT, float(shares.max()))]
            anchors.append(strong[chance.integer(len(strong))])
            boxes += [places.min(axis=0), places.max(axis=0)]
    free = chance.uniform(0.0, 1.0, 3).numpy()
    start = np.zeros(3, dtype=int)
    for axis in range(3):
        # What must lie within: the regions as a whole if the window holds them, else the voxels chosen of them.
        needed = [point[axis] for point in boxes]
        if needed and max(needed) - min(needed) >= window[axis]:
            needed = [point[axis] for point in anchors]
        first, last = (min(needed), max(needed)) if needed else (int(shape[axis]), -1)
        window[axis] = max(window[axis], last - first + 1)
        low = max(0, last + 1 - window[axis])
        high = min(shape[axis] - window[axis], first)
        start[axis] = low + round(float(free[axis]) * (high - low))
    w, h, d = (int(size) for size in window)
    return replace(grid, shape=(w, h, d), world=cropped_world(grid.world, start.tolist()))


def _with_separation(grid: Grid, separation: float) -> Grid:
    """The same field of view, about its middle, in slices of another separation."""
    axis = grid.slice_axis
    factor = separation / float(spacing(grid.world)[axis])
    count = max(1, round(grid.shape[axis] / factor))
    world = np.array(grid.world)
    world[:3, axis] = grid.world[:3, axis] * factor
    middle = corners(grid.shape, grid.world).mean(axis=0)
    shape = list(grid.shape)
    shape[axis] = count
    world[:3, 3] += middle - corners((shape[0], shape[1], shape[2]), world).mean(axis=0)
    return replace(grid, shape=(shape[0], shape[1], shape[2]), world=world)


def _strongest(found: tuple[NDArray[np.float32], NDArray[np.int64]]) -> float:
    return float(found[0].max()) if len(found[0]) else 0.0


def _wanted(found: tuple[NDArray[np.float32], NDArray[np.int64]]) -> float:
    return min(PRESENT, _strongest(found))
