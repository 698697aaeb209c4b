"""α and m as one module: writes a target program with teacher forcing and runs what it calls (paper 3.1).

Notable:
- every step is read as at inference (`vp_model.language.decoding`): ε as embeddings, then the feedback, then the code;
- φ at the `<MOD>` of a step goes to m, so that the loss of the masks trains α; ε goes back to α, so that the
  cross-entropy of a later step trains m;
- calls of `segment` on the same volumes are one pass of m with k conditions, in turns where memory asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vp_model.language.model import LanguageModel
from vp_model.vision.network import Shared, VisionNetwork
from vp_train.joint.examples import JointExample, Pass
from vp_train.training.loss import soft_dice

PRESENT_VOXELS = 1.0
"""A target of less counts as absent."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model made of an example.

    Attributes:
        cross_entropy: mean over the tokens of the program, all steps, with their endings.
        exact: the most probable token is the target's everywhere: greedy decoding would write exactly this program.
        logits: for each pass of the example and each of its volumes (k, w, h, d).
    """

    cross_entropy: torch.Tensor
    exact: bool
    logits: tuple[tuple[torch.Tensor, ...], ...]


@dataclass(frozen=True, eq=False)
class Losses:
    """Of one example; `total` has the gradient, the others are detached.

    Attributes:
        segmentation: sum of the losses of all masks.
        dice: mean soft Dice of the masks whose target is present; NaN where there is none.
    """

    total: torch.Tensor
    cross_entropy: torch.Tensor
    segmentation: torch.Tensor
    dice: torch.Tensor


class JointModel(nn.Module):
    """L_ce(P(k), k*) + λ Σ L_seg(W, W*) of an example."""

    def __init__(
        self,
        language: LanguageModel,
        vision: VisionNetwork,
        marker: int,
        segmentation_weight: float,
        voxelwise: float = 0.0,
        conditions_at_once: int = 0,
    ) -> None:
        """
        Args:
            marker: the token `<MOD>`.
            segmentation_weight: λ.
            voxelwise: weight of each mask's mean cross-entropy beside its Dice.
            conditions_at_once: conditions of one turn of m; 0: all.
        """
        super().__init__()
        self.language = language
        self.vision = vision
        self.marker = marker
        self.segmentation_weight = segmentation_weight
        self.voxelwise = voxelwise
        self.conditions_at_once = conditions_at_once

    def forward(self, example: JointExample) -> Losses:
        answer = self.answer(example)
        segmentation = answer.cross_entropy.new_zeros(())
        found: list[torch.Tensor] = []
        for asked, logits in zip(example.passes, answer.logits, strict=True):
            for values, target in zip(logits, asked.targets, strict=True):
                loss, dice = self._mask_losses(values.float(), target)
                segmentation = segmentation + loss
                found.append(dice)
        dices = torch.cat(found) if found else answer.cross_entropy.new_zeros(0)
        total = answer.cross_entropy + self.segmentation_weight * segmentation
        return Losses(total, answer.cross_entropy.detach(), segmentation.detach(), dices.mean())

    def answer(self, example: JointExample) -> Answer:
        """Writes the program step by step, encoding between the steps, then segments."""
        device = self.language.vocabulary.weight.device
        seen: dict[tuple[int, ...], Shared] = {}
        cache = encodings = None
        conditions: list[torch.Tensor] = []
        losses: list[torch.Tensor] = []
        exact = True
        for number, step in enumerate(example.steps):
            last = number + 1 == len(example.steps)
            ids = torch.tensor([[*step.read, *step.code]], device=device)
            wanted = torch.tensor([*step.code, step.ending], device=device)
            written = self.language(ids, encodings, cache, use_cache=not last)
            cache = written.cache
            logits = written.logits[0, len(step.read) - 1 :].float()
            losses.append(functional.cross_entropy(logits, wanted, reduction="none"))
            exact = exact and bool((logits.argmax(dim=-1) == wanted).all())
            code = torch.tensor(step.code, device=device)
            conditions += written.phi[0, len(step.read) :][code == self.marker].unbind()
            if not last:
                found = [self._encode(example, call.volumes, call.markers, conditions, seen) for call in step.encodings]
                encodings = torch.cat(found)[None] if found else None
        masks = tuple(self._segment(example, asked, conditions, seen) for asked in example.passes)
        return Answer(torch.cat(losses).mean(), exact, masks)

    def _look(self, example: JointExample, volumes: tuple[int, ...], seen: dict[tuple[int, ...], Shared]) -> Shared:
        """What m sees of a set of volumes before φ, once."""
        if volumes not in seen:
            seen[volumes] = self.vision.shared([example.images[index] for index in volumes])
        return seen[volumes]

    def _encode(
        self,
        example: JointExample,
        volumes: tuple[int, ...],
        markers: tuple[int, ...],
        conditions: list[torch.Tensor],
        seen: dict[tuple[int, ...], Shared],
    ) -> torch.Tensor:
        """ε (n, b)."""
        phi = torch.stack([conditions[marker] for marker in markers])[None]
        return self.vision.encodings(self._look(example, volumes, seen), phi)[0]

    def _segment(
        self,
        example: JointExample,
        asked: Pass,
        conditions: list[torch.Tensor],
        seen: dict[tuple[int, ...], Shared],
    ) -> tuple[torch.Tensor, ...]:
        """Logits (k, w, h, d) of each volume."""
        shared = self._look(example, asked.volumes, seen)
        phi = torch.stack([torch.stack([conditions[marker] for marker in markers]) for markers in asked.markers])
        turn = self.conditions_at_once or len(phi)
        if len(phi) <= turn:
            return tuple(self.vision.finish(shared, phi))
        turns: list[list[torch.Tensor]] = []
        for start in range(0, len(phi), turn):
            part = phi[start : start + turn]
            if torch.is_grad_enabled():
                turns.append(checkpoint(self.vision.finish, shared, part, use_reentrant=False))
            else:
                turns.append(self.vision.finish(shared, part))
        return tuple(torch.cat(parts) for parts in zip(*turns, strict=True))

    def _mask_losses(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over k masks of soft Dice's loss, and the soft Dice (detached) of those that are present.

        Dice of an absent target is 0 whatever is done and has no gradient worth following: only `voxelwise` teaches it.
        """
        present = target.flatten(1).sum(dim=1) > PRESENT_VOXELS
        dice = soft_dice(logits, target)[present]
        loss = (1 - dice).sum()
        if self.voxelwise:
            entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            loss = loss + self.voxelwise * entropy.flatten(1).mean(dim=1).sum()
        return loss, dice.detach()
