"""What happens to a world matrix: pooling, cropping, reduction to a coarser grid, reference grids, resampling.

A world matrix is a 4×4 float64 array that takes a voxel index (the voxel's centre) to RAS millimetres. It may be
oblique, anisotropic or sheared (CT gantry tilt). Paper section 3.1, "Native Geometry Processing".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vp_model.interpolation import interpolated

World = NDArray[np.float64]
Shape = tuple[int, int, int]

SAME_GEOMETRY_TOLERANCE_MM = 1e-3
"""Two grids whose corners lie nearer than this are one grid; nothing is resampled between them."""
POOLING = 2
"""Pooling factor of every level (paper A.3)."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Features on a grid: `features` (b, c, w, h, d) and `world` (voxel index → RAS mm)."""

    features: torch.Tensor
    world: World

    @property
    def shape(self) -> Shape:
        w, h, d = self.features.shape[-3:]
        return int(w), int(h), int(d)

    def with_features(self, features: torch.Tensor) -> Placed:
        return Placed(features, self.world)

    def to(self, device: torch.device) -> Placed:
        return Placed(self.features.to(device), self.world)


def spacing(world: World) -> NDArray[np.float64]:
    """(3,) length in mm of one index step along each axis."""
    lengths: NDArray[np.float64] = np.linalg.norm(world[:3, :3], axis=0)
    return lengths


def scaled_world(world: World, factors: Sequence[float] | NDArray[np.float64]) -> World:
    """The matrix after each `factors` voxels became one: the first new centre is the middle of those it covers.

    Used for pooling (factors 1 or 2) and for reduction to a working spacing (any factor ≥ 1).
    """
    factors = np.asarray(factors, dtype=np.float64)
    result = np.array(world, dtype=np.float64)
    result[:3, :3] = world[:3, :3] * factors
    result[:3, 3] = world[:3, :3] @ ((factors - 1) / 2) + world[:3, 3]
    return result


def cropped_world(world: World, start: Sequence[int]) -> World:
    """The matrix of the same lattice when index (0, 0, 0) moves to `start`."""
    result = np.array(world, dtype=np.float64)
    result[:3, 3] = world[:3, :3] @ np.asarray(start, dtype=np.float64) + world[:3, 3]
    return result


def pooling_factors(world: World, shape: Shape) -> Shape:
    """Pooling factor (1 or 2) of each axis at one level.

    An axis is pooled only while its anisotropy ratio (its spacing over the finest) is lower than the pooling factor
    (paper 3.1), so that thick slices wait until the plane has become as coarse; an axis of one voxel cannot be pooled.
    """
    lengths = spacing(world)
    ratio = lengths / lengths.min()
    first, second, third = (
        POOLING if ratio[axis] < POOLING - 1e-6 and shape[axis] >= POOLING else 1 for axis in range(3)
    )
    return first, second, third


def pooled_grid(shape: Shape, world: World) -> tuple[Shape, World]:
    """The grid after `pool`."""
    factors = pooling_factors(world, shape)
    w, h, d = (-(-size // factor) for size, factor in zip(shape, factors, strict=True))
    return (w, h, d), scaled_world(world, factors)


def pool(placed: Placed) -> Placed:
    """Max-pool along the axes that the anisotropy rule allows; the world matrix follows.

    An odd last voxel is pooled alone (ceiling), so that nothing of the field of view is lost.
    """
    factors = pooling_factors(placed.world, placed.shape)
    pooled = functional.max_pool3d(placed.features, factors, stride=factors, ceil_mode=True)
    return Placed(pooled, scaled_world(placed.world, factors))


def upsample_to(placed: Placed, shape: Shape, world: World) -> torch.Tensor:
    """Features of a pooled level on the grid that it was pooled from, trilinear and exact in world coordinates.

    Raises:
        ValueError: the grid is not one from which `placed` could have been pooled.
    """
    factors = np.rint(spacing(placed.world) / spacing(world)).astype(int)
    doubled = tuple(size * int(factor) for size, factor in zip(placed.shape, factors, strict=True))
    surplus = [got - size for size, got in zip(shape, doubled, strict=True)]
    if min(surplus) < 0 or max(surplus) > 1:
        raise ValueError(f"A grid of {placed.shape} voxels cannot be the pooled form of one of {shape}.")
    if doubled == placed.shape:
        return placed.features
    # The operator itself, since `interpolate` takes a size or factors: of an odd grid it gives one voxel too many, and
    # cutting that off copies all the others before the next convolution.
    scales = [float(factor) for factor in factors]
    enlarged: torch.Tensor = torch.ops.aten.upsample_trilinear3d(placed.features, shape, False, *scales)
    return enlarged


def corners(shape: Shape, world: World) -> NDArray[np.float64]:
    """(8, 3) RAS mm of the centres of the eight corner voxels."""
    indices = np.array(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij"), dtype=np.float64)
    points: NDArray[np.float64] = indices.reshape(3, -1).T @ world[:3, :3].T + world[:3, 3]
    return points


def same_geometry(grids: Sequence[tuple[Shape, World]]) -> bool:
    """Whether all grids have the same shape and the same place within `SAME_GEOMETRY_TOLERANCE_MM`."""
    shape, world = grids[0]
    reference = corners(shape, world)
    return all(
        other == shape and float(np.abs(corners(other, matrix) - reference).max()) < SAME_GEOMETRY_TOLERANCE_MM
        for other, matrix in grids[1:]
    )


def reference_grid(grids: Sequence[tuple[Shape, World]], isotropic: bool) -> tuple[Shape, World]:
    """The shared grid on which the volumes of a set meet (paper 3.1), independent of their order.

    It covers every volume, at the smallest spacing among them: one spacing for all axes (`isotropic`, the paper's), or
    the smallest of each axis, which keeps thick slices thick where all volumes are thick. Its axes are those of the
    volumes where they agree, else the axes of RAS.
    """
    worlds = [world for _, world in grids]
    directions = [world[:3, :3] / spacing(world) for world in worlds]
    agree = all(np.abs(direction - directions[0]).max() < 1e-4 for direction in directions)
    axes = np.eye(3)
    if agree:  # the mean, not the first: where they differ by a hair, the order of the volumes must not matter
        mean = np.mean(directions, axis=0)
        mean = mean / np.linalg.norm(mean, axis=0)
        axes = mean if np.abs(mean.T @ mean - np.eye(3)).max() < 1e-4 else axes
    lengths = np.min([spacing(world) for world in worlds], axis=0)
    if isotropic:
        lengths = np.full(3, lengths.min())
    matrix = np.eye(4)
    matrix[:3, :3] = axes * lengths
    points = np.concatenate([corners(shape, world) for shape, world in grids])
    indices = points @ np.linalg.inv(matrix[:3, :3]).T
    low, high = indices.min(axis=0), indices.max(axis=0)
    sizes = np.maximum(np.ceil(high - low - 1e-6).astype(int) + 1, 1)
    matrix[:3, 3] = matrix[:3, :3] @ ((low + high) / 2 - (sizes - 1) / 2)
    return (int(sizes[0]), int(sizes[1]), int(sizes[2])), matrix


def moved_world(world: World, box: Sequence[slice]) -> World:
    """The matrix of a box of a grid."""
    result = np.array(world, dtype=np.float64)
    result[:3, 3] += result[:3, :3] @ np.array([side.start for side in box], dtype=np.float64)
    return result


def sampling_grid(
    shape: Shape,
    world: World,
    target_shape: Shape,
    target_world: World,
    device: torch.device | None = None,
    start: Shape = (0, 0, 0),
) -> torch.Tensor:
    """Where a target's voxels lie in a source, in the coordinates of `grid_sample`: (1, w, h, d, 3).

    `grid_sample` wants the last tensor axis first and [-1, 1] across voxel borders (align_corners=False). A block of a
    target, `target_shape` voxels from `start` on, gets the very numbers that it has in the grid of the whole target.
    """
    matrix = np.linalg.solve(world, target_world)
    scale = 2.0 / np.asarray(shape, dtype=np.float64)
    offset = (matrix[:3, 3] + 0.5) * scale - 1.0
    linear = matrix[:3, :3] * scale[:, None]
    axes = [
        torch.arange(first, first + size, dtype=torch.float32, device=device)
        for first, size in zip(start, target_shape, strict=True)
    ]
    columns = []
    for row in (2, 1, 0):
        value = torch.full(target_shape, float(offset[row]), dtype=torch.float32, device=device)
        for axis, view in enumerate(((-1, 1, 1), (1, -1, 1), (1, 1, -1))):
            if linear[row, axis] != 0.0:
                value = value + float(linear[row, axis]) * axes[axis].view(view)
        columns.append(value)
    return torch.stack(columns, dim=-1)[None]


def resample(
    placed: Placed, shape: Shape, world: World, outside: str = "zeros", mode: str = "bilinear"
) -> torch.Tensor:
    """Features (b, c, w, h, d) on another grid: trilinear (`bilinear`, as torch names it) or `nearest`.

    Args:
        outside: `zeros`, or `border` to repeat the outermost voxels.
    """
    if same_geometry([(placed.shape, placed.world), (shape, world)]):
        return placed.features
    grid = sampling_grid(placed.shape, placed.world, shape, world, placed.features.device)
    if mode == "bilinear" and outside == "border":
        return interpolated(placed.features, grid)
    grid = grid.to(placed.features.dtype).expand(placed.features.shape[0], -1, -1, -1, -1)
    return functional.grid_sample(placed.features, grid, mode=mode, padding_mode=outside, align_corners=False)


def field_of_view(
    shape: Shape,
    world: World,
    target_shape: Shape,
    target_world: World,
    start: Shape = (0, 0, 0),
    device: torch.device | None = None,
) -> torch.Tensor:
    """(w, h, d) bool on the target grid, or on its block from `start` on: whether the voxel's centre lies inside the
    source's volume.
    """
    return covered(sampling_grid(shape, world, target_shape, target_world, device, start))


def covered(places: torch.Tensor) -> torch.Tensor:
    """(w, h, d) bool: which places of a `sampling_grid` lie inside its source's volume."""
    return (places.abs() <= 1.0 + 1e-6).all(dim=-1)[0]
