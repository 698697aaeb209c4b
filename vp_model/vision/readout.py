"""The read-out of m: what the decoder gives of each voxel → one logit for each condition.

The paper's is a convolution of the finest features alone. Where φ enters here (`conditioning: readout`), features are
weighed by numbers made from φ; a perceptron before it may also see the decoder's next levels (`readout_levels`), which
know more of the surroundings than the finest level's few channels can carry. Its first layer is linear, so that each
level is projected on its own grid and the projections, not the features, are brought to the next finer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

from vp_model.gathering import gathered
from vp_model.geometry import Placed
from vp_model.vision.config import VisionConfig
from vp_model.vision.convolution import each_voxel
from vp_model.vision.fields import Field, Projected, Stored, Upsampled
from vp_model.vision.interaction import voxels_at_once
from vp_model.vision.slabs import LEAST_ROWS_READ, rows_upsampled, slabs

READ_AT_ONCE = 2048
"""Voxels that go through the perceptron together on a CPU: what it makes of more does not stay in the cache."""


def read_at_once(device: torch.device) -> int:
    """Voxels that go through the perceptron together, where no gradient is wanted."""
    return READ_AT_ONCE if device.type == "cpu" else voxels_at_once(device)


def start_at_nothing(layer: nn.Module) -> None:
    """Zero weights and bias: what ends in this layer changes nothing until it learns to."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ReadOut(nn.Module):
    """Features of the decoder's finest levels → logits."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        channels = config.channels[0]
        size = config.readout_size or channels
        self.plain = nn.Conv3d(size, 1, 1) if config.conditioning != "readout" else nn.Identity()
        self.key = nn.Linear(config.condition_size, size + 1) if config.conditioning == "readout" else None
        self.bend = None
        if config.key_hidden:
            self.bend = nn.Sequential(
                nn.Linear(config.condition_size, config.key_hidden), nn.SiLU(), nn.Linear(config.key_hidden, size + 1)
            )
            start_at_nothing(self.bend[-1])
        self.hidden = None
        self.residual = not config.readout_size
        self.width = config.readout_hidden + size
        """Channels that it makes on its way."""
        if config.readout_hidden:
            self.hidden = nn.Sequential(
                nn.Conv3d(channels, config.readout_hidden, 1), nn.SiLU(), nn.Conv3d(config.readout_hidden, size, 1)
            )
            if self.residual:
                start_at_nothing(self.hidden[-1])
        self.below: Sequence[nn.Conv3d] = nn.ModuleList(  # type: ignore[assignment]
            nn.Conv3d(config.channels[level], config.readout_hidden, 1, bias=False)
            for level in range(1, config.readout_levels)
        )
        """Of the levels below the finest, the first one first: their part of the perceptron's first layer."""
        for layer in self.below:
            start_at_nothing(layer)

    def forward(self, decoded: Sequence[Placed], phi: torch.Tensor) -> torch.Tensor:
        """Logits (k, w, h, d) of one volume's levels, finest first, features (b, c, …), for φ (k, d); b is 1 or k."""
        return self.weighed(self.perceived(decoded).features, phi)

    def perceived(self, decoded: Sequence[Placed]) -> Placed:
        """What the perceptron makes of each voxel's features, whatever φ: (b, size, w, h, d)."""
        finest = decoded[0]
        if self.hidden is None:
            return finest
        below = self.beneath([Stored(placed) for placed in decoded])
        if torch.is_grad_enabled():
            whole = None if below is None else _last(below.box((0, 0, 0), finest.shape))
            return finest.with_features(self._of_tokens(_last(finest.features), whole).movedim(-1, 1))
        if below is None:
            return finest.with_features(self._perceived(finest.features, None))
        features = finest.features
        rows = rows_upsampled(finest.shape, below.channels, features.device, LEAST_ROWS_READ)
        parts = (
            part
            for low, high in slabs(finest.shape, rows)
            for part in self._parts(_last(features[:, :, low[0] : high[0]]), below.box(low, high))
        )
        tokens = gathered(parts, features[0, 0].numel(), 0)  # of one volume: rows follow each other
        return finest.with_features(tokens.unflatten(0, (1, *finest.shape)).movedim(-1, 1))

    def read(self, finest: torch.Tensor, below: torch.Tensor | None, phi: torch.Tensor) -> torch.Tensor:
        """Logits (k, …) of a box: its finest features (b, c, …), and what `beneath` has of it."""
        return self.weighed(self._perceived(finest, below), phi)

    def beneath(self, decoded: Sequence[Field]) -> Field | None:
        """The part of the perceptron's first layer that the levels below the finest give, on the finest grid.

        Args:
            decoded: finest first.
        """
        found: Field | None = None
        for level in range(len(self.below), 0, -1):
            source, above = decoded[level], decoded[level - 1]
            found = Upsampled(Projected(source, self.below[level - 1], found), above.shape, above.world)
        return found

    def of_voxels(self, features: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
        """Logits (k, v) of voxels (v, c) whose features of all levels stand one after the other, finest first."""
        if self.hidden is None:
            return self.weighed(features.T[None, :, :, None, None], phi).flatten(1)
        finest, *others = features.split([_width(self.hidden[0]), *(_width(layer) for layer in self.below)], dim=1)
        below: torch.Tensor | None = None
        for layer, other in zip(self.below, others, strict=True):
            part = each_voxel(layer, other)
            below = part if below is None else below + part
        return self.weighed(self._of_tokens(finest, below).T[None, :, :, None, None], phi).flatten(1)

    def _perceived(self, x: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        """(b, c, …) and (b, hidden, …) → (b, size, …)."""
        if self.hidden is None:
            return x
        tokens = _last(x)
        found = gathered(self._parts(tokens, below), tokens[..., 0].numel(), 0)
        return found.unflatten(0, tokens.shape[:-1]).movedim(-1, 1)

    def _parts(self, tokens: torch.Tensor, below: torch.Tensor | None) -> Iterator[torch.Tensor]:
        """(…, c) and (b, hidden, …) → (n, size) in parts: few voxels at a time stay in the processor's cache."""
        flat = tokens.reshape(-1, tokens.shape[-1])  # no copy where channels come last in memory
        at_once = read_at_once(flat.device)
        others: Sequence[torch.Tensor | None] = [None] * -(-len(flat) // at_once)
        if below is not None:
            others = _last(below).reshape(len(flat), -1).split(at_once)
        for part, other in zip(flat.split(at_once), others, strict=True):
            yield self._of_tokens(part, other)

    def _of_tokens(self, tokens: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        """(…, c) and (…, hidden) → (…, size)."""
        if self.hidden is None:
            return tokens
        first = each_voxel(self.hidden[0], tokens)
        found = each_voxel(self.hidden[2], functional.silu(first if below is None else first.add_(below)))
        return tokens + found if self.residual else found

    def weighed(self, x: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
        """Logits (k, w, h, d) of what was perceived (b, size, w, h, d), for one volume's φ (k, d)."""
        if self.key is None:
            found = each_voxel(self.plain, _last(x)).squeeze(-1)
            return found.expand(phi.shape[0], -1, -1, -1)
        key = self.key(phi) if self.bend is None else self.key(phi) + self.bend(phi)
        features = _last(x).reshape(-1, x.shape[1])
        weighed: torch.Tensor = key[:, :-1] @ features.T + key[:, -1:]
        return weighed.view(-1, *x.shape[-3:])


def _last(x: torch.Tensor) -> torch.Tensor:
    """(b, c, …) → (b, …, c)."""
    return x.movedim(1, -1)


def _width(convolution: nn.Module) -> int:
    return convolution.in_channels if isinstance(convolution, nn.Conv3d) else 0
