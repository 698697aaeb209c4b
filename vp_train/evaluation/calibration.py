"""The probability from which a voxel counts as lesion: small targets that few images show are found with low ones.

Chosen on synthetic heads of held-out subjects, never on real scans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vp_model.vision.network import VisionNetwork
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import draw_grid, draw_scene, render
from vp_train.training.condition import ConditionTable

CANDIDATES = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))


@torch.inference_mode()
def best_threshold(
    network: VisionNetwork,
    table: ConditionTable,
    target: str,
    subjects: Sequence[Subject],
    samples: int,
    spacing_mm: float,
    seed: int = 777,
) -> float:
    """The candidate with the largest Dice over all voxels of `samples` heads; 0.5 where none shows the target."""
    labels, index = load_labels(), table.names.index(target)
    thresholds = np.array(CANDIDATES)[:, None]
    shared, total = np.zeros(len(CANDIDATES)), np.zeros(len(CANDIDATES))
    for sample in range(samples):
        chance = Chance.seeded(seed + sample)
        subject = subjects[sample % len(subjects)]
        image = render(
            draw_scene(subject, labels, chance), labels, *draw_grid(subject, [spacing_mm] * 3, None, chance), chance
        )
        logits = network([image.placed], table(1))[0][index]
        found = torch.sigmoid(logits).flatten().numpy()[None] > thresholds
        wanted = image.targets[index].flatten().numpy()[None] > 0.5
        shared += (found & wanted).sum(axis=1)
        total += found.sum(axis=1) + wanted.sum()
    dice = 2 * shared / np.maximum(total, 1)
    return CANDIDATES[int(dice.argmax())] if dice.max() > 0 else 0.5
