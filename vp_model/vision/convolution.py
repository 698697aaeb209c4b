"""Convolutions that always take the fast kernel of the CPU: of 3³ voxels, and of one."""

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
    """`nn.Conv3d` (kernel 3, padding 1); on a CPU, volumes of any size go to oneDNN: directly where no gradient is
    wanted, else a single small volume goes through beside an empty one, since two are handed over whatever their size.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, KERNEL, padding=KERNEL // 2, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.padded(x, (KERNEL // 2,) * 3)

    def padded(self, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        """(b, c, w, h, d) convolved with as many zeros around each axis as `padding` says: none where the neighbours of
        a block came with it.
        """
        if x.shape[1] == 1:  # one channel is also the last in memory, if its stride says so: what comes out is then too
            x = x[:, 0].unsqueeze(-1).movedim(-1, 1)
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return self._convolved(x, padding)
        plain = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
        if plain and torch.backends.mkldnn.is_available():  # a compiler cannot trace this operator, and picks its own
            once = (1,) * 3
            return torch.mkldnn_convolution(x, self.weight, self.bias, tuple(padding), once, once, 1)
        small = x[0, :, :, :, 0].numel() <= SMALLEST_FAST and x[0, 0].numel() >= WORTHWHILE_VOXELS
        if x.shape[0] == 1 and small:
            return self._convolved(torch.cat([x, torch.zeros_like(x)]), padding)[:1]
        return self._convolved(x, padding)

    def _convolved(self, x: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        if x.device.type == "cpu" and torch.is_grad_enabled() and x.shape[2] == MISREAD and padding[0]:
            lowered = x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
            if lowered:
                x, padding = functional.pad(x, (0, 0, 0, 0, padding[0], padding[0])), (0, *padding[1:])
        return functional.conv3d(x, self.weight, self.bias, padding=tuple(padding))


def each_voxel(convolution: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """A convolution of kernel 1 on (…, c), as a matrix product: on a CPU a convolution is far slower."""
    if not isinstance(convolution, nn.Conv3d):
        raise TypeError("Only convolutions work on each voxel.")
    return functional.linear(tokens, convolution.weight.flatten(1), convolution.bias)
