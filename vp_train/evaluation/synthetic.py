"""Dice on synthetic images of held-out subjects, with one to three images and with a corrupted one (paper C.5, Table 3,
Fig. 4C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vp_model.vision.network import VisionNetwork
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import Image, corrupt, draw_grid, draw_scene, render
from vp_train.training.condition import ConditionTable

SMALLEST_VOXELS = 8.0


@dataclass(frozen=True)
class SyntheticScores:
    """Mean Dice of the first image: `by_count[n]` with n images of the head, `corrupted` with three of which one shows
    nothing, and `samples`, how many heads were drawn.
    """

    by_count: dict[int, float]
    corrupted: float
    samples: int


def mean_dice(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean Dice over targets of at least `SMALLEST_VOXELS`, masks at one half."""
    found, wanted = (logits > 0).flatten(1).float(), (targets > 0.5).flatten(1).float()
    size = wanted.sum(dim=1)
    values = 2 * (found * wanted).sum(dim=1) / (found.sum(dim=1) + size).clamp(min=1)
    return float(values[size >= SMALLEST_VOXELS].mean())


@torch.inference_mode()
def score_synthetic(
    network: VisionNetwork,
    table: ConditionTable,
    subjects: Sequence[Subject],
    samples: int,
    spacing_mm: float = 3.0,
    seed: int = 12345,
) -> SyntheticScores:
    """Draw heads of held-out subjects and judge the first image of each, alone and beside others."""
    labels = load_labels()
    anatomy = len(labels.targets)  # pathologies of a table follow the targets of the label maps
    counted: dict[int, list[float]] = {1: [], 2: [], 3: []}
    spoiled: list[float] = []
    for sample in range(samples):
        chance = Chance.seeded(seed + sample)
        subject = subjects[sample % len(subjects)]
        scene = draw_scene(subject, labels, chance)
        images: list[Image] = []
        for number in range(3):
            spacing = [spacing_mm] * 3
            spacing[chance.integer(3)] *= 1.0 if number == 0 else 2.0
            images.append(render(scene, labels, *draw_grid(subject, spacing, None, chance), chance))
        for count, values in counted.items():
            logits = network([image.placed for image in images[:count]], table(count)[:anatomy])[0]
            values.append(mean_dice(logits, images[0].targets))
        given = [images[0], images[1], corrupt(images[2], chance)]
        logits = network([image.placed for image in given], table(3)[:anatomy])[0]
        spoiled.append(mean_dice(logits, images[0].targets))
    by_count = {count: float(np.mean(values)) for count, values in counted.items()}
    return SyntheticScores(by_count, float(np.mean(spoiled)), samples)
