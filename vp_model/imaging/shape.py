"""Lengths, areas and positions of a region, in RAS millimetres.

A voxel is the parallelepiped around its centre: extents, boxes and diameters are measured to voxel *corners*, the
centre of mass from voxel centres.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi
from scipy.spatial.distance import cdist

from vp_model.imaging.grid import to_world
from vp_model.imaging.region import Region

Vector = tuple[float, float, float]
AXES = {"left-right": 0, "anterior-posterior": 1, "superior-inferior": 2}
"""Anatomical axes and their index in RAS coordinates."""


class EmptyRegionError(ValueError):
    """A shape was asked of a region without voxels."""


def center_of_mass(region: Region) -> Vector:
    """Mean of the voxel centres, from the number of voxels in each plane."""
    _check(region)
    mean = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.count_nonzero(region.voxels, axis=others)
        mean.append(float(np.dot(planes, np.arange(planes.size)) / planes.sum()))
    return _vector(to_world(np.array([mean]), region.world)[0])


def extent(region: Region, axis: int) -> tuple[float, tuple[Vector, Vector]]:
    """Extent along a RAS axis (0 right, 1 anterior, 2 superior), and the ends of a line of that length.

    Exact for the union of the voxels: the projection of the voxel corners. The line runs along the axis through the
    centre of mass.
    """
    low, high = bounding_box(region)
    first, last = list(center_of_mass(region)), list(center_of_mass(region))
    first[axis], last[axis] = low[axis], high[axis]
    return high[axis] - low[axis], (_vector(np.asarray(first)), _vector(np.asarray(last)))


def bounding_box(region: Region) -> tuple[Vector, Vector]:
    """Lowest and highest corner, in RAS mm, of the box along the anatomical axes that holds all voxel corners."""
    low, high = _span(region, np.eye(3))
    return _vector(low), _vector(high)


def oriented_extents(region: Region) -> tuple[Vector, NDArray[np.float64]]:
    """Extents along the region's own principal axes, longest first, and those axes as the columns of (3, 3)."""
    _check(region)
    points = region.points()
    axes = np.eye(3) if len(points) == 1 else np.linalg.eigh(np.cov(points.T))[1]
    low, high = _span(region, axes)
    order = np.argsort(low - high)
    return _vector((high - low)[order]), axes[:, order]


def oriented_box(region: Region) -> tuple[Vector, tuple[Vector, ...]]:
    """Extents of the box along the region's principal axes, longest first, and the box's eight corners in RAS mm."""
    extents, axes = oriented_extents(region)
    low, high = _span(region, axes)
    corners = np.array(list(product(*zip(low, high, strict=True)))) @ axes.T
    return extents, tuple(_vector(corner) for corner in corners)


def sphericity(region: Region) -> float:
    """Surface of the ball of the region's volume over its own surface: 1 for a ball, less for all else.

    The surface is an estimate (see `surface_area`): tiny regions may exceed 1 by some percent.
    """
    return float(np.pi ** (1 / 3) * (6 * region.volume) ** (2 / 3) / surface_area(region))


def longest_diameter(region: Region) -> tuple[float, tuple[Vector, Vector]]:
    """The greatest distance between two voxel corners of a region, and the two corners.

    Only corners of the convex hull can be the ends, and only the first and last voxel of each column can have them.
    """
    corners = _outer_corners(region)
    try:
        corners = corners[ConvexHull(corners).vertices]
    except QhullError as error:  # a hull needs a volume: eight corners of one voxel always have it
        raise ValueError("The voxel grid is degenerate: its matrix has no volume.") from error
    best, ends = -1.0, (0, 0)
    for begin in range(0, len(corners), 512):
        distances = cdist(corners[begin : begin + 512], corners)
        row, column = np.unravel_index(int(np.argmax(distances)), distances.shape)
        if distances[row, column] > best:
            best, ends = float(distances[row, column]), (begin + int(row), int(column))
    return best, (_vector(corners[ends[0]]), _vector(corners[ends[1]]))


def surface_area(region: Region) -> float:
    """Area of the boundary in mm² by the Cauchy-Crofton formula over the 26 directions to neighbouring voxels.

    Lines of direction u cross the boundary where neighbouring voxels differ; a lattice has one line per area V/|u|.
    Averaged over directions, area = 2 · Σ w(u) · crossings(u) · V/|u|, with w the share of the sphere nearest to u
    (Voronoi cells in mm, so anisotropic and sheared lattices are weighted correctly). Lehmann and Legland 2012,
    "Efficient N-dimensional surface estimation using Crofton formula and run-length encoding".
    """
    _check(region)
    matrix = region.grid.world[:3, :3]
    steps = np.array([step for step in product((-1, 0, 1), repeat=3) if step != (0, 0, 0)])
    vectors = steps @ matrix.T
    lengths = np.linalg.norm(vectors, axis=1)
    weights = SphericalVoronoi(vectors / lengths[:, None]).calculate_areas() / (4 * np.pi)
    padded = np.pad(region.voxels, 1)
    total = 0.0
    for step, length, weight in zip(steps, lengths, weights, strict=True):
        here = tuple(slice(max(0, -int(s)), padded.shape[axis] - max(0, int(s))) for axis, s in enumerate(step))
        there = tuple(slice(max(0, int(s)), padded.shape[axis] - max(0, -int(s))) for axis, s in enumerate(step))
        crossings = int(np.count_nonzero(padded[here] != padded[there]))
        total += weight * crossings / length
    return 2 * total * region.grid.voxel_volume


def _check(region: Region) -> None:
    if region.empty:
        raise EmptyRegionError("The region is empty: it has no shape.")


def _span(region: Region, axes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest projection of the voxel corners on each column of `axes` (3, 3)."""
    projected = to_world(_outer_voxels(region), region.world) @ axes
    half = 0.5 * np.abs(region.grid.world[:3, :3].T @ axes).sum(axis=0)
    return projected.min(axis=0) - half, projected.max(axis=0) + half


def _outer_voxels(region: Region) -> NDArray[np.int64]:
    """Indices (n, 3) of the first and last voxel of each column along the box's longest axis.

    A linear function of position is greatest and least at one of these.
    """
    _check(region)
    axis = int(np.argmax(region.voxels.shape))
    voxels = np.moveaxis(region.voxels, axis, -1)
    rows = np.argwhere(voxels.any(axis=-1))
    columns = voxels[rows[:, 0], rows[:, 1]]
    first = columns.argmax(axis=1)
    last = columns.shape[1] - 1 - columns[:, ::-1].argmax(axis=1)
    ends = np.concatenate([np.insert(rows, axis, first, axis=1), np.insert(rows, axis, last, axis=1)])
    return np.unique(ends, axis=0)


def _outer_corners(region: Region) -> NDArray[np.float64]:
    """The eight corners, in RAS mm, of each outer voxel: all vertices of the convex hull are among them."""
    offsets = np.array(list(product((-0.5, 0.5), repeat=3)))
    corners = np.unique((_outer_voxels(region)[:, None, :] + offsets).reshape(-1, 3), axis=0)
    return to_world(corners, region.world)


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
