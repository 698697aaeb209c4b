"""Dice of each structure on real scans with reference segmentations, left and right apart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from vp_model.ontology import load_ontology
from vp_model.vision.config import Refining
from vp_model.vision.inference import FeatureCache
from vp_model.vision.mirrored import MirroredViews, segment_averaged
from vp_model.vision.network import VisionNetwork
from vp_model.vision.refinement import Refiner
from vp_model.vision.tissues import tissues_of, tissues_within
from vp_model.volume import Volume, read_nifti
from vp_train.datasets.labels import Labels, load_labels
from vp_train.training.condition import ConditionTable

SCANS = ("real_vxm", "real_icbm152", "real_fsaverage")
CORTEX_IDS = {"left": (1000, 1999), "right": (2000, 2999)}
"""Ids of cortical parcels in a FreeSurfer segmentation; together they are the cortex of a side."""
NOT_IN_REFERENCE = {
    "real_icbm152": ("left cerebral white matter", "right cerebral white matter", "brain"),
    "real_vxm": ("cerebrospinal fluid",),
    "real_fsaverage": ("cerebrospinal fluid",),
}
"""CerebrA holds no white matter; FreeSurfer's fluid is a few voxels between the ventricles, not the fluid around the
brain. Their absence says nothing about m.
"""
SMALLEST_REFERENCE = 20
"""Voxels that a structure needs in the reference to be judged."""


@dataclass(frozen=True)
class Score:
    scan: str
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.dice.values())))


def dice(found: np.ndarray, reference: np.ndarray) -> float:
    """2|A ∩ B| / (|A| + |B|)."""
    return float(2 * np.logical_and(found, reference).sum() / max(found.sum() + reference.sum(), 1))


def read_reference(path: Path, labels: Labels) -> np.ndarray:
    """(w, h, d) compact labels of a reference; cortical parcels are joined to the cortex of their side."""
    ids = np.rint(read_nifti(path).voxels).astype(np.int64)
    for side, (low, high) in CORTEX_IDS.items():
        ids[(ids >= low) & (ids <= high)] = 3 if side == "left" else 42
    return labels.compact(ids)


@dataclass(frozen=True, eq=False)
class Finder:
    """m with its trained conditions on one set of volumes, as a checkpoint with these weights would ask it.

    Attributes:
        mirrored: average over the mirror image.
        refining: how much the images' own intensities say; None: nothing.
    """

    network: VisionNetwork
    table: ConditionTable
    volumes: list[Volume]
    mirrored: bool = False
    refining: Refining | None = None
    _cache: FeatureCache = field(default_factory=FeatureCache)

    @cached_property
    def _conditions(self) -> dict[str, torch.Tensor]:
        return dict(zip(self.table.names, self.table(1).detach()[:, 0], strict=True))

    @cached_property
    def _views(self) -> MirroredViews:
        return MirroredViews(self._conditions if self.mirrored else {})

    @cached_property
    def _refiner(self) -> Refiner | None:
        if self.refining is None:
            return None
        structures = load_ontology().structures
        within = [name for name, structure in structures.items() if structure.kind == "pathology"]
        tissues = tissues_of(self.table.names, left_out=within)
        views = self._views if self.mirrored else None
        parts = tissues_within(self.table.names)
        return Refiner(self.network, tissues, self._conditions, self.refining, self._cache, views, parts)

    def find(self, target: str) -> list[torch.Tensor]:
        """Probability (w, h, d) of a target in each volume."""
        index = self.table.names.index(target)
        phi = self.table(len(self.volumes)).detach()[index : index + 1]
        found = segment_averaged(self.network, self.volumes, target, phi, self._views, self._cache)
        probabilities = [probability[0] for probability in found]
        return probabilities if self._refiner is None else self._refiner.refined(target, self.volumes, probabilities)


def score_scan(
    network: VisionNetwork,
    table: ConditionTable,
    volumes: list[Volume],
    reference: np.ndarray,
    name: str,
    mirrored: bool = False,
    refining: Refining | None = None,
) -> Score:
    """Dice of every target that the reference holds, for the first volume."""
    labels = load_labels()
    finder = Finder(network, table, volumes, mirrored, refining)
    values = {}
    for target in table.names:
        if target not in labels.targets or target in ("white matter lesion", *NOT_IN_REFERENCE.get(name, ())):
            continue
        mask = labels.mask(reference, target)
        if mask.sum() < SMALLEST_REFERENCE:
            continue
        values[target] = dice((finder.find(target)[0] > 0.5).numpy(), mask)
    return Score(name, values)


def score_anatomy(
    network: VisionNetwork,
    table: ConditionTable,
    folder: Path,
    scans: tuple[str, ...] = SCANS,
    mirrored: bool = False,
    refining: Refining | None = None,
) -> list[Score]:
    """Scores on the validation folder (`<scan>_t1.nii.gz`, `<scan>_seg.nii.gz`)."""
    labels = load_labels()
    return [
        score_scan(
            network,
            table,
            [read_nifti(folder / f"{scan}_t1.nii.gz", kind="T1")],
            read_reference(folder / f"{scan}_seg.nii.gz", labels),
            scan,
            mirrored,
            refining,
        )
        for scan in scans
    ]


def score_lesions(
    network: VisionNetwork,
    table: ConditionTable,
    folder: Path,
    kinds: tuple[str, ...],
    mirrored: bool = False,
    threshold: float = 0.5,
) -> float:
    """Dice of `white matter lesion` on the MS patient, from the images named, merged by their maximum (A.3)."""
    volumes = [read_nifti(folder / f"real_ms26_{kind.lower()}.nii.gz", kind=kind) for kind in kinds]
    reference = read_nifti(folder / "real_ms26_lesion.nii.gz").voxels > 0
    found = Finder(network, table, volumes, mirrored).find("white matter lesion")
    return dice((torch.stack(found).amax(dim=0) > threshold).numpy(), reference)


def as_markdown(scores: list[Score]) -> str:
    """A table: structures down, scans across."""
    names = sorted({name for score in scores for name in score.dice})
    lines = ["| structure | " + " | ".join(score.scan for score in scores) + " |"]
    lines.append("|---|" + "---|" * len(scores))
    for name in names:
        cells = [f"{score.dice[name]:.2f}" if name in score.dice else "–" for score in scores]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("| **mean** | " + " | ".join(f"**{score.mean:.3f}**" for score in scores) + " |")
    return "\n".join(lines) + "\n"


def write_scores(scores: list[Score], folder: Path) -> None:
    """`anatomy.json` and `anatomy.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {score.scan: {"mean": score.mean, "dice": score.dice} for score in scores}
    (folder / "anatomy.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    (folder / "anatomy.md").write_text(as_markdown(scores), encoding="utf-8")
