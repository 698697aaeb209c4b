"""The condition table: one learnable vector for each target, while there is no language model to give φ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class ConditionTable(nn.Module):
    """A vector for each of the targets `names`; φ is its SiLU, as the language model's projection gives it (A.1)."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.vectors = nn.Parameter(torch.randn(len(self.names), size))

    def forward(self, volumes: int = 1) -> torch.Tensor:
        """φ (k, n, d) of every target for n volumes."""
        return functional.silu(self.vectors)[:, None].expand(-1, volumes, -1)
