"""Values of a prepared image or mask on another grid: trilinear, averaged over each voxel of the new grid."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from vp_model.geometry import Shape, World, sampling_grid, scaled_world
from vp_train.synthesis.artefacts import average
from vp_train.synthesis.grids import Parts

FINEST_PARTS = 12
"""Parts along an axis at most: an average over more of them says nothing new."""


def parts_between(source: World, target: World) -> Parts:
    """Into how many parts a voxel of the target grid is divided along each axis to be as fine as the source's."""
    crossed = np.abs(np.linalg.solve(source[:3, :3], target[:3, :3])).max(axis=0)
    first, second, third = (int(np.clip(np.rint(count), 1, FINEST_PARTS)) for count in crossed)
    return first, second, third


def divided(shape: Shape, world: World, parts: Parts) -> tuple[Shape, World]:
    """The grid of the parts of the voxels of a grid."""
    w, h, d = (size * part for size, part in zip(shape, parts, strict=True))
    return (w, h, d), scaled_world(world, [1.0 / part for part in parts])


def sampled(values: torch.Tensor, world: World, shape: Shape, target: World) -> torch.Tensor:
    """(w, h, d) mean over each voxel of a target grid of values (w', h', d') on a source grid; 0 beyond the source.

    Args:
        world, target: matrices of both grids, voxel → mm of one and the same world.
    """
    parts = parts_between(world, target)
    fine_shape, fine_world = divided(shape, target, parts)
    w, h, d = (int(size) for size in values.shape)
    where = sampling_grid((w, h, d), world, fine_shape, fine_world, values.device)
    found = functional.grid_sample(
        values[None, None].float(), where, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return average(found[0, 0], parts)


def positions(size: Shape, world: World, shape: Shape, target: World, device: torch.device) -> torch.Tensor:
    """(w, h, d) int64: position in a flattened grid of `size` of the voxel nearest to each voxel of a target grid, the
    outermost one beyond it.
    """
    matrix = np.linalg.solve(world, target)
    index = torch.zeros(shape, dtype=torch.int64, device=device)
    axes = [torch.arange(count, dtype=torch.float32, device=device) for count in shape]
    views = (axes[0].view(-1, 1, 1), axes[1].view(1, -1, 1), axes[2].view(1, 1, -1))
    for row in range(3):
        place = torch.full(shape, float(matrix[row, 3]), device=device)
        for axis in range(3):
            place += float(matrix[row, axis]) * views[axis]
        index.mul_(size[row]).add_(place.round_().clamp_(0, size[row] - 1).to(torch.int64))
    return index
