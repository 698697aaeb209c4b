"""Soft Dice (paper 3.1) with a small cross-entropy, which tells structures that are absent to stay away; and the same
for all structures of a label map at once, which then compete for each voxel.
"""

from __future__ import annotations

from typing import Any

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


def whole_map_loss(
    logits: torch.Tensor, targets: torch.Tensor, exclusive: int, softmax: float, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean soft Dice of the targets present, detached) where the conditions of a pass are a whole label map.

    Beside Dice of each mask, the first `exclusive` logits compete in a softmax against a background of logit 0, whose
    cross-entropy says at every voxel which structure it is: a far denser signal than one mask at a time gives. Masks
    stay sigmoids of the same logits. The other targets get the cross-entropy of their own sigmoid.

    Args:
        logits, targets: (k, w, h, d).
        softmax: weight of the cross-entropies.
        weights: (k,) weight of each target in the mean of Dice.
    """
    loss, dice = _WholeMapLoss.apply(logits.flatten(1), targets.flatten(1), exclusive, softmax, weights)
    return loss, dice


class _WholeMapLoss(torch.autograd.Function):
    """`whole_map_loss` with its gradient made beside it: a fifth of the passes over memory that autograd would make."""

    @staticmethod
    def forward(
        context: Any, logits: torch.Tensor, share: torch.Tensor, exclusive: int, softmax: float, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        voxels = logits.shape[1]
        probability = torch.sigmoid(logits)
        over = 2 * torch.linalg.vecdot(probability, share) + SMOOTH
        under = torch.linalg.vecdot(probability, probability) + torch.linalg.vecdot(share, share) + SMOOTH
        dice = over / under
        present = (share.sum(dim=1) > 1.0).to(dice.dtype)
        if not bool(present.any()):
            present = torch.ones_like(dice)
        weighed = present * weights
        weighed = weighed / weighed.sum()
        loss = 1 - (dice * weighed).sum()

        gradient = share * (-2 * weighed / under)[:, None]
        gradient.addcmul_(probability, (2 * weighed * over / under.square())[:, None])
        gradient.mul_(probability)
        gradient.sub_(gradient * probability)

        structures, rest = logits[:exclusive], logits[exclusive:]
        highest = structures.amax(dim=0).clamp_min_(0)
        exponential = (structures - highest).exp_()
        total = exponential.sum(dim=0).add_((-highest).exp())
        log_total = (highest + total.log()).sum()
        entropy = (log_total - torch.linalg.vecdot(share[:exclusive], structures).sum()) / voxels
        gradient[:exclusive] += exponential.div_(total).sub_(share[:exclusive]).mul_(softmax / voxels)
        if len(rest):
            count = rest.numel()
            entropy = entropy + functional.binary_cross_entropy_with_logits(rest, share[exclusive:])
            gradient[exclusive:] += (probability[exclusive:] - share[exclusive:]).mul_(softmax / count)
        context.save_for_backward(gradient)
        mean = (dice * present).sum() / present.sum()
        context.mark_non_differentiable(mean)
        return loss + softmax * entropy, mean

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = context.saved_tensors
        return gradient * gradients[0], None, None, None, None
