"""The joint step of the paper (3.1 "Supervised Training"): Dice of m trains α through φ, at λ beside the cross-entropy.

The language side is a callable: it reads the prompt with its target program and gives the cross-entropy of the
program's tokens and the φ that it emits at each `<MOD>`. Nothing here knows how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from vp_model.vision.network import VisionNetwork
from vp_train.synthesis.scene import Image
from vp_train.training.loss import segmentation_loss

SEGMENTATION_WEIGHT = 0.1
"""λ (paper A.4)."""
ACCUMULATION = 10
"""Examples of batch size one whose gradients are added up before a step (paper A.4)."""


@dataclass(frozen=True, eq=False)
class Emitted:
    """What α made of a prompt: cross-entropy of its target program (scalar) and φ (k, n, d), both with gradients.

    k counts the calls of `segment` in the program, n the volumes of the example.
    """

    cross_entropy: torch.Tensor
    phi: torch.Tensor


@dataclass(frozen=True, eq=False)
class JointExample:
    """One example: the images (n), and for each call of `segment` the target on every image's grid.

    `targets[volume]` is (k, w, h, d).
    """

    images: Sequence[Image]
    targets: Sequence[torch.Tensor]


@dataclass(frozen=True)
class JointLosses:
    total: float
    cross_entropy: float
    dice: float


def joint_step(
    network: VisionNetwork,
    examples: Sequence[tuple[JointExample, Callable[[], Emitted]]],
    optimizer: torch.optim.Optimizer,
    weight: float = SEGMENTATION_WEIGHT,
    cross_entropy_of_masks: float = 0.0,
) -> JointLosses:
    """One optimizer step over a few examples, each passed alone, gradients accumulated.

    Args:
        network: m; its parameters and α's belong to `optimizer`.
        examples: each with the callable that gives φ for it; called once, so that α's graph lives for one example only.
        weight: λ of the sum of the segmentation losses.
        cross_entropy_of_masks: a small voxel-wise cross-entropy beside Dice; 0 is the paper's.

    Raises:
        ValueError: φ does not fit the example's volumes or targets.
    """
    optimizer.zero_grad(set_to_none=True)
    totals = torch.zeros(3)
    for example, emit in examples:
        emitted = emit()
        found = network([image.placed for image in example.images], emitted.phi)
        if any(logits.shape != target.shape for logits, target in zip(found, example.targets, strict=True)):
            raise ValueError("φ and the targets of an example must speak of the same calls of `segment`.")
        results = [
            segmentation_loss(logits, target, cross_entropy_of_masks)
            for logits, target in zip(found, example.targets, strict=True)
        ]
        segmentation = torch.stack([loss for loss, _ in results]).sum()
        loss = emitted.cross_entropy + weight * segmentation
        (loss / len(examples)).backward()  # type: ignore[no-untyped-call]
        dice = torch.stack([dice for _, dice in results]).mean()
        totals += torch.stack([loss.detach(), emitted.cross_entropy.detach(), dice.detach()]) / len(examples)
    optimizer.step()
    return JointLosses(*totals.tolist())
