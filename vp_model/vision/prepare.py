"""From a Volume to what m reads, and back (paper B.2): RAS, intensities in [0, 1], the crop, working spacing.

Axes are only permuted and flipped, never rotated: an oblique or sheared matrix stays what it was, expressed for the new
order of axes. Every step is kept, so that probabilities return to exactly the grid they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.geometry import Placed, Shape, World, cropped_world, scaled_world, spacing
from vp_model.imaging.cranium import box_around, cranial_bounds
from vp_model.imaging.intensity import Image
from vp_model.volume import Volume

CT_WINDOW_HU = (-30.0, 100.0)
"""Brain window: fat and air to 0, bone to 1; grey and white matter stay apart."""
FOREGROUND = 0.04
"""Share of the highest intensity below which a voxel counts as empty."""
HIGH_PERCENTILE = 99.5
MARGIN_MM = 10.0
"""Room left around the head where the cranial cavity cannot be made out: the skin is about halfway between the cavity
and its margin.
"""
LEAST_CAVITY_MM = (110.0, 140.0)
"""Left-right and front-back: what is smaller is part of a cavity, whose height cannot be told from its length."""
HEAD_HEIGHT_MM = 185.0
"""Below the vertex nothing of the brain is expected: the neck is cut off there."""
AIR_HU = -500.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A volume as m reads it, and the way back.

    Attributes:
        image: (1, 1, w, h, d) float32 in [0, 1], and its world matrix, at the working spacing.
        shape, world: the grid of the input volume.
    """

    image: Placed
    shape: Shape
    world: World


def to_ras(voxels: NDArray[np.generic], world: World) -> tuple[NDArray[np.generic], World]:
    """Voxels (w, h, d) with axes permuted and flipped so that they run nearest to right, anterior, superior."""
    orientation = io_orientation(world)
    if np.isnan(orientation).any():
        raise ValueError("The world matrix gives no orientation for every axis.")
    turned = apply_orientation(voxels, orientation)
    return np.ascontiguousarray(turned), world @ inv_ornt_aff(orientation, voxels.shape)


def normalise(image: NDArray[np.float32], kind: str = "unknown") -> NDArray[np.float32]:
    """Stored values → [0, 1].

    CT is windowed in Hounsfield units. MR is scaled so that the 99.5th percentile of the foreground becomes 1; values
    below the darkest percentile (or 0) become 0.
    """
    if kind.upper() == "CT" or (kind == "unknown" and float(image.min()) <= AIR_HU):
        low, high = CT_WINDOW_HU
    else:
        low = float(min(np.percentile(image, 0.5), image.max()))
        low = 0.0 if low > 0 and (image <= 0).any() else low
        top = float(np.percentile(image, 99.9)) - low
        foreground = image[image - low > FOREGROUND * top]
        high = float(np.percentile(foreground, HIGH_PERCENTILE)) if foreground.size else low + 1.0
    scaled = (image - np.float32(low)) / np.float32(max(high - low, 1e-6))
    result: NDArray[np.float32] = np.clip(scaled, 0.0, 1.0).astype(np.float32)
    return result


def head_box(image: NDArray[np.float32], world: World) -> tuple[Shape, Shape]:
    """(first, one past last) index of the head in a normalised RAS image, the neck left out.

    The head is the largest bright connected body; `MARGIN_MM` is left around it. An image without any stays whole.
    """
    lengths = spacing(world)
    step = np.maximum(np.rint(4.0 / lengths).astype(int), 1)
    coarse = image[:: step[0], :: step[1], :: step[2]]
    bright = coarse > 0.1
    if min(coarse.shape) >= 3:
        bright = ndimage.binary_opening(bright)
    labelled, count = ndimage.label(bright)
    if not count:
        return (0, 0, 0), image.shape  # type: ignore[return-value]
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    where = np.argwhere(labelled == sizes.argmax())
    low = where.min(axis=0) * step - np.ceil(MARGIN_MM / lengths).astype(int)
    high = (where.max(axis=0) + 1) * step + np.ceil(MARGIN_MM / lengths).astype(int)
    low[2] = max(low[2], high[2] - int((HEAD_HEIGHT_MM + MARGIN_MM) / lengths[2]))
    low, high = np.maximum(low, 0), np.minimum(high, image.shape)
    return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def crop_box(
    voxels: NDArray[np.float32], image: NDArray[np.float32], world: World, kind: str = "unknown"
) -> tuple[Shape, Shape]:
    """(first, one past last) index of what m looks at: 20 mm around the cranial cavity (paper, B.2); where it cannot be
    made out (slabs, phase images, children), the head.

    Args:
        voxels: RAS, in stored units.
        image: the same, normalised.
    """
    bounds = cranial_bounds(Image(voxels, world), kind)
    if bounds is None or any(b - a < least for a, b, least in zip(*bounds, LEAST_CAVITY_MM, strict=False)):
        return head_box(image, world)
    (i, j, k), (w, h, d) = box_around(Image(voxels, world), bounds)
    return (i, j, k), (i + w, j + h, k + d)


def reduce_to(image: torch.Tensor, world: World, working_mm: float | None) -> Placed:
    """(1, 1, w, h, d) reduced along the axes that are finer than `working_mm`: each new voxel is the mean of what it
    covers (area weighting), other axes stay as they are.
    """
    size = tuple(int(n) for n in image.shape[-3:])
    if working_mm is None:
        return Placed(image, world)
    lengths = spacing(world)
    factors = np.where(lengths < working_mm * 0.999, working_mm / lengths, 1.0)
    factors = np.minimum(factors, np.maximum(np.asarray(size), 1))
    target = [max(int(np.ceil(n / factor - 1e-6)), 1) for n, factor in zip(size, factors, strict=True)]
    if target == list(size):
        return Placed(image, world)
    for axis in range(3):
        if factors[axis] == 1.0:
            continue
        weights = area_weights(size[axis], target[axis], float(factors[axis]))
        image = torch.movedim(torch.movedim(image, 2 + axis, -1) @ weights.T.to(image.device), -1, 2 + axis)
    return Placed(image.contiguous(), scaled_world(world, factors))


def area_weights(size: int, target: int, factor: float) -> torch.Tensor:
    """(target, size): the share that each voxel has in the mean of each new voxel of `factor` voxels."""
    low = np.arange(target)[:, None] * factor
    index = np.arange(size)[None]
    share = np.clip(np.minimum(index + 1, low + factor) - np.maximum(index, low), 0.0, 1.0)
    return torch.from_numpy((share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32))


def prepare(volume: Volume, working_mm: float | None) -> Prepared:
    """A Volume as m reads it.

    Raises:
        ValueError: the volume holds more than one feature.
    """
    if volume.features.shape[0] != 1:
        raise ValueError(f"m reads images of one feature, this volume has {volume.features.shape[0]}: choose one.")
    turned, world = to_ras(volume.voxels, volume.world)
    voxels = turned.astype(np.float32, copy=False)
    image = normalise(voxels, volume.kind)
    low, high = crop_box(voxels, image, world, volume.kind)
    cut = np.ascontiguousarray(image[low[0] : high[0], low[1] : high[1], low[2] : high[2]])
    placed = reduce_to(torch.from_numpy(cut)[None, None], cropped_world(world, low), working_mm)
    return Prepared(placed, volume.shape, volume.world)


def restore(prepared: Prepared, values: torch.Tensor, rows: Sequence[NDArray[np.intp]] | None = None) -> torch.Tensor:
    """Values (k, w, h, d) on the prepared grid → (k, w, h, d) on the input's own grid, trilinear, 0 outside the crop.

    Both grids are one lattice up to order, direction and scale of the axes, so that interpolation is separable: one
    small matrix for each axis, also for oblique and sheared volumes.

    Args:
        rows: the indices along each axis of the input that are wanted; all where None.
    """
    relative = np.linalg.solve(prepared.image.world, prepared.world)
    order = np.abs(relative[:3, :3]).argmax(axis=1)  # source axis → axis of the input
    rows = rows or [np.arange(size) for size in prepared.shape]
    wanted = tuple(len(index) for index in rows)
    place = [slice(0, size) for size in wanted]
    for axis in range(3):
        target = int(order[axis])
        positions = relative[axis, target] * rows[target] + relative[axis, 3]
        weights = linear_weights(positions, int(values.shape[1 + axis]))
        inside = torch.nonzero(weights.sum(dim=1)).flatten()
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        place[target] = slice(first, last)
        values = _along(values, 1 + axis, weights[first:last])
    values = values.permute(0, *(1 + int(axis) for axis in np.argsort(order)))
    if values.shape[1:] == wanted:
        return values.contiguous()
    restored = values.new_zeros((values.shape[0], *wanted))
    restored[(slice(None), *place)] = values
    return restored


def reach(prepared: Prepared, values: torch.Tensor, rows: Sequence[NDArray[np.intp]], least: float) -> list[slice]:
    """Which of `rows` along each axis of the input may get more than `least` of values (1, w, h, d), restored.

    What is interpolated along an axis is at most the interpolated maxima over the others.
    """
    relative = np.linalg.solve(prepared.image.world, prepared.world)
    order = np.abs(relative[:3, :3]).argmax(axis=1)
    found = [slice(0, 0)] * 3
    for axis in range(3):
        target = int(order[axis])
        highest = values[0].amax(dim=[other for other in range(3) if other != axis])
        positions = relative[axis, target] * rows[target] + relative[axis, 3]
        inside = torch.nonzero(linear_weights(positions, len(highest)) @ highest.float().cpu() > least).flatten()
        if len(inside):
            found[target] = slice(int(inside[0]), int(inside[-1]) + 1)
    return found


def _along(values: torch.Tensor, axis: int, weights: torch.Tensor) -> torch.Tensor:
    """Values weighted along one axis; weights that only choose voxels choose them.

    Args:
        weights: on the CPU, where to look at them waits for nothing.
    """
    chosen = weights.argmax(dim=1)
    if bool((weights.gather(1, chosen[:, None]) == 1).all()) and len(weights):
        if bool((chosen[1:] - chosen[:-1] == 1).all()):
            return values.narrow(axis, int(chosen[0]), len(chosen))
        return values.index_select(axis, chosen.to(values.device))
    return torch.movedim(torch.movedim(values, axis, -1) @ weights.T.to(values.device), -1, axis)


def linear_weights(positions: NDArray[np.float64], size: int) -> torch.Tensor:
    """(len(positions), size): linear interpolation at index positions; nothing beyond half a voxel outside."""
    clamped = np.clip(positions, 0, size - 1)
    weights = np.clip(1 - np.abs(clamped[:, None] - np.arange(size)[None]), 0.0, None)
    weights[(positions < -0.5 - 1e-6) | (positions > size - 0.5 + 1e-6)] = 0.0
    return torch.from_numpy(weights.astype(np.float32))
