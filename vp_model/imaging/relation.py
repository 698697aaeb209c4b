"""How two regions lie to each other: overlap, distance and direction; and the part of a region at a position."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from vp_model.imaging.morphology import components, intersection
from vp_model.imaging.region import Region
from vp_model.imaging.shape import EmptyRegionError, Vector, center_of_mass

DIRECTIONS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""Words for the negative and positive direction of each RAS axis."""


def share_inside(region: Region, other: Region) -> float:
    """Share of a region's volume that lies in another, in [0, 1]; 0 for an empty region."""
    return 0.0 if region.empty else intersection(region, other).volume / region.volume


def dice(region: Region, other: Region) -> float:
    """Twice the common volume over the sum of both, in [0, 1]; 1 where both are empty."""
    total = region.volume + other.volume
    return 1.0 if total == 0 else 2 * intersection(region, other).volume / total


def gap(region: Region, other: Region) -> tuple[float, tuple[Vector, Vector]]:
    """Smallest distance in mm between voxel centres of two regions, and the two centres; 0 where they overlap.

    EmptyRegionError where one is empty.
    """
    if region.empty or other.empty:
        raise EmptyRegionError("A distance needs two regions that are not empty.")
    points, others = region.points(), other.points()
    found = cKDTree(others).query(points)
    distances, nearest = np.atleast_1d(found[0]), np.atleast_1d(found[1])
    best = int(np.argmin(distances))
    return float(distances[best]), (_vector(points[best]), _vector(others[int(nearest[best])]))


def direction(region: Region, other: Region, least: float = 5.0) -> tuple[str, ...]:
    """Where a region lies, seen from another, by their centres of mass: `("left", "superior")`.

    Axes along which the centres differ by less than `least` mm are left out; the largest difference comes first.
    """
    offset = np.subtract(center_of_mass(region), center_of_mass(other))
    axes = [axis for axis in np.argsort(-np.abs(offset), kind="stable") if abs(offset[axis]) >= least]
    return tuple(DIRECTIONS[axis][int(offset[axis] > 0)] for axis in axes)


def component_at(region: Region, point: Vector) -> Region:
    """The connected part nearest to a position in RAS mm (the one that holds it, where one does).

    EmptyRegionError where the region is empty.
    """
    parts = components(region)
    if not parts:
        raise EmptyRegionError("An empty region has no parts.")
    return min(parts, key=lambda part: float(np.linalg.norm(part.points() - np.asarray(point), axis=1).min()))


def _vector(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
