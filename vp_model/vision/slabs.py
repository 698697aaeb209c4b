"""Boxes by which a grid is gone through where it is not taken as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

from vp_model.geometry import Shape

FLOAT_BYTES = 4
UPSAMPLED_BYTES = 1 << 22
"""Of the level below, brought to the grid of the level above, that are in memory at once."""
GPU_UPSAMPLED_BYTES = 1 << 28
"""The same on a GPU: slabs that fill it, and are small beside a level whose upsampling would not fit well."""
LEAST_ROWS = 8
LEAST_ROWS_READ = 4
"""Fewer for the read-out, whose rows are wide: memory that the allocator must ask the system for costs more."""


def slabs(shape: Shape, rows: int) -> Sequence[tuple[Shape, Shape]]:
    """Boxes of `rows` along the first axis that cover a grid."""
    w, h, d = shape
    return [((start, 0, 0), (min(start + rows, w), h, d)) for start in range(0, w, rows)]


def blocks(shape: Shape, edge: int, every: int) -> Sequence[tuple[Shape, Shape]]:
    """Blocks spread evenly over a grid, one in `every` along each axis."""
    starts = []
    for size in shape:
        places = range(0, size, edge)
        starts.append(places[min(len(places) - 1, every - 1) // 2 :: every])
    return [
        ((i, j, k), (min(i + edge, shape[0]), min(j + edge, shape[1]), min(k + edge, shape[2])))
        for i, j, k in product(*starts)
    ]


def rows_upsampled(shape: Shape, channels: int, device: torch.device, least: int | None = None) -> int:
    """Rows of a level's grid to which the level below is brought at once, where no gradient is wanted."""
    limit = UPSAMPLED_BYTES if device.type == "cpu" else GPU_UPSAMPLED_BYTES
    rows = max(limit // (FLOAT_BYTES * channels * shape[1] * shape[2]), LEAST_ROWS if least is None else least)
    return min(rows, shape[0])
