"""Lesions: what lesion synthesis brings (4.2 "Lesion Synthesis", Fig. 5), judged on real images never trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.vision.inference import segment_volumes
from vp_model.vision.network import VisionNetwork
from vp_model.volume import Volume, read_nifti
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.anatomy import dice
from vp_train.experiments.fitting import dice_by_target, draw_images, fit, read_fit
from vp_train.experiments.report import Report, flat
from vp_train.experiments.statistics import compare, summarise
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.scene import Scene
from vp_train.training.condition import ConditionTable

PAPER = "lesion synthesis brings +27.7 % Dice on four unseen data sets (Fig. 5)."
LESION = "white matter lesion"
TARGETS = ("brain", LESION)
"""What the two networks learn: the lesion, and the brain that the threshold needs."""
THRESHOLD_Z = 2.5
SMALLEST_LESION_MM3 = 10.0


def threshold_lesions(volume: Volume, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The baseline: voxels brighter than `THRESHOLD_Z` robust deviations above the brain's median, without its rim and
    without specks.
    """
    inside = ndimage.binary_erosion(brain, iterations=max(1, round(3.0 / float(volume.spacing.min()))))
    values = volume.voxels[inside]
    if not values.size:
        return np.zeros_like(brain)
    middle = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - middle))) or 1.0
    bright = inside & (volume.voxels > middle + THRESHOLD_Z * deviation)
    labelled, count = ndimage.label(bright)
    sizes = np.bincount(labelled.ravel(), minlength=count + 1) * float(np.prod(volume.spacing))
    sizes[0] = 0.0
    kept: NDArray[np.bool_] = sizes[labelled] >= SMALLEST_LESION_MM3
    return kept


@dataclass(frozen=True, eq=False)
class Ablation:
    """Scenes with and without lesion synthesis (B.6).

    Attributes:
        anatomies: of each subject, by its name.
        asked, others: kinds of lesions (`lesions/kinds.json`) that are the target, and that are not.
        share: how many scenes show lesions that are the target; `beside`, others.
    """

    anatomies: Mapping[str, Anatomy]
    asked: tuple[str, ...]
    others: tuple[str, ...]
    share: float
    beside: float

    def without(self, scene: Scene, chance: Chance) -> Scene:
        """Only the lesions that the label map itself holds."""
        if scene.lesions is None:
            return scene
        return replace(scene, lesions=replace(scene.lesions, threshold=math.inf, known=True))

    def synthetic(self, scene: Scene, chance: Chance) -> Scene:
        """These, and lesions drawn into the label map: some that are the target, some that are not."""
        anatomy = self.anatomies[scene.subject.name]
        found: tuple[SyntheticLesion, ...] = ()
        if chance.happens(self.share):
            found = draw_lesions(scene.subject, anatomy, chance, 1, self.asked)
        if chance.happens(self.beside):
            found += draw_lesions(scene.subject, anatomy, chance, 1, self.others, avoid=found)
        return replace(self.without(scene, chance), synthetic=found)


def run(
    settings: Mapping[str, Any],
    subjects: Sequence[Subject],
    held_out: Sequence[Subject],
    anatomies: Sequence[Anatomy],
    scans: Path | None,
) -> Report:
    """Train with and without lesion synthesis and judge both on the same images.

    Args:
        anatomies: of the subjects, then of those held out.
        scans: folder with a real patient (`<name>_flair.nii.gz` and `<name>_lesion.nii.gz`); left out where None.
    """
    fitted = read_fit(settings["fit"])
    drawn = dict(settings["lesions"])
    ablation = Ablation(
        {subject.name: anatomy for subject, anatomy in zip((*subjects, *held_out), anatomies, strict=True)},
        tuple(drawn.pop("asked")),
        tuple(drawn.pop("others")),
        **drawn,
    )
    trained = {
        "with": fit(fitted, subjects, TARGETS, "FLAIR", ablation.synthetic),
        "without": fit(fitted, subjects, TARGETS, "FLAIR", ablation.without),
    }
    synthetic: dict[str, list[float]] = {name: [] for name in trained}
    for sample in range(int(settings["samples"])):
        chance = Chance.seeded(6_000_000 + sample)
        subject = held_out[sample % len(held_out)]
        image = draw_images(subject, chance, fitted.spacing_mm, 1, "FLAIR", ablation.synthetic)[0]
        scores = {name: _synthetic_dice(*parts, image.placed, image.targets) for name, parts in trained.items()}
        if all(value is not None for value in scores.values()):
            for name, value in scores.items():
                synthetic[name].append(float(value or 0.0))
    rows: list[tuple[str, ...]] = [("synthetic lesions, held-out subjects", *_cells(synthetic), "–", _test(synthetic))]
    real: dict[str, dict[str, float]] = {}
    for path in sorted(scans.glob("*_lesion.nii.gz")) if scans is not None else []:
        name = path.name.removesuffix("_lesion.nii.gz")
        volume = read_nifti(path.with_name(f"{name}_flair.nii.gz"), kind="FLAIR")
        reference = read_nifti(path).voxels > 0
        found = {key: _mask(*parts, volume, LESION) for key, parts in trained.items()}
        brain = _mask(*trained["with"], volume, "brain")
        real[name] = {key: dice(mask, reference) for key, mask in found.items()}
        real[name]["threshold"] = dice(threshold_lesions(volume, brain), reference)
        rows.append(
            (f"real: {name}", *(f"{100 * real[name][key]:.1f}" for key in ("with", "without", "threshold")), "–")
        )
    notes = (
        "With synthesis, white matter lesions are drawn into the label maps from Brownian noise (B.6), in some images "
        "beside lesions of other kinds that are not the target; without, only the label maps' own lesions are left.",
        f"The threshold is {THRESHOLD_Z} robust deviations above the brain's median, cleaned.",
    )
    return Report(
        "lesion-synthesis",
        "What lesion synthesis brings (Fig. 5)",
        PAPER,
        ("judged on", "with synthesis", "without", "intensity threshold", "paired test"),
        tuple(rows),
        notes,
        flat({key: value for key, value in settings.items() if key != "lesions"}),
        {"synthetic": synthetic, "real": real},
    )


def _cells(values: Mapping[str, Sequence[float]]) -> tuple[str, str]:
    return (
        summarise(values["with"]).percent() if values["with"] else "–",
        summarise(values["without"]).percent() if values["without"] else "–",
    )


def _test(values: Mapping[str, Sequence[float]]) -> str:
    return compare(values["with"], values["without"]).verdict() if values["with"] else "–"


@torch.inference_mode()
def _synthetic_dice(network: VisionNetwork, table: ConditionTable, placed: Any, targets: torch.Tensor) -> float | None:
    logits = network([placed], table(1))[0]
    places = [load_labels().targets.index(name) for name in table.names]
    return dice_by_target(logits, targets[places], table.names).get(LESION)


def _mask(network: VisionNetwork, table: ConditionTable, volume: Volume, target: str) -> NDArray[np.bool_]:
    index = table.names.index(target)
    found: NDArray[np.bool_] = (
        (segment_volumes(network, [volume], table(1).detach()[index : index + 1])[0][0] > 0.5).cpu().numpy()
    )
    return found
