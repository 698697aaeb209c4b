"""Voxel grids: a shape and the 4×4 matrix from voxel index to RAS millimetres.

Index (i, j, k) is the *centre* of a voxel; the voxel reaches half an index to each side. The matrix may be oblique,
anisotropic or sheared (gantry tilt): nothing here assumes orthogonal axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Index = tuple[int, int, int]
World = NDArray[np.float64]

LATTICE_TOLERANCE = 1e-2
"""Largest distance, in voxels, at which two grids still count as the same lattice."""
MAXIMUM_SUBSAMPLES = 5
"""Samples along one axis of a voxel when a mask of another lattice is averaged into it; odd, so that ties are rare."""
FINE_ENOUGH = 0.75
"""Ratio of voxel sizes up to which one sample, at the centre, is enough."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: `shape` (w, h, d) and `world` (voxel index → RAS mm)."""

    shape: Index
    world: World

    @property
    def voxel_volume(self) -> float:
        """mm³ of one voxel: |det| of the matrix, exact for oblique, anisotropic and sheared grids."""
        return voxel_volume(self.world)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) length in mm of each index step."""
        return spacing(self.world)

    def box(self, start: Index, shape: Index) -> Grid:
        """The grid of the box of `shape` voxels that begins at index `start` (which may be negative)."""
        return Grid(shape, shifted(self.world, start))


def voxel_volume(world: World) -> float:
    return float(abs(np.linalg.det(world[:3, :3])))


def spacing(world: World) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(world[:3, :3], axis=0)
    return lengths


def shifted(world: World, start: Index) -> World:
    """The matrix of the same lattice when index (0, 0, 0) is moved to `start`."""
    result = np.array(world, dtype=np.float64)
    result[:3, 3] = world[:3, :3] @ np.asarray(start, dtype=np.float64) + world[:3, 3]
    return result


def to_world(indices: NDArray[Any], world: World) -> NDArray[np.float64]:
    """Voxel indices (n, 3) → RAS mm (n, 3)."""
    points: NDArray[np.float64] = np.asarray(indices, dtype=np.float64) @ world[:3, :3].T + world[:3, 3]
    return points


def lattice_offset(world: World, reference: World, shape: Index) -> Index | None:
    """Index of `world`'s first voxel in `reference`'s lattice, or None where the lattices differ.

    `shape` is the size of the array on `world`: the far corner must agree too, within `LATTICE_TOLERANCE` voxels.
    """
    relative = np.asarray(np.linalg.solve(reference, world), dtype=np.float64)
    offset = np.rint(relative[:3, 3])
    corners = np.array(np.meshgrid(*[(0, max(size - 1, 0)) for size in shape], indexing="ij")).reshape(3, -1).T
    error = np.abs(to_world(corners, relative) - (corners + offset)).max()
    if error > LATTICE_TOLERANCE or np.abs(relative[:3, :3] - np.eye(3)).max() > LATTICE_TOLERANCE:
        return None
    return int(offset[0]), int(offset[1]), int(offset[2])


def covered_box(start: Index, shape: Index, world: World, target: World) -> tuple[Index, Index]:
    """Smallest box of `target`'s indices around a box of `world`'s, voxel corners included: (first, one past last)."""
    low = np.asarray(start, dtype=np.float64) - 0.5
    high = low + np.asarray(shape, dtype=np.float64)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    indices = to_world(corners, np.asarray(np.linalg.solve(target, world), dtype=np.float64))
    first = np.floor(indices.min(axis=0) + 0.5 + 1e-6).astype(int)
    last = np.ceil(indices.max(axis=0) + 0.5 - 1e-6).astype(int)
    return (int(first[0]), int(first[1]), int(first[2])), (int(last[0]), int(last[1]), int(last[2]))


def resample(
    voxels: NDArray[Any], world: World, grid: Grid, order: Literal[0, 1] = 1, outside: float = 0.0
) -> NDArray[np.float32]:
    """An image on another grid by interpolation in world coordinates.

    Beyond the outermost voxel centres the value goes over into `outside` within one voxel, so that rounding at the
    border loses nothing.

    Args:
        voxels: (w, h, d) on `world`.
        grid: where to sample.
        order: 1 trilinear, 0 nearest.
        outside: value beyond the field of view.
    """
    matrix = np.asarray(np.linalg.solve(world, grid.world), dtype=np.float64)
    result: NDArray[np.float32] = ndimage.affine_transform(
        np.asarray(voxels, dtype=np.float32),
        matrix[:3, :3],
        offset=matrix[:3, 3],
        output_shape=grid.shape,
        output=np.float32,
        order=order,
        mode="grid-constant",
        cval=outside,
        prefilter=False,
    )
    return result


def coverage(voxels: NDArray[np.bool_], world: World, grid: Grid) -> NDArray[np.float32]:
    """Share of each voxel of `grid` that a mask fills, in [0, 1].

    The mask is the union of its voxels. A voxel of the grid is sampled at several places, more along axes where it is
    larger than the mask's voxels, so that a thick slice neither loses nor doubles what lies between slice centres.
    """
    ratio = grid.spacing / spacing(world).min()
    counts = np.where(ratio > FINE_ENOUGH, np.clip(2 * np.ceil(ratio) + 1, 3, MAXIMUM_SUBSAMPLES), 1).astype(int)
    total = np.zeros(grid.shape, dtype=np.float32)
    for position in np.ndindex(int(counts[0]), int(counts[1]), int(counts[2])):
        shift = (np.asarray(position) + 0.5) / counts - 0.5
        sampled = np.array(grid.world)
        sampled[:3, 3] += grid.world[:3, :3] @ shift
        total += resample(voxels, world, Grid(grid.shape, sampled), order=0)
    return total / np.float32(counts.prod())
