"""Soft Dice (paper 3.1) with a small cross-entropy, which tells structures that are absent to stay away; and the same
for all structures of a label map at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from vp_train.training.recipe import Recipe

SMOOTH = 1e-3
BLOCK = 4096
"""Voxels that `whole_map_loss` takes at a time on a CPU, whose cache they fit into."""
BLOCK_ELSEWHERE = 1 << 19


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
    logits: torch.Tensor, targets: torch.Tensor, voxelwise: float, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean soft Dice of the targets present, detached) where the conditions of a pass are a whole label map.

    Beside Dice of each mask stands the cross-entropy of each sigmoid, summed over the targets and averaged over the
    voxels: every voxel says of every structure whether it is there, as a label map of many classes does. A softmax over
    the structures would do the same but contradict the masks where two structures share a voxel: both would exceed one
    half.

    Args:
        logits, targets: (k, w, h, d).
        voxelwise: weight of the cross-entropy.
        weights: (k,) weight of each target in the mean of Dice.
    """
    loss, dice = _WholeMapLoss.apply(logits.flatten(1), targets.flatten(1), voxelwise, weights)
    return loss, dice


def recipe_loss(
    recipe: Recipe, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean soft Dice of the targets present, detached) of one image, as a recipe has it.

    Args:
        logits, targets: (k, w, h, d), the recipe's pathologies last.
        weights: (k,) weight of each target in the mean of Dice.
    """
    if not recipe.voxelwise:
        return segmentation_loss(logits, targets, recipe.cross_entropy, weights)
    loss, dice = whole_map_loss(logits, targets, recipe.voxelwise, weights)
    if recipe.balanced:
        lesions = slice(-len(recipe.pathologies), None)
        loss = loss + recipe.balanced * balanced_entropy(logits[lesions], targets[lesions], recipe.balanced_share)
    return loss, dice


def balanced_entropy(logits: torch.Tensor, targets: torch.Tensor, share: float) -> torch.Tensor:
    """Mean over the targets of a cross-entropy in which all voxels of a target together count `share`, however few they
    are, and all others the rest.

    A small target that a network has not found yet is nowhere, and there soft Dice has next to no gradient: that is
    multiplied with the probability, which is 0. A plain cross-entropy has one, a thousandth of what it is for others.

    Args:
        logits, targets: (k, w, h, d).
    """
    x, y = logits.flatten(1), targets.flatten(1)
    inside = (functional.softplus(-x) * y).sum(dim=1) / y.sum(dim=1).clamp(min=1.0)
    outside = (functional.softplus(x) * (1 - y)).sum(dim=1) / (1 - y).sum(dim=1).clamp(min=1.0)
    return (share * inside + (1 - share) * outside).mean()


class _WholeMapLoss(torch.autograd.Function):
    """`whole_map_loss` with its gradient made beside it: few passes over memory where autograd would make forty."""

    @staticmethod
    def forward(
        context: Any, logits: torch.Tensor, share: torch.Tensor, voxelwise: float, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        voxels, device = logits.shape[1], logits.device
        step = BLOCK if device.type == "cpu" else BLOCK_ELSEWHERE
        sums = torch.zeros(4, logits.shape[0], dtype=torch.float64, device=device)
        entropy = torch.zeros((), dtype=torch.float64, device=device)
        probability = torch.empty_like(logits)
        # Blocks that stay in the processor's cache: every pass over the whole would wait for memory instead.
        for start in range(0, voxels, step):
            block = slice(start, start + step)
            x, y = logits[:, block], share[:, block]
            p = torch.sigmoid(x)
            probability[:, block] = p
            parts = (torch.linalg.vecdot(p, y), torch.linalg.vecdot(p, p), torch.linalg.vecdot(y, y), y.sum(dim=1))
            sums += torch.stack(parts)
            entropy += functional.binary_cross_entropy_with_logits(x, y, reduction="sum")

        overlap, squares, wanted_squares, amount = sums.to(logits.dtype)
        over, under = 2 * overlap + SMOOTH, squares + wanted_squares + SMOOTH
        dice = over / under
        present = (amount > 1.0).to(dice.dtype)
        present = torch.where(present.any(), present, torch.ones_like(dice))  # without waiting for a GPU to say
        weighed = present * weights
        weighed = weighed / weighed.sum()
        loss = 1 - (dice * weighed).sum() + voxelwise * (entropy / voxels).to(dice.dtype)

        gradient = torch.empty_like(logits)
        of_share, of_probability = (-2 * weighed / under)[:, None], (2 * weighed * over / under.square())[:, None]
        for start in range(0, voxels, step):
            block = slice(start, start + step)
            p, y = probability[:, block], share[:, block]
            slope = (y * of_share).addcmul_(p, of_probability)
            gradient[:, block] = slope.mul_(p).mul_(1 - p).add_(p - y, alpha=voxelwise / voxels)
        mean = (dice * present).sum() / present.sum()
        context.save_for_backward(gradient)
        context.mark_non_differentiable(mean)
        return loss, mean

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = context.saved_tensors
        return gradient * gradients[0], None, None, None
