"""From the positions of parallel slices to one world matrix.

Positions and directions come in as DICOM has them, in patient coordinates LPS (PS3.3 C.7.6.2.1.1); the matrix that goes
out maps a voxel index (column, row, slice) to RAS mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SAME_POSITION_MM = 0.05
"""Slices nearer than this along the normal lie at one position; the jitter of a rounded header is below it."""
IRREGULAR_MM = 0.1
"""A slice that lies further than this from its place in the fitted stack makes the stack irregular."""
SAME_PLACE_MM = 0.005
"""A slice of an even grid that lies no further than this from a position is the one that was acquired there."""
TILT_DEGREES = 0.5
"""A step that leaves the normal by more is a tilted gantry, not rounding."""
_MISSING_AT_MOST = 3
"""Gaps are read as missing slices up to this many for each slice that is there."""

Vector = NDArray[np.float64]


class GeometryError(ValueError):
    """Frames whose headers give no usable geometry."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Orientation of a slice: unit vectors in LPS."""

    row: Vector
    """Along a row: the direction in which the column index grows."""
    column: Vector
    """Along a column: the direction in which the row index grows."""
    normal: Vector


@dataclass(frozen=True, eq=False)
class Stack:
    """How slices lie."""

    origin: Vector
    """LPS mm, centre of the first voxel of slice 0."""
    step: Vector
    """LPS mm from slice to slice."""
    indices: tuple[int, ...]
    """The slice index of each position given, in their order; -1 where none of the slices lies there."""
    length: int
    """Number of slices, missing ones counted."""
    flags: tuple[str, ...]
    places: tuple[float, ...] = ()
    """Of a stack with varying gaps: the place of each position between the slices of an even grid, as an index."""


def plane_of(orientation: Sequence[float]) -> Plane:
    """The plane of an Image Orientation (Patient).

    Raises:
        GeometryError: the two directions are no orthogonal unit vectors.
    """
    row = np.asarray(orientation[:3], dtype=np.float64)
    column = np.asarray(orientation[3:], dtype=np.float64)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.99 or max(lengths) > 1.01 or abs(float(row @ column)) > 0.01:
        raise GeometryError("Image Orientation (Patient) holds no two orthogonal unit vectors")
    row = row / lengths[0]
    column = column / lengths[1]
    normal = np.cross(row, column)
    return Plane(row, column, normal / np.linalg.norm(normal))


def same_positions(projections: Sequence[float]) -> list[int]:
    """A number for each projection on the normal: equal numbers are one position, ordered along the normal."""
    order = np.argsort(np.asarray(projections, dtype=np.float64), kind="stable")
    numbers = [0] * len(projections)
    current = 0
    for previous, this in pairwise(order):
        if projections[this] - projections[previous] > SAME_POSITION_MM:
            current += 1
        numbers[this] = current
    return numbers


def fit_stack(positions: Vector, plane: Plane, thickness: float | None) -> Stack:
    """Fits position = origin + k·step by least squares: the step keeps a gantry tilt as its component in the plane.

    Where the gaps vary, the stack is an even grid from the first position to the last, with slices about as far apart
    as most of the positions, on which voxels are resampled if somebody asks for it.

    Args:
        positions: (n, 3), LPS mm, one for each slice, in order along the normal, no two at one place.
        plane: their common orientation.
        thickness: mm from one slice to the next where there is only one slice.

    Raises:
        GeometryError: a single slice of unknown thickness.
    """
    if len(positions) == 1:
        if thickness is None or thickness <= 0:
            raise GeometryError("a single slice without a slice thickness")
        return Stack(positions[0], plane.normal * thickness, (0,), 1, ("single-slice",))
    gaps = np.diff(positions @ plane.normal)
    indices, regular = _slice_indices(gaps)
    origin, step, residual = _least_squares(positions, indices)
    flags: list[str] = []
    if not regular or residual > IRREGULAR_MM:
        if regular and indices[-1] >= len(positions):
            # The gaps looked like missing slices, but the positions do not lie on one line.
            indices = np.arange(len(positions))
            origin, step, residual = _least_squares(positions, indices)
        even = _even_grid(positions, plane)
        if even is not None:
            return even
        flags.append("irregular-spacing")
    elif indices[-1] >= len(positions):
        flags.append("missing-slice")
    if _is_tilted(step, plane):
        flags.append("gantry-tilt")
    return Stack(origin, step, tuple(int(index) for index in indices), int(indices[-1]) + 1, tuple(flags))


def _even_grid(positions: Vector, plane: Plane) -> Stack | None:
    """An even grid through positions with varying gaps; None where they do not lie on one line."""
    along = positions @ plane.normal
    origin, direction, residual = _least_squares(positions, along - along[0])
    if residual > IRREGULAR_MM:
        return None
    span = float(along[-1] - along[0])
    steps = max(1, round(span / float(np.median(np.diff(along)))))
    places = (along - along[0]) * steps / span
    nearest = np.rint(places)
    exact = np.abs(places - nearest) * span / steps <= SAME_PLACE_MM
    flags = ("irregular-spacing", "gantry-tilt") if _is_tilted(direction, plane) else ("irregular-spacing",)
    return Stack(
        origin,
        direction * span / steps,
        tuple(int(index) if here else -1 for index, here in zip(nearest, exact, strict=True)),
        steps + 1,
        flags,
        tuple(float(place) for place in places),
    )


def _is_tilted(step: Vector, plane: Plane) -> bool:
    cosine = np.clip(step @ plane.normal / np.linalg.norm(step), -1.0, 1.0)
    return bool(np.degrees(np.arccos(cosine)) > TILT_DEGREES)


def world_matrix(stack: Stack, plane: Plane, pixel_spacing: tuple[float, float]) -> Vector:
    """4×4, voxel index (column, row, slice) → RAS mm.

    Args:
        pixel_spacing: mm between rows, then between columns, as in Pixel Spacing (PS3.3 10.7.1.3).
    """
    world = np.eye(4)
    world[:3, 0] = plane.row * pixel_spacing[1]
    world[:3, 1] = plane.column * pixel_spacing[0]
    world[:3, 2] = stack.step
    world[:3, 3] = stack.origin
    world[:2] *= -1.0  # LPS → RAS
    return world


def corners(world: Vector, shape: Sequence[int]) -> Vector:
    """(8, 3): where the centres of the corner voxels lie, in the matrix's mm."""
    index = np.array([[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    return np.asarray((index @ world.T)[:, :3], dtype=np.float64)


def _slice_indices(gaps: Vector) -> tuple[NDArray[np.int_], bool]:
    """Slice numbers from the gaps between neighbours, and whether these are whole multiples of one step."""
    count = len(gaps) + 1
    consecutive = np.arange(count)
    for base in (float(np.median(gaps)), _smallest_common(gaps)):
        multiples = np.rint(gaps / base)
        if multiples.min() < 1 or multiples.sum() > (_MISSING_AT_MOST + 1) * count:
            continue
        # Sharpen the step before judging: the error of one gap grows with the multiples.
        refined = float(gaps.sum() / multiples.sum())
        if np.all(np.abs(gaps - multiples * refined) <= min(2 * IRREGULAR_MM, 0.2 * refined)):
            return np.concatenate([[0], np.cumsum(multiples)]).astype(np.int_), True
    return consecutive, False


def _smallest_common(gaps: Vector) -> float:
    """The mean of the gaps that are about as small as the smallest."""
    smallest = float(gaps.min())
    return float(gaps[gaps <= smallest * 1.1].mean())


def _least_squares(positions: Vector, indices: NDArray[np.generic]) -> tuple[Vector, Vector, float]:
    """Origin, step and the largest distance (mm) of a position from its place."""
    design = np.stack([np.ones(len(indices)), np.asarray(indices, dtype=np.float64)], axis=1)
    # Positions around their mean: the fit loses no digits to a patient far from the origin.
    centre = positions.mean(axis=0)
    solution, *_ = np.linalg.lstsq(design, positions - centre, rcond=None)
    residual = np.linalg.norm(design @ solution - (positions - centre), axis=1).max()
    return solution[0] + centre, solution[1], float(residual)
