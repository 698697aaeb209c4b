"""Cross-sections of a region: area, longest diameter and the one perpendicular to it (RECIST 1.1, RANO).

A plane of reading is a plane of voxels: `axial` means the slices of the index axis that runs nearest to
inferior-superior, so that an oblique acquisition is measured on the slices that the reader sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from vp_model.imaging.conform import orientation
from vp_model.imaging.grid import World, to_world
from vp_model.imaging.region import Region
from vp_model.imaging.shape import EmptyRegionError, Vector

PLANES = {"sagittal": "LR", "coronal": "PA", "axial": "IS"}
"""Reading planes, and the letters of the axis that they are perpendicular to."""

Segment = tuple[Vector, Vector]
"""Two ends in RAS mm."""


@dataclass(frozen=True)
class Diameters:
    """The longest diameter within one plane, and the longest one perpendicular to it in the same slice."""

    long: float
    short: float
    long_ends: Segment
    short_ends: Segment

    @property
    def product(self) -> float:
        """mm²: the bidimensional measure of the WHO and RANO criteria."""
        return self.long * self.short


def slice_axis(world: World, plane: str) -> int:
    """Index axis whose slices are the given reading plane."""
    letters = PLANES[plane]
    return next(axis for axis, letter in enumerate(orientation(world)) if letter in letters)


def largest_section(region: Region, plane: str) -> tuple[float, int]:
    """Largest cross-section in mm² over the slices of a plane, and the slice's index in the grid."""
    _check(region)
    axis = slice_axis(region.grid.world, plane)
    first, second = (region.grid.world[:3, other] for other in range(3) if other != axis)
    counts = np.count_nonzero(region.voxels, axis=tuple(other for other in range(3) if other != axis))
    best = int(counts.argmax())
    return float(counts[best] * np.linalg.norm(np.cross(first, second))), region.start[axis] + best


def plane_diameters(region: Region, plane: str) -> Diameters:
    """The longest diameter between voxel corners over all slices of a plane, and its perpendicular.

    The perpendicular is the longest chord of the slice's convex hull at a right angle to the longest diameter. Where
    two slices have equally long diameters the first counts.
    """
    _check(region)
    axis = slice_axis(region.grid.world, plane)
    best: tuple[float, NDArray[np.float64], int, int] | None = None
    for index in range(region.voxels.shape[axis]):
        hull = _hull(region, axis, index)
        if hull is None:
            continue
        distances = cdist(hull, hull)
        one, other = (int(value) for value in np.unravel_index(int(distances.argmax()), distances.shape))
        if best is None or distances[one, other] > best[0] + 1e-9:
            best = float(distances[one, other]), hull, one, other
    if best is None:
        raise EmptyRegionError("The region is empty: it has no diameter.")
    long, hull, one, other = best
    start, end = _perpendicular(hull, one, other)
    return Diameters(
        long, float(np.linalg.norm(end - start)), (_vector(hull[one]), _vector(hull[other])),
        (_vector(start), _vector(end)),
    )  # fmt: skip


def _hull(region: Region, axis: int, index: int) -> NDArray[np.float64] | None:
    """Corners (n, 3) RAS mm of the convex hull of a slice's voxels, in order around it; None where it is empty."""
    plane = np.take(region.voxels, index, axis=axis)
    found = np.argwhere(plane)
    if not len(found):
        return None
    offsets = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)])
    corners = np.unique((found[:, None, :] + offsets).reshape(-1, 2), axis=0)
    corners = corners[ConvexHull(corners).vertices]
    return to_world(np.insert(corners, axis, index, axis=1), region.world)


def _perpendicular(hull: NDArray[np.float64], one: int, other: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the longest chord of a convex polygon at a right angle to the line between two of its corners.

    The chord's length over the place along that line is concave and straight between corners: it is longest at one.
    """
    along = (hull[other] - hull[one]) / np.linalg.norm(hull[other] - hull[one])
    places = (hull - hull[one]) @ along
    across = hull - hull[one] - places[:, None] * along
    direction = across[int(np.argmax(np.linalg.norm(across, axis=1)))]
    length = float(np.linalg.norm(direction))
    if length == 0:
        return hull[one], hull[one]
    heights = across @ (direction / length)
    best = (-1.0, 0.0, 0.0, 0.0)
    for place in places:
        low, high = _cut(places, heights, float(place))
        if high - low > best[0]:
            best = high - low, float(place), low, high
    _, place, low, high = best
    foot = hull[one] + place * along
    return foot + low * direction / length, foot + high * direction / length


def _cut(places: NDArray[np.float64], heights: NDArray[np.float64], place: float) -> tuple[float, float]:
    """Lowest and highest height of a closed polygon at a place."""
    found: list[float] = []
    for index in range(len(places)):
        before, after = places[index - 1], places[index]
        if min(before, after) - 1e-9 <= place <= max(before, after) + 1e-9:
            if abs(after - before) < 1e-9:
                found += [float(heights[index - 1]), float(heights[index])]
            else:
                share = (place - before) / (after - before)
                found.append(float(heights[index - 1] + share * (heights[index] - heights[index - 1])))
    return min(found), max(found)


def _check(region: Region) -> None:
    if region.empty:
        raise EmptyRegionError("The region is empty: it has no cross-section.")


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
