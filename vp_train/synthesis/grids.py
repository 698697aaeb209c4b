"""Grids of images that may lie obliquely in the head, and where their points fall in the label map.

A grid along the axes of the scene goes through `Deformation.voxels`, which is separable; any other through the same
deformation point by point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vp_model.geometry import Shape, World, scaled_world
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scan_geometries import Spacing
from vp_train.synthesis.sequences import Tilts
from vp_train.synthesis.space import Deformation, grid_axes, rotation

Parts = tuple[int, int, int]
MARGIN_MM = (2.0, 25.0)
"""Room on each side of the brain; the paper crops to 20 mm around the cranial cavity (B.2)."""


def rigid(degrees: Sequence[float], shift_mm: Sequence[float] = (0.0, 0.0, 0.0)) -> World:
    """(4, 4) rotation about x, y, z in turn, then a shift."""
    matrix = np.eye(4)
    left, _, right = np.linalg.svd(rotation(torch.deg2rad(torch.tensor(list(degrees)))).double().numpy())
    matrix[:3, :3] = left @ right  # orthogonal beyond float32, so that tilted grids are no sheared ones
    matrix[:3, 3] = shift_mm
    return matrix


def draw_tilt(tilts: Tilts, chance: Chance, computed_tomography: bool = False) -> World:
    """(4, 4) how a grid is turned (or, by a CT's gantry, sheared) against the head; the unit matrix for most."""
    turned = chance.happens(tilts.share)
    deviations = torch.tensor([tilts.degrees["sagittal"], tilts.degrees["other"], tilts.degrees["other"]])
    degrees = (chance.normal(3).clamp(-2.0, 2.0) * deviations).tolist()
    sheared = chance.happens(tilts.gantry_share)
    angle = chance.number(*tilts.gantry_degrees)
    if computed_tomography and sheared:
        matrix = np.eye(4)
        matrix[1, 2] = np.tan(np.deg2rad(angle))
        return matrix
    return rigid(degrees) if turned else np.eye(4)


def draw_placed_grid(subject: Subject, spacing_mm: Spacing, tilt: World, chance: Chance) -> tuple[Shape, World]:
    """A grid around the brain with a random margin on each side, turned by `tilt` about the middle of the brain."""
    size = np.asarray(subject.high, dtype=np.float64) - np.asarray(subject.low)
    low = -size / 2 - chance.uniform(*MARGIN_MM, 3).numpy()
    high = size / 2 + chance.uniform(*MARGIN_MM, 3).numpy()
    step = np.asarray(spacing_mm, dtype=np.float64)
    count = np.maximum(np.rint((high - low) / step), 2).astype(int)
    world = np.diag([*step, 1.0])
    world[:3, 3] = (low + high) / 2 - (count - 1) / 2 * step
    return (int(count[0]), int(count[1]), int(count[2])), tilt @ world


def along_axes(world: World) -> bool:
    """Whether a matrix only scales and shifts."""
    linear = world[:3, :3]
    return bool(np.abs(linear - np.diag(np.diag(linear))).max() < 1e-9 * np.abs(linear).max())


def voxels_on(
    deformation: Deformation, shape: Shape, world: World, parts: Parts, device: torch.device
) -> list[torch.Tensor]:
    """Three (w·p, h·q, d·r) tensors: the label map's index (not rounded) of each part of each voxel of a grid.

    Args:
        world: voxel → scene mm; oblique and sheared matrices too.
    """
    if along_axes(world):
        return deformation.voxels(grid_axes(shape, world, parts, device))
    fine = scaled_world(world, [1.0 / part for part in parts])
    sizes = [size * part for size, part in zip(shape, parts, strict=True)]
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in sizes]
    views = (axes[0].view(-1, 1, 1), axes[1].view(1, -1, 1), axes[2].view(1, 1, -1))
    points = torch.stack(
        [
            sum((float(fine[row, axis]) * views[axis] for axis in range(3)), torch.zeros(sizes, device=device))
            + float(fine[row, 3])
            for row in range(3)
        ]
    )
    return list(deformation.voxels_at(points))


def places_in(subject: Subject, voxels: Sequence[torch.Tensor]) -> torch.Tensor:
    """(w, h, d) int32: position in the flattened label map of the voxel nearest to each index, within its border."""
    index = torch.zeros(voxels[0].shape, dtype=torch.int32, device=voxels[0].device)
    for axis, size in enumerate(subject.labels.shape):
        index.mul_(size).add_(voxels[axis].round().clamp_(0, size - 1).to(torch.int32))
    return index
