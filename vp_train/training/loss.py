"""Soft Dice (paper 3.1) with a small cross-entropy, which tells structures that are absent to stay away."""

from __future__ import annotations

import torch
from torch.nn import functional

SMOOTH = 1e-3


def soft_dice(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(k,) soft Dice of logits (k, w, h, d) and shares (k, w, h, d), with squares in the denominator."""
    probability = torch.sigmoid(logits).flatten(1)
    share = targets.flatten(1)
    overlap = (probability * share).sum(dim=1)
    total = probability.square().sum(dim=1) + share.square().sum(dim=1)
    return (2 * overlap + SMOOTH) / (total + SMOOTH)


def segmentation_loss(
    logits: torch.Tensor, targets: torch.Tensor, cross_entropy: float, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean soft Dice of the targets present, detached); targets of less than a voxel count as absent.

    Args:
        weights: (k,) weight of each target in the mean of Dice; all alike where None.
    """
    dice = soft_dice(logits, targets)
    present = (targets.flatten(1).sum(dim=1) > 1.0).to(dice.dtype)
    if not bool(present.any()):
        present = torch.ones_like(dice)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets)
    weighed = present if weights is None else present * weights
    loss = 1 - (dice * weighed).sum() / weighed.sum() + cross_entropy * entropy
    return loss, ((dice * present).sum() / present.sum()).detach()
