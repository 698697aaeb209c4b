"""3³ convolution that always takes the fast kernel of the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

KERNEL = 3
SMALLEST_FAST = 20_480
"""torch hands a convolution of one volume to oneDNN only where batch × channels × w × h exceeds this
(`ConvParams::use_mkldnn`); below, it unfolds the volume, which at our sizes takes three to five times as long.
"""
WORTHWHILE_VOXELS = 1_000
MISREAD = 2
"""Voxels along the first axis for which oneDNN (3.12) leaves two thirds of a lower-precision weight gradient unwritten,
whatever lay in memory before, if it pads itself.
"""


class Convolution(nn.Conv3d):
    """`nn.Conv3d` (kernel 3, padding 1); on a CPU, a single small volume goes through beside an empty one, since two go
    to oneDNN whatever their size.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, KERNEL, padding=KERNEL // 2, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.padded(x, (KERNEL // 2,) * 3)

    def padded(self, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        """(b, c, w, h, d) convolved with as many zeros around each axis as `padding` says: none where the neighbours of
        a block came with it.
        """
        single = x.device.type == "cpu" and x.dtype == torch.float32 and x.shape[0] == 1
        if single and x[0, :, :, :, 0].numel() <= SMALLEST_FAST and x[0, 0].numel() >= WORTHWHILE_VOXELS:
            return self._convolved(torch.cat([x, torch.zeros_like(x)]), padding)[:1]
        lowered = x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type)
        misread = lowered and x.device.type == "cpu" and torch.is_grad_enabled() and x.shape[2] == MISREAD
        if misread and padding[0]:
            x, padding = functional.pad(x, (0, 0, 0, 0, padding[0], padding[0])), (0, *padding[1:])
        return self._convolved(x, padding)

    def _convolved(self, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        return functional.conv3d(x, self.weight, self.bias, padding=tuple(padding))
