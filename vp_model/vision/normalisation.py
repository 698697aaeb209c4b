"""Normalisation in groups of channels. On a GPU torch computes the moments of each group in one block of threads, and
wants channels first in memory: for sixteen channels of a whole head that leaves nearly all of the GPU idle, and copies
the volume twice. Sums over space, channel by channel, do neither.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

SPACE = (2, 3, 4)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` of volumes (b, c, w, h, d): the same numbers and parameters, in single precision where autocast
    would have them so.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cuda":
            return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        with torch.autocast(x.device.type, enabled=False):
            return normalised(x, self.num_groups, self.weight, self.bias, self.eps)


def normalised(x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """(b, c, w, h, d) → the same in the type of the weights, whatever the order in memory."""
    result: torch.Tensor = _Normalised.apply(x, groups, weight, bias, eps)
    return result


class _Normalised(torch.autograd.Function):
    """With the gradient written out: three passes over the volume instead of the dozen of its parts."""

    @staticmethod
    def forward(
        context: Any, x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        voxels = x[0, 0].numel()
        mean = _of_groups(x.sum(SPACE, dtype=weight.dtype) / voxels, groups)
        squares = torch.linalg.vector_norm(x, 2, SPACE, dtype=weight.dtype).square() / voxels
        rate = (_of_groups(squares, groups) - mean.square()).clamp_(min=0).add_(eps).rsqrt_()
        scale = weight * rate
        context.save_for_backward(x, weight, mean, rate)
        context.groups = groups
        return torch.addcmul(_spread(bias - mean * scale), x, _spread(scale))

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, rate = context.saved_tensors
        (gradient,) = gradients
        count = x[0, 0].numel() * (x.shape[1] // context.groups)
        sums = gradient.sum(SPACE, dtype=weight.dtype)
        products = (gradient * x).sum(SPACE, dtype=weight.dtype)
        of_weight = (rate * (products - mean * sums)).sum(dim=0)
        # The mean of `weight · gradient` over a group, and of `weight · gradient · normalised`.
        plain = _of_groups(weight * sums, context.groups, whole=True) / count
        along = _of_groups(weight * rate * (products - mean * sums), context.groups, whole=True) / count
        slope = -rate.square() * along
        offset = -rate * plain - slope * mean
        of_x = torch.addcmul(_spread(offset), x, _spread(slope)).addcmul_(gradient, _spread(weight * rate))
        return of_x.to(x.dtype), None, of_weight, sums.sum(dim=0), None


def _of_groups(values: torch.Tensor, groups: int, whole: bool = False) -> torch.Tensor:
    """(b, c) → for each channel the mean, or the sum, over its group (b, c)."""
    grouped = values.unflatten(1, (groups, -1))
    merged = grouped.sum(dim=2, keepdim=True) if whole else grouped.mean(dim=2, keepdim=True)
    return merged.expand_as(grouped).flatten(1)


def _spread(values: torch.Tensor) -> torch.Tensor:
    """(b, c) beside volumes (b, c, w, h, d)."""
    return values[:, :, None, None, None]
