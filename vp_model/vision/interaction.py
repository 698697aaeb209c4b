"""Interaction of the volumes of a set at matching places (paper 3.1 "Cross Volume Conditioning", A.3, C.6).

φ is joined to a volume's features, a single-layer perceptron mixes both, the volumes exchange what they know at each
voxel, and the result returns to each volume as a residual. Where they meet, `VisionConfig.reference` says:

- on a grid that all share, the paper's way: features are brought there, all that follows happens at its voxels, and
  what was learnt is brought back. Where one volume has thick slices and another thin ones, its grid is the finest.
- each at home (`own`): every volume asks at its own voxels, and no grid is made. The perceptron works on each volume's
  own voxels, and the narrow result (for the attention, which reduces it) is sampled at the places of the one that asks.
  The paper interpolates before the perceptron's nonlinearity, this interpolates after it.

Weights are the same for all; so is the result where volumes have one grid, or are alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from vp_model.gathering import gathered
from vp_model.geometry import (
    Placed,
    Shape,
    World,
    covered,
    field_of_view,
    reference_grid,
    resample,
    same_geometry,
    sampling_grid,
)
from vp_model.interpolation import interpolated
from vp_model.vision.config import VisionConfig

VOXELS_AT_ONCE = 4096
"""Of an interaction, where no gradient is wanted: few at a time stay in the processor's cache."""
GPU_VOXELS_AT_ONCE = 1 << 17
"""The same on a GPU, which has to be filled: as many as keep what is made in between small beside a level."""


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

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor | None, asking: int | None = None) -> torch.Tensor:
        """Tokens (v, n, s) → (v, n, s), or (v, 1, s) where one volume alone is `asking`.

        Args:
            seen: (v, n) bool, whether a volume covers the voxel; others are not read. None: all do.
        """
        _, n, size = tokens.shape
        normed = self.norm_attention(tokens)
        value = self.value(normed)
        who = slice(None) if asking is None else slice(asking, asking + 1)
        tokens = tokens[:, who]
        if n > 1:

            def split(x: torch.Tensor) -> torch.Tensor:
                return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (v, heads, n, s/heads)

            if asking is None:
                query, key = self.query_key(normed).chunk(2, dim=-1)
                score = split(query) @ split(key).transpose(-1, -2)
            else:
                (to_query, to_key), (query_bias, key_bias) = (
                    parameter.chunk(2) for parameter in (self.query_key.weight, self.query_key.bias)
                )
                query = functional.linear(normed[:, who], to_query, query_bias)
                score = split(query) @ split(functional.linear(normed, to_key, key_bias)).transpose(-1, -2)
            score = score * (size // self.heads) ** -0.5
            if seen is not None:
                score = score.masked_fill(~seen[:, None, None, :], -1e4)
            value = (score.softmax(dim=-1) @ split(value)).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.out(value)
        return tokens + self.mlp(self.norm_mlp(tokens))


class Interaction(nn.Module):
    """The interaction after one convolution; `conditioned` says whether φ is joined to the features."""

    def __init__(self, channels: int, config: VisionConfig, conditioned: bool) -> None:
        super().__init__()
        self.kind = config.interaction
        self.reference = config.reference
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
        """Features of n volumes (1 or k, c, w, h, d) and φ (k, n, d) → the same, k-fold where conditioned.

        Where no gradient is wanted, the memory of the features given is used for those that come out.
        """
        self._check(phi)
        grids = [(placed.shape, placed.world) for placed in volumes]
        if same_geometry(grids):
            return self._together(volumes, phi)
        meeting = self.grid(grids)
        if meeting is None:
            return self._at_home(volumes, phi)
        shape, world = meeting
        met = [
            resample(placed.with_features(self.mixed(placed.features)), shape, world, "border") for placed in volumes
        ]
        device = met[0].device
        seen = [field_of_view(size, matrix, shape, world, device=device) for size, matrix in grids]
        update = self.exchanged(met, torch.stack(seen, dim=-1), phi)
        del met
        result = []
        for index, placed in enumerate(volumes):
            back = resample(Placed(update[index], world), placed.shape, placed.world, "border")
            result.append(placed.with_features(placed.features + self.returned(back)))
        return result

    def grid(self, grids: Sequence[tuple[Shape, World]]) -> tuple[Shape, World] | None:
        """Where volumes of these grids meet: the grid that all have, else the reference grid; None: each at home."""
        if same_geometry(grids):
            return grids[0]
        return None if self.reference == "own" else reference_grid(grids, self.reference == "isotropic")

    def _check(self, phi: torch.Tensor | None) -> None:
        if self.condition is not None and phi is None:
            raise ValueError("This level is conditioned: φ is needed.")

    def _together(self, volumes: Sequence[Placed], phi: torch.Tensor | None) -> list[Placed]:
        """Of volumes on one grid."""
        sources = [_rows(placed.features) for placed in volumes]
        targets = [self._room(source, phi) for source in sources]
        for few in _at_once(sources[0].shape[1], sources[0].device):
            parts = [source[:, few] for source in sources]
            told = [self._told(self.features(part), phi, index) for index, part in enumerate(parts)]
            learned = self._learned(torch.stack(told, dim=2), None)
            for index, part in enumerate(parts):
                targets[index] = _sum(part, self._returned(learned[:, :, index]), targets[index], few)
        return [_placed(placed, target) for placed, target in zip(volumes, targets, strict=True)]

    def _at_home(self, volumes: Sequence[Placed], phi: torch.Tensor | None) -> list[Placed]:
        """Of volumes on grids of their own: each asks at its own voxels, plane by plane."""
        told = [placed.with_features(self.told(placed.features, phi, index)) for index, placed in enumerate(volumes)]
        result = []
        for index, placed in enumerate(volumes):
            source = _rows(placed.features)
            target = self._room(source, phi)
            w, h, d = placed.shape
            for planes in _at_once(w, source.device, h * d):
                size = (planes.stop - planes.start, h, d)
                met, inside = [], []
                for number, other in enumerate(told):
                    places = sampling_grid(
                        other.shape, other.world, size, placed.world, source.device, (planes.start, 0, 0)
                    )
                    inside.append(covered(places))
                    met.append(
                        other.features[:, :, planes] if number == index else interpolated(other.features, places)
                    )
                learned = _rows(self.heard(met, torch.stack(inside, dim=-1), index))
                few = slice(planes.start * h * d, planes.stop * h * d)
                target = _sum(source[:, few], self._returned(learned), target, few)
            result.append(_placed(placed, target))
        return result

    # Linear layers over channels and interpolation over space commute (weights of an interpolation sum to 1), so the
    # former work on each volume's own voxels, which are fewer, and only what is narrow travels back.

    def mixed(self, features: torch.Tensor) -> torch.Tensor:
        """(b, c, w, h, d) of one volume, mixed over channels: the part of the perceptron that φ has no part in."""
        return each_voxel(self.features, features)

    def told(self, features: torch.Tensor, phi: torch.Tensor | None, index: int) -> torch.Tensor:
        """What volume `index` tells at its own voxels: (b, s, w, h, d), of its features (b, c, w, h, d)."""
        self._check(phi)
        rows = _rows(features)
        few = _at_once(rows.shape[1], rows.device)
        parts = (self._told(self.features(rows[:, part]), phi, index) for part in few)
        return gathered(parts, rows.shape[1], 1).unflatten(1, features.shape[-3:]).movedim(-1, 1)

    def heard(self, told: Sequence[torch.Tensor], seen: torch.Tensor | None, index: int) -> torch.Tensor:
        """What volume `index` learns from what n volumes, n × (b, s, w, h, d), tell at its voxels: (b, s, w, h, d).

        Args:
            seen: (w, h, d, n) bool, whether a volume covers the voxel; None: all do.
        """
        tokens = torch.stack([features.movedim(1, -1).flatten(1, 3) for features in told], dim=2)
        learned = self._learned(tokens, None if seen is None else seen.reshape(-1, len(told)), index)
        return learned[:, :, 0].unflatten(1, told[0].shape[-3:]).movedim(-1, 1)

    def exchanged(
        self, volumes: Sequence[torch.Tensor], seen: torch.Tensor | None, phi: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """What each of n volumes learns from all: n × (b, s, w, h, d), of mixed features n × (b, c, w, h, d) on one
        grid.

        Args:
            seen: (w, h, d, n) bool, whether a volume covers the voxel; None: all do.
            phi: (k, n, d).
        """
        self._check(phi)
        size = volumes[0].shape[-3:]
        each = [features.movedim(1, -1).flatten(1, 3) for features in volumes]  # n × (b, v, c)
        mask = None if seen is None else seen.reshape(-1, len(volumes))

        def learned_by(few: slice) -> torch.Tensor:
            told = [self._told(mixed[:, few], phi, index) for index, mixed in enumerate(each)]
            return self._learned(torch.stack(told, dim=2), None if mask is None else mask[few])

        voxels = each[0].shape[1]
        parts = (learned_by(few) for few in _at_once(voxels, each[0].device))
        learned = gathered(parts, voxels, 1).unflatten(1, size)
        return [learned[..., index, :].movedim(-1, 1) for index in range(len(volumes))]

    def returned(self, update: torch.Tensor) -> torch.Tensor:
        """What is added to a volume's features, (b, c, w, h, d), from its part of `exchanged`, (b, s, w, h, d)."""
        return self._returned(update.movedim(1, -1)).movedim(-1, 1)

    def _told(self, mixed: torch.Tensor, phi: torch.Tensor | None, index: int) -> torch.Tensor:
        """(b, v, s) of volume `index`, from its mixed features (b, v, c)."""
        if self.condition is not None and phi is not None:
            mixed = mixed + self.condition(phi[:, index])[:, None]
        voiced = functional.silu(mixed)
        return self.reduce(voiced) if self.kind == "attention" else voiced

    def _learned(self, tokens: torch.Tensor, seen: torch.Tensor | None, asking: int | None = None) -> torch.Tensor:
        """(b, v, n, s) of what n volumes tell, (b, v, n, s), or (b, v, 1, s) for the one that asks; `seen` (v, n)."""
        batch = tokens.shape[0]
        flat = tokens.flatten(0, 1)
        mask = None if seen is None else seen.repeat(batch, 1)
        if self.kind == "attention":
            flat = self.exchange(flat, mask, asking)
        else:
            summary = self._summary(flat, mask)
            flat = flat if asking is None else flat[:, asking : asking + 1]
            flat = self.expand(torch.cat([flat, summary.expand_as(flat)], dim=-1))
        return flat.unflatten(0, (batch, -1))

    def _returned(self, learned: torch.Tensor) -> torch.Tensor:
        """(…, s) → (…, c)."""
        update: torch.Tensor = self.expand(learned) if self.kind == "attention" else learned
        return update

    def _room(self, source: torch.Tensor, phi: torch.Tensor | None) -> torch.Tensor:
        """Where the result for features (b, v, c) goes: their own memory, unless conditions make more of them."""
        if self.condition is None or phi is None or len(phi) == len(source):
            return source
        return source.new_empty((len(phi), *source.shape[1:]))

    def _summary(self, tokens: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """(v, 1, c): mean or maximum over the volumes that cover each voxel (C.6)."""
        weights = torch.ones_like(tokens[..., :1]) if seen is None else seen[..., None].to(tokens.dtype)
        if self.kind == "mean":
            return (tokens * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
        lowest = tokens.masked_fill(weights == 0, -1e4).amax(dim=1, keepdim=True)
        return torch.where(weights.amax(dim=1, keepdim=True) > 0, lowest, torch.zeros_like(lowest))


def _rows(features: torch.Tensor) -> torch.Tensor:
    """(b, c, w, h, d) → (b, v, c): no copy where channels come last in memory."""
    return features.movedim(1, -1).contiguous().flatten(1, 3)


def _placed(placed: Placed, rows: torch.Tensor) -> Placed:
    """What `_rows` undid."""
    return placed.with_features(rows.unflatten(1, placed.shape).movedim(-1, 1))


def voxels_at_once(device: torch.device) -> int:
    """Voxels that go through layers for each voxel together, where no gradient is wanted."""
    return VOXELS_AT_ONCE if device.type == "cpu" else GPU_VOXELS_AT_ONCE


def _at_once(count: int, device: torch.device, each: int = 1) -> list[slice]:
    """Slices of `count` things of `each` voxels: all at once where a gradient is wanted."""
    step = count if torch.is_grad_enabled() else max(voxels_at_once(device) // each, 1)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _sum(part: torch.Tensor, update: torch.Tensor, target: torch.Tensor, few: slice) -> torch.Tensor:
    """The target with a part of it, `few` of its voxels, become the sum."""
    if torch.is_grad_enabled():
        return part + update
    torch.add(part, update, out=target[:, few])
    return target
