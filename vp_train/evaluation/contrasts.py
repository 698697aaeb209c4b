"""Dice by sequence type, slice thickness and skull, on synthetic images of held-out heads; real references are of T1.

Real T1 with slices averaged to 5 mm is judged beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vp_model.geometry import scaled_world
from vp_model.vision.config import Refining
from vp_model.vision.network import VisionNetwork
from vp_model.volume import Volume, read_nifti
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.anatomy import SCANS, Finder, read_reference, score_scan
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import draw_grid, draw_scene, render
from vp_train.training.condition import ConditionTable

KINDS = ("T1", "T2", "FLAIR", "PD", "CT")
PLANE_MM, THICK_MM = 1.5, 5.0
SMALLEST_VOXELS = 20.0
LESION = "white matter lesion"


@dataclass(frozen=True)
class ByContrast:
    """Mean Dice over structures and heads.

    Attributes:
        synthetic: kind → (isotropic with skull, without; slices of `THICK_MM` with skull, without).
        thick_real: scan → real T1 with slices of `THICK_MM`, axial.
        samples: heads of each cell.
    """

    synthetic: dict[str, tuple[float, float, float, float]]
    thick_real: dict[str, float]
    samples: int


def score_contrasts(
    network: VisionNetwork,
    table: ConditionTable,
    held_out: Sequence[Subject],
    validation: Path,
    samples: int,
    mirrored: bool,
    refining: Refining | None,
    seed: int = 90_210,
) -> ByContrast:
    """Every kind with and without skull, isotropic and in thick slices, as a checkpoint with these weights finds it."""
    synthetic = {}
    for kind in KINDS:
        cells = []
        for thick in (PLANE_MM, THICK_MM):
            for stripped in (False, True):
                values = [
                    _synthetic(network, table, held_out, kind, thick, stripped, seed + sample, mirrored, refining)
                    for sample in range(samples)
                ]
                cells.append(float(np.mean(values)))
        synthetic[kind] = (cells[0], cells[1], cells[2], cells[3])
    real = {scan: _thick_real(network, table, validation, scan, mirrored, refining) for scan in SCANS}
    return ByContrast(synthetic, real, samples)


def _synthetic(
    network: VisionNetwork,
    table: ConditionTable,
    held_out: Sequence[Subject],
    kind: str,
    thick: float,
    stripped: bool,
    seed: int,
    mirrored: bool,
    refining: Refining | None,
) -> float:
    labels = load_labels()
    chance = Chance.seeded(seed)
    subject = held_out[chance.integer(len(held_out))]
    scene = draw_scene(subject, labels, chance)
    removed = torch.zeros_like(scene.removed)
    removed[labels.structures + 1 : labels.lesion] = stripped
    shape, world = draw_grid(subject, (PLANE_MM, PLANE_MM, thick), None, chance)
    image = render(replace(scene, removed=removed), labels, shape, world, chance, kind)
    volume = Volume(image.placed.features[0], world, name="v1", kind=kind if kind != "CT" else "unknown")
    finder = Finder(network, table, [volume], mirrored, refining)
    values = []
    for index, target in enumerate(labels.targets):
        wanted = image.targets[index] > 0.5
        if target != LESION and float(wanted.sum()) >= SMALLEST_VOXELS:
            found = finder.find(target)[0] > 0.5
            values.append(float(2 * (found & wanted).sum() / (found.sum() + wanted.sum())))
    return float(np.mean(values))


def _thick_real(
    network: VisionNetwork,
    table: ConditionTable,
    validation: Path,
    scan: str,
    mirrored: bool,
    refining: Refining | None,
) -> float:
    volume = read_nifti(validation / f"{scan}_t1.nii.gz", kind="T1")
    reference = read_reference(validation / f"{scan}_seg.nii.gz", load_labels())
    axis = int(np.abs(volume.world[2, :3]).argmax())
    count = round(THICK_MM / float(volume.spacing[axis]))
    whole = volume.shape[axis] // count * count
    factors = [count if number == axis else 1 for number in range(3)]
    cut = [slice(0, whole if number == axis else None) for number in range(3)]
    thick = _averaged(volume, cut, factors)
    # The middle slice of those averaged stands for them in the reference.
    cut[axis] = slice(count // 2, whole, count)
    return score_scan(network, table, [thick], reference[tuple(cut)], scan, mirrored, refining).mean


def _averaged(volume: Volume, cut: Sequence[slice], factors: Sequence[int]) -> Volume:
    features = volume.features[(slice(None), *cut)][None].float()
    averaged = torch.nn.functional.avg_pool3d(features, tuple(factors))[0]
    return replace(volume, features=averaged, world=scaled_world(volume.world, np.asarray(factors)))
