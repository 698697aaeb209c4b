"""Interaction of the volumes of a set at matching places (paper 3.1 "Cross Volume Conditioning", A.3, C.6).

Features are brought to a shared grid, φ is joined to them, a single-layer perceptron mixes both, the volumes exchange
what they know at each voxel, and the result returns to each volume's own geometry as a residual.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from vp_model.geometry import Placed, Shape, World, field_of_view, reference_grid, resample, same_geometry
from vp_model.vision.config import VisionConfig

VOXELS_AT_ONCE = 4096
"""Of an interaction, where no gradient is wanted."""


def each_voxel(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer over the channels of (b, c, w, h, d)."""
    return layer(x.movedim(1, -1)).movedim(-1, 1)


class VoxelAttention(nn.Module):
    """A transformer layer over the n volumes at each voxel: attention and perceptron, each a residual."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(size)
        self.query_key = nn.Linear(size, 2 * size)
        self.value = nn.Linear(size, size)
        self.out = nn.Linear(size, size)
        self.norm_mlp = nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.SiLU(), nn.Linear(2 * size, size))

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """Tokens (v, n, s) → (v, n, s). `seen` (v, n) bool: whether a volume covers the voxel; others are not read."""
        voxels, n, size = tokens.shape
        normed = self.norm_attention(tokens)
        value = self.value(normed)
        if n > 1:
            query, key = self.query_key(normed).chunk(2, dim=-1)

            def split(x: torch.Tensor) -> torch.Tensor:
                return x.view(voxels, n, self.heads, size // self.heads).transpose(1, 2)  # (v, heads, n, s/heads)

            score = split(query) @ split(key).transpose(-1, -2) * (size // self.heads) ** -0.5
            if seen is not None:
                score = score.masked_fill(~seen[:, None, None, :], -1e4)
            value = (score.softmax(dim=-1) @ split(value)).transpose(1, 2).reshape(voxels, n, size)
        tokens = tokens + self.out(value)
        return tokens + self.mlp(self.norm_mlp(tokens))


class Interaction(nn.Module):
    """The interaction after one convolution; `conditioned` says whether φ is joined to the features."""

    def __init__(self, channels: int, config: VisionConfig, conditioned: bool) -> None:
        super().__init__()
        self.kind = config.interaction
        self.isotropic = config.reference == "isotropic"
        self.exchanged_size = config.interaction_size if config.interaction == "attention" else channels
        self.features = nn.Linear(channels, channels)
        # W[x ; φ] + b written as Wₓx + b + W_φφ: one volume meets many conditions without repeating its features.
        self.condition = nn.Linear(config.condition_size, channels, bias=False) if conditioned else None
        if self.kind == "attention":
            size = config.interaction_size
            self.reduce = nn.Linear(channels, size)
            self.exchange = VoxelAttention(size, config.interaction_heads)
            self.expand = nn.Linear(size, channels)
        else:
            self.expand = nn.Linear(2 * channels, channels)
        # The residual starts at nothing: a network that knows one volume can go on learning with several.
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, volumes: list[Placed], phi: torch.Tensor | None) -> list[Placed]:
        """Features of n volumes (1 or k, c, w, h, d) and φ (k, n, d) → the same, k-fold where conditioned."""
        grids = [(placed.shape, placed.world) for placed in volumes]
        shape, world = self.grid(grids)
        mixed = [placed.with_features(self.mixed(placed.features)) for placed in volumes]
        met = [resample(placed, shape, world, "border") for placed in mixed]
        seen = None
        if not same_geometry(grids):
            inside = [field_of_view(size, matrix, shape, world) for size, matrix in grids]
            seen = torch.stack(inside, dim=-1).to(met[0].device)
        update = self.exchanged(met, seen, phi)
        result = []
        for index, placed in enumerate(volumes):
            back = resample(Placed(update[index], world), placed.shape, placed.world, "border")
            result.append(placed.with_features(placed.features + self.returned(back)))
        return result

    def grid(self, grids: Sequence[tuple[Shape, World]]) -> tuple[Shape, World]:
        """Where volumes of these grids meet: the grid that all have, else the reference grid."""
        return grids[0] if same_geometry(grids) else reference_grid(grids, self.isotropic)

    # Linear layers over channels and interpolation over space commute (weights of an interpolation sum to 1), so the
    # former work on each volume's own voxels, which are fewer, and only what is narrow travels back.

    def mixed(self, features: torch.Tensor) -> torch.Tensor:
        """(b, c, w, h, d) of one volume, mixed over channels: the part of the perceptron that φ has no part in."""
        return each_voxel(self.features, features)

    def exchanged(
        self, volumes: Sequence[torch.Tensor], seen: torch.Tensor | None, phi: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """What each of n volumes learns from all: n × (b, s, w, h, d), of mixed features n × (b, c, w, h, d) on one
        grid.

        Args:
            seen: (w, h, d, n) bool, whether a volume covers the voxel; None: all do.
            phi: (k, n, d).
        """
        size = volumes[0].shape[-3:]
        if self.condition is not None and phi is None:
            raise ValueError("This level is conditioned: φ is needed.")
        each = [features.movedim(1, -1).flatten(1, 3) for features in volumes]  # n × (b, v, c)
        mask = None if seen is None else seen.reshape(-1, len(volumes))
        # Voxels do not know of each other: where no gradient is wanted, few at a time stay in the processor's cache.
        step = each[0].shape[1] if torch.is_grad_enabled() else VOXELS_AT_ONCE
        parts = [
            self._exchanged(
                [tokens[:, start : start + step] for tokens in each],
                None if mask is None else mask[start : start + step],
                phi,
            )
            for start in range(0, each[0].shape[1], step)
        ]
        learned = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).unflatten(1, size)
        return [learned[..., index, :].movedim(-1, 1) for index in range(len(volumes))]

    def _exchanged(
        self, each: Sequence[torch.Tensor], seen: torch.Tensor | None, phi: torch.Tensor | None
    ) -> torch.Tensor:
        """(b, v, n, s) of mixed features n × (b, v, c); `seen` (v, n)."""
        tokens = torch.stack(list(each), dim=2)  # (b, v, n, c)
        if self.condition is not None and phi is not None:
            tokens = tokens + self.condition(phi)[:, None]
        tokens = functional.silu(tokens, inplace=not torch.is_grad_enabled())
        batch, voxels, n = tokens.shape[:3]
        flat = tokens.flatten(0, 1)
        mask = None if seen is None else seen.repeat(batch, 1)
        if self.kind == "attention":
            flat = self.exchange(self.reduce(flat), mask)
        else:
            flat = self.expand(torch.cat([flat, self._summary(flat, mask).expand_as(flat)], dim=-1))
        return flat.view(batch, voxels, n, -1)

    def returned(self, update: torch.Tensor) -> torch.Tensor:
        """What is added to a volume's features, (b, c, w, h, d), from its part of `exchanged`, (b, s, w, h, d)."""
        return each_voxel(self.expand, update) if self.kind == "attention" else update

    def _summary(self, tokens: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """(v, 1, c): mean or maximum over the volumes that cover each voxel (C.6)."""
        weights = torch.ones_like(tokens[..., :1]) if seen is None else seen[..., None].to(tokens.dtype)
        if self.kind == "mean":
            return (tokens * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
        lowest = tokens.masked_fill(weights == 0, -1e4).amax(dim=1, keepdim=True)
        return torch.where(weights.amax(dim=1, keepdim=True) > 0, lowest, torch.zeros_like(lowest))
