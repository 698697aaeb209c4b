"""Validation accuracy on subjects that training never sees: exact programs, and Dice through α's own φ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from vp_train.joint.examples import JointExample
from vp_train.joint.model import PRESENT_VOXELS, Answer, JointModel


@dataclass(frozen=True)
class Validation:
    """Measured on `count` examples.

    Attributes:
        exact: share of programs that greedy decoding would write exactly as they are, without the grammar's help.
        dice: mean over the masks whose target is present, segmented with the φ that α writes.
        cross_entropy: mean of the examples'.
        regions: mean Dice of each region that was asked for, and how often it was.
    """

    count: int
    exact: float
    dice: float
    cross_entropy: float
    regions: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """What the learning rate and the best checkpoint go by: programs and masks alike."""
        return (self.exact + self.dice) / 2


@dataclass(frozen=True)
class Judged:
    """One example."""

    exact: bool
    cross_entropy: float
    dice: list[tuple[str, float]]


def validate(
    model: JointModel,
    draw: Callable[[int], JointExample],
    count: int,
    accelerator: Accelerator,
    stopped: Callable[[], bool],
    show: Callable[[JointExample, Answer], None] | None = None,
) -> Validation | None:
    """Judges examples 0 … count-1, shared out among the processes; None where it was stopped.

    Args:
        draw: gives the example of a number, of subjects that training never sees.
        stopped: asked by all processes together before each round.
        show: gets the first example of this process that has a mask.
    """
    model.eval()
    judged: list[Judged] = []
    shown = show is None
    for start in range(0, count, accelerator.num_processes):
        if stopped():
            model.train()
            return None
        index = start + accelerator.process_index
        if index >= count:
            continue
        example = draw(index)
        with torch.no_grad(), accelerator.autocast():
            answer = model.answer(example)
        judged.append(judge(example, answer))
        if show is not None and not shown and judged[-1].dice:
            show(example, answer)
            shown = True
    model.train()
    return summarise(gather_object(judged))


def judge(example: JointExample, answer: Answer) -> Judged:
    found: list[tuple[str, float]] = []
    for asked, volumes in zip(example.passes, answer.logits, strict=True):
        for logits, targets in zip(volumes, asked.targets, strict=True):
            for region, values, target in zip(asked.regions, logits, targets, strict=True):
                inside, wanted = values > 0, target > 0.5
                if float(target.sum()) > PRESENT_VOXELS and bool(wanted.any()):
                    both = float((inside & wanted).sum())
                    found.append((region, 2 * both / float(inside.sum() + wanted.sum())))
    return Judged(answer.exact, float(answer.cross_entropy), found)


def summarise(judged: list[Judged]) -> Validation:
    by_region: dict[str, list[float]] = {}
    for item in judged:
        for region, dice in item.dice:
            by_region.setdefault(region, []).append(dice)
    values = [dice for found in by_region.values() for dice in found]
    return Validation(
        len(judged),
        fmean(item.exact for item in judged),
        fmean(values) if values else 0.0,
        fmean(item.cross_entropy for item in judged),
        {region: (fmean(found), len(found)) for region, found in sorted(by_region.items())},
    )
