"""The loss of small targets that a network has not found yet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vp_train.training.loss import balanced_entropy, recipe_loss, whole_map_loss
from vp_train.training.recipe import bundled_recipe, read_recipe

LESIONS = read_recipe(bundled_recipe("broad_lesions"))
COUNT = len(LESIONS.pathologies)


def small_target(count: int = COUNT) -> torch.Tensor:
    """(count, 30, 30, 30), of which the first shows 27 voxels of 27,000, the others nothing."""
    targets = torch.zeros(count, 30, 30, 30)
    targets[0, 10:13, 10:13, 10:13] = 1.0
    return targets


def test_a_balanced_entropy_is_the_mean_inside_and_outside_whatever_the_size() -> None:
    logits = torch.full((2, 30, 30, 30), -1.0)
    few, many = small_target(2)[:1], torch.ones(1, 30, 30, 30)
    many[:, :15] = 0.0
    inside, outside = torch.nn.functional.softplus(torch.tensor(1.0)), torch.nn.functional.softplus(torch.tensor(-1.0))
    expected = 0.3 * inside + 0.7 * outside
    torch.testing.assert_close(balanced_entropy(logits[:1], few, 0.3), expected)
    torch.testing.assert_close(balanced_entropy(logits[:1], many, 0.3), expected)
    torch.testing.assert_close(balanced_entropy(logits[:1], 0 * few, 0.3), 0.7 * outside)  # nothing to find
    both = balanced_entropy(logits, torch.cat([few, 0 * few]), 0.3)
    torch.testing.assert_close(both, (expected + 0.7 * outside) / 2)


def test_a_lesion_that_is_found_nowhere_is_pulled_up_far_harder_than_by_dice() -> None:
    """Dice and a plain cross-entropy taught no lesion in thousands of images."""
    logits = torch.full((COUNT, 30, 30, 30), -8.0, requires_grad=True)
    targets, weights = small_target(), torch.ones(COUNT)

    def pull(balanced: float) -> float:
        loss, _ = recipe_loss(replace(LESIONS, balanced=balanced), logits, targets, weights)
        (gradient,) = torch.autograd.grad(loss, logits)
        return float(-gradient[targets > 0].sum())

    assert pull(LESIONS.balanced) > 20 * pull(0.0) > 0


def test_without_balance_a_recipes_loss_is_that_of_the_whole_map() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, weights = torch.randn(COUNT + 2, 8, 9, 7, generator=generator), torch.rand(COUNT + 2, generator=generator)
    targets = torch.rand(COUNT + 2, 8, 9, 7, generator=generator)
    plain, dice = whole_map_loss(logits, targets, LESIONS.voxelwise, weights)
    found, mean = recipe_loss(replace(LESIONS, balanced=0.0), logits, targets, weights)
    assert float(found) == float(plain) and float(mean) == float(dice)
    more, _ = recipe_loss(LESIONS, logits, targets, weights)
    entropy = balanced_entropy(logits[2:], targets[2:], LESIONS.balanced_share)
    torch.testing.assert_close(more, plain + LESIONS.balanced * entropy)


def test_only_a_recipe_with_lesions_can_balance_them() -> None:
    for changes in ({"lesions": None}, {"voxelwise": 0.0}):
        with pytest.raises(ValueError, match="both lesions and voxelwise"):
            replace(LESIONS, **changes)
