"""Dice of regions of the parcellation: on the real scan whose reference has parcels, and on synthetic images.

The label maps' own parcels were propagated from atlases, so that agreement with them says how well m repeats the
propagation. CerebrA's parcels, edited by hand, follow a protocol of their own (no frontal and temporal pole, no banks
of the superior temporal sulcus).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vp_model.vision.config import Refining
from vp_model.vision.network import VisionNetwork
from vp_model.volume import read_nifti
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.parcels import load_parcels
from vp_train.evaluation.anatomy import SMALLEST_REFERENCE, Finder, dice
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import draw_grid, draw_scene, render
from vp_train.training.condition import ConditionTable

SCAN = "real_icbm152"
SMALLEST_VOXELS = 8.0
SEED = 71_000


@dataclass(frozen=True)
class RegionScore:
    """Dice on the real scan, None where its reference lacks the region; mean on synthetic images of held-out heads."""

    real: float | None
    synthetic: float | None

    @property
    def dice(self) -> float | None:
        return self.synthetic if self.real is None else self.real


def score_regions(
    network: VisionNetwork,
    table: ConditionTable,
    validation: Path,
    held_out: Sequence[Subject],
    samples: int,
    spacing_mm: float,
    mirrored: bool = False,
    refining: Refining | None = None,
) -> dict[str, RegionScore]:
    """Scores of each region of `parcels.json` that the table knows.

    Args:
        held_out: with their parcellations.
        samples: synthetic images, of any sequence type.
    """
    names = [name for name in load_parcels().names if name in table.names]
    if not names:
        return {}
    real = _real(network, table, validation, names, mirrored, refining)
    synthetic = _synthetic(network, table, held_out, names, samples, spacing_mm)
    return {name: RegionScore(real.get(name), synthetic.get(name)) for name in names}


def _real(
    network: VisionNetwork,
    table: ConditionTable,
    validation: Path,
    names: Sequence[str],
    mirrored: bool,
    refining: Refining | None,
) -> dict[str, float]:
    ids = np.rint(read_nifti(validation / f"{SCAN}_seg.nii.gz").voxels).astype(np.int64)
    finder = Finder(network, table, [read_nifti(validation / f"{SCAN}_t1.nii.gz", kind="T1")], mirrored, refining)
    values = {}
    for name in names:
        mask = np.isin(ids, load_parcels().ids(name))
        if mask.sum() >= SMALLEST_REFERENCE:
            values[name] = dice((finder.find(name)[0] > 0.5).numpy(), mask)
    return values


@torch.inference_mode()
def _synthetic(
    network: VisionNetwork,
    table: ConditionTable,
    held_out: Sequence[Subject],
    names: Sequence[str],
    samples: int,
    spacing_mm: float,
) -> dict[str, float]:
    labels = load_labels()
    first = len(labels.targets)
    phi = table(1)[[table.names.index(name) for name in names]]
    values: dict[str, list[float]] = {name: [] for name in names}
    for sample in range(samples):
        chance = Chance.seeded(SEED + sample)
        scene = draw_scene(held_out[sample % len(held_out)], labels, chance)
        grid = draw_grid(scene.subject, [spacing_mm] * 3, None, chance)
        image = render(scene, labels, *grid, chance, regions=names)
        wanted = image.targets[first:] > 0.5
        for name, logits, mask in zip(names, network([image.placed], phi)[0], wanted, strict=True):
            if float(mask.sum()) >= SMALLEST_VOXELS:
                values[name].append(dice((logits > 0).numpy(), mask.numpy()))
    return {name: float(np.mean(found)) for name, found in values.items() if found}
