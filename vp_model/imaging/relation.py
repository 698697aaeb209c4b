"""How two regions lie to each other: overlap, distance and direction; and the part of a region at a position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from vp_model.imaging.grid import to_world
from vp_model.imaging.morphology import components, intersection
from vp_model.imaging.region import Region, crop_region, empty_region
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


def near(region: Region, other: Region, distance: float) -> Region:
    """The voxels of a region whose centre lies within `distance` mm of a voxel centre of another."""
    if region.empty or other.empty:
        return empty_region(region.grid)
    indices, points = region.indices(), region.points()
    reached = cKDTree(other.points()).query(points, distance_upper_bound=distance + 1e-6)[0] <= distance + 1e-6
    kept = np.zeros_like(region.voxels)
    kept[tuple(indices[reached].T)] = True
    return crop_region(region.grid, region.start, kept)


def touching(region: Region, other: Region) -> Region:
    """The connected parts of a region that overlap another or lie beside it, no farther than the longest voxel edge."""
    return _parts(region, other, True)


def apart_from(region: Region, other: Region) -> Region:
    """The connected parts of a region that neither overlap another nor lie beside it."""
    return _parts(region, other, False)


def _parts(region: Region, other: Region, wanted: bool) -> Region:
    reach = float(max(region.grid.spacing.max(), other.grid.spacing.max()))
    tree = None if other.empty else cKDTree(other.points())
    chosen = []
    for part in components(region):
        beside = tree is not None and bool((tree.query(part.points())[0] <= reach + 1e-6).any())
        if beside is wanted:
            chosen.append(part)
    return joined(region, chosen)


def joined(region: Region, parts: Sequence[Region]) -> Region:
    """Parts of a region, on its grid, as one region."""
    kept = np.zeros_like(region.voxels)
    for part in parts:
        low = np.subtract(part.start, region.start)
        place = tuple(slice(int(first), int(first) + size) for first, size in zip(low, part.voxels.shape, strict=True))
        kept[place] |= part.voxels
    return crop_region(region.grid, region.start, kept)


def nearest_part(region: Region, other: Region) -> Region:
    """The connected part of a region that lies nearest to another; the larger one of two that overlap it.

    EmptyRegionError where one is empty.
    """
    parts = components(region)
    if not parts or other.empty:
        raise EmptyRegionError("The nearest part needs two regions that are not empty.")
    tree = cKDTree(other.points())
    return min(parts, key=lambda part: float(tree.query(part.points())[0].min()))


def outermost(region: Region, word: str) -> Region:
    """The connected part whose centre of mass lies farthest to the left, right, front, back, top or bottom.

    EmptyRegionError where the region is empty.
    """
    parts = components(region)
    if not parts:
        raise EmptyRegionError("An empty region has no parts.")
    axis, sign = toward(word)
    return max(parts, key=lambda part: sign * center_of_mass(part)[axis])


def on_side(region: Region, word: str, reference: Vector) -> Region:
    """The voxels of a region whose centre lies beyond a point in a direction: `left` of it, `anterior` to it."""
    if region.empty:
        return region
    axis, sign = toward(word)
    kept = np.zeros_like(region.voxels)
    indices = region.indices()
    beyond = sign * (to_world(indices, region.world)[:, axis] - reference[axis]) > 0
    kept[tuple(indices[beyond].T)] = True
    return crop_region(region.grid, region.start, kept)


def boundary(region: Region) -> Region:
    """The voxels of a region that have a neighbour outside it along an index axis."""
    if region.empty:
        return region
    padded = np.pad(region.voxels, 1)
    inner = region.voxels.copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis=axis)[1:-1, 1:-1, 1:-1]
    return crop_region(region.grid, region.start, region.voxels & ~inner)


def toward(word: str) -> tuple[int, int]:
    """RAS axis and sign of a direction: `left` is (0, −1)."""
    for axis, pair in enumerate(DIRECTIONS):
        if word in pair:
            return axis, (-1, 1)[pair.index(word)]
    raise ValueError(f"{word!r} is no direction: these are {', '.join(name for pair in DIRECTIONS for name in pair)}.")


def _vector(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
