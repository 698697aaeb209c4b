"""Trilinear interpolation of features that have their channels last in memory.

Each place takes the weighted sum of eight rows of channels, which is what `embedding_bag` computes: on a CPU about ten
times as fast as `grid_sample`, which goes through the channels one by one. On a GPU `grid_sample` does it.

Places stay in single precision whatever the features are: bfloat16 tells 0.4 voxels apart in a volume of 200.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from vp_model.gathering import gathered

PLACES_AT_ONCE = 1 << 15
"""Whose corners and weights (64 bytes each) are in memory together."""


def interpolated(features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Features at places, border voxels repeated outside.

    Args:
        features: (b, c, w, h, d).
        places: (1, w', h', d', 3) in the coordinates of `grid_sample`, as `geometry.sampling_grid` makes them.

    Returns:
        (b, c, w', h', d').
    """
    if features.device.type != "cpu":
        grid = places.float().expand(features.shape[0], -1, -1, -1, -1)
        sampled = functional.grid_sample(
            features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return sampled.to(features.dtype)
    w, h, d = features.shape[-3:]
    # Half precision has too few digits for the sum of eight corners, and the kernel wants one type for all.
    tables = features.movedim(1, -1).flatten(1, 3).float()  # (b, v, c): no copy where channels come last in memory

    def at(few: torch.Tensor) -> torch.Tensor:
        indices, weights = _corners(few, (int(w), int(h), int(d)))
        return torch.stack(
            [functional.embedding_bag(indices, table, per_sample_weights=weights, mode="sum") for table in tables]
        )

    flat = places.view(-1, 3)
    found = gathered((at(few) for few in flat.split(PLACES_AT_ONCE)), len(flat), 1)
    return found.to(features.dtype).unflatten(1, places.shape[1:4]).movedim(-1, 1)


def _corners(places: torch.Tensor, shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat indices and weights (p, 8) of the corners around places (p, 3)."""
    base = torch.zeros(len(places), dtype=torch.int64)
    offsets = torch.zeros(1, dtype=torch.int64)
    weights = torch.ones(1, len(places))
    for axis, size in enumerate(shape):
        index = (((places[:, 2 - axis] + 1) * size - 1) / 2).clamp_(0, size - 1)
        low = index.floor().clamp_(max=max(size - 2, 0))
        share = index.sub_(low)
        base = base * size + low.long()
        # Where an axis has one voxel, both its corners are that voxel.
        offsets = (offsets[:, None] * size + torch.tensor([0, min(1, size - 1)])).flatten()
        # Places come last while this goes on: rows of two, four and eight numbers are slow to multiply.
        weights = (weights[:, None] * torch.stack([1 - share, share])).flatten(0, 1)
    return base[:, None] + offsets, weights.T.contiguous()
