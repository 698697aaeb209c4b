"""Dice of lesions of many kinds on synthetic images of held-out heads, and the probability from which each counts.

There is no real image with a reference for most of them: what is measured here says that they were learned, not how
well they are found in patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vp_model.vision.network import VisionNetwork
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.calibration import CANDIDATES
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.kinds import Kind, load_kinds
from vp_train.synthesis.lesions.targets import is_a
from vp_train.synthesis.scene import draw_grid, draw_scene, render
from vp_train.training.condition import ConditionTable
from vp_train.training.examples import draw_focal, draw_kind
from vp_train.training.recipe import LesionDrawing

SMALLEST_ML = 0.5
"""Smaller lesions are not judged: at the working spacing they are a handful of voxels."""
CALIBRATION_SEED, JUDGED_SEED = 31_000, 52_000


@dataclass(frozen=True)
class PathologyScore:
    """Of one pathology.

    Attributes:
        threshold: probability from which a voxel belongs to it, chosen on other synthetic images of held-out heads.
        dice: mean over the images that show at least `SMALLEST_ML` of it; None where none does.
        images: how many these are.
        by_contrast: mean Dice by sequence type.
        elsewhere_ml: mean volume found in images that show none of it.
    """

    threshold: float
    dice: float | None
    images: int
    by_contrast: dict[str, float]
    elsewhere_ml: float


@torch.inference_mode()
def score_pathologies(
    network: VisionNetwork,
    table: ConditionTable,
    drawing: LesionDrawing,
    held_out: Sequence[Subject],
    anatomies: Mapping[str, Anatomy],
    samples: int,
    spacing_mm: float,
) -> dict[str, PathologyScore]:
    """Scores of each of `drawing.pathologies`.

    Args:
        anatomies: by the subjects' names.
        samples: images drawn for each pathology, and as many again to choose thresholds.
    """
    voxel_ml = spacing_mm**3 / 1000
    drawn = (network, table, drawing, held_out, anatomies, samples, spacing_mm)
    names = drawing.pathologies
    shared, total = np.zeros((len(names), len(CANDIDATES))), np.zeros((len(names), len(CANDIDATES)))
    for _, probability, wanted in _images(*drawn, CALIBRATION_SEED):
        for column, threshold in enumerate(CANDIDATES):
            found = probability > threshold
            shared[:, column] += (found & wanted).sum(axis=1)
            total[:, column] += found.sum(axis=1) + wanted.sum(axis=1)
    pooled = 2 * shared / np.maximum(total, 1)
    thresholds = [CANDIDATES[int(row.argmax())] if row.max() > 0 else 0.5 for row in pooled]
    found_dice: dict[str, list[tuple[str, float]]] = {name: [] for name in names}
    elsewhere: dict[str, list[float]] = {name: [] for name in names}
    for kind, probability, wanted in _images(*drawn, JUDGED_SEED):
        for row, name in enumerate(names):
            found, size = probability[row] > thresholds[row], wanted[row].sum()
            if size * voxel_ml >= SMALLEST_ML:
                found_dice[name].append((kind, 2 * (found & wanted[row]).sum() / (found.sum() + size)))
            elif not size:
                elsewhere[name].append(found.sum() * voxel_ml)
    return {
        name: PathologyScore(
            threshold,
            float(np.mean([value for _, value in found_dice[name]])) if found_dice[name] else None,
            len(found_dice[name]),
            {
                kind: float(np.mean([value for other, value in found_dice[name] if other == kind]))
                for kind in sorted({kind for kind, _ in found_dice[name]})
            },
            float(np.mean(elsewhere[name])) if elsewhere[name] else 0.0,
        )
        for name, threshold in zip(names, thresholds, strict=True)
    }


def _images(
    network: VisionNetwork,
    table: ConditionTable,
    drawing: LesionDrawing,
    held_out: Sequence[Subject],
    anatomies: Mapping[str, Anatomy],
    samples: int,
    spacing_mm: float,
    seed: int,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Sequence type, probability and truth (pathologies, voxels) of `samples` images for each pathology in turn."""
    labels = load_labels()
    places = [table.names.index(name) for name in drawing.pathologies]
    phi = table(1)[places]
    for number, name in enumerate(drawing.pathologies):
        kinds = {kind: drawing.kinds.get(kind, row.weight) * _shows(row, name) for kind, row in load_kinds().items()}
        for sample in range(samples):
            chance = Chance.seeded(seed + 1_000 * number + sample)
            subject = held_out[sample % len(held_out)]
            scene = draw_scene(subject, labels, chance)
            one = replace(drawing, counts=(1.0,), kinds=kinds)
            scene = replace(scene, synthetic=draw_focal(subject, anatomies[subject.name], one, chance))
            grid = draw_grid(subject, [spacing_mm] * 3, None, chance)
            kind = draw_kind(drawing.contrasts, chance)
            image = render(scene, labels, *grid, chance, kind, drawing.pathologies)
            probability = torch.sigmoid(network([image.placed], phi)[0]).flatten(1).numpy()
            yield image.kind, probability, image.targets[len(labels.targets) :].flatten(1).numpy() > 0.5


def _shows(kind: Kind, name: str) -> bool:
    """Whether lesions of a kind are a `name`, or may hold or be surrounded by one."""
    return is_a(kind.structure, name) or any(part.name == name for part in kind.parts)
