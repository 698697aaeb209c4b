"""Label maps of whole heads, read once and kept as small arrays in a cache folder.

Layout of the data: `<name>_seg.nii.gz` with aseg ids, 1 mm, RAS (SynthSeg's public training maps, Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import torch

from vp_model.geometry import spacing
from vp_model.vision.prepare import to_ras
from vp_train.datasets.labels import Labels, cut_of, load_labels
from vp_train.datasets.parcels import load_parcels, read_parcels

HELD_OUT = ("synthseg_19", "synthseg_20")
"""Whole subjects that training never sees."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A label map: `labels` (w, h, d) uint8 of compact indices, 1 mm RAS, with a border of background.

    Attributes:
        low, high: (3,) index of the brain's bounding box in `labels`, `high` being one past the last.
        parcels: (w, h, d) uint8, compact indices of the parcellation (`parcels.json`), where it was read.
    """

    name: str
    labels: torch.Tensor
    low: tuple[int, int, int]
    high: tuple[int, int, int]
    parcels: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Subject:
        """With its voxels on a device."""
        parcels = None if self.parcels is None else self.parcels.to(device)
        return replace(self, labels=self.labels.to(device), parcels=parcels)


def read_subject(path: Path, scheme: Labels) -> Subject:
    """One label map, cut to `labels.MARGIN_MM` around the brain.

    Raises:
        ValueError: the map is not of 1 mm, or holds no brain.
    """
    image = nibabel.load(path)
    ids, world = to_ras(np.asarray(image.dataobj), np.asarray(image.affine))  # type: ignore[attr-defined]
    if np.abs(spacing(world) - 1).max() > 0.01:
        raise ValueError(f"{path.name} has a spacing of {spacing(world)} mm; label maps of 1 mm are expected.")
    compact = scheme.compact_with_lesions(ids)
    if not ((compact > 0) & (compact <= scheme.structures)).any():
        raise ValueError(f"{path.name} holds no structure of structures.json.")
    cut = np.pad(compact[cut_of(compact, scheme)], 1)
    return _subject(path.name.removesuffix("_seg.nii.gz"), cut, scheme)


def _subject(name: str, compact: np.ndarray, scheme: Labels) -> Subject:
    inside = np.argwhere(np.isin(compact, scheme.brain))
    first, last = inside.min(axis=0), inside.max(axis=0) + 1
    return Subject(
        name,
        torch.from_numpy(compact),
        (int(first[0]), int(first[1]), int(first[2])),
        (int(last[0]), int(last[1]), int(last[2])),
    )


def load_subjects(folder: Path, cache: Path | None = None) -> list[Subject]:
    """Every `synthseg_*_seg.nii.gz` of the folder, sorted by name; arrays are kept in `cache` where given.

    Raises:
        FileNotFoundError: there is none.
    """
    scheme = load_labels()
    subjects = []
    for path in sorted(folder.glob("synthseg_*_seg.nii.gz")):
        kept = None if cache is None else cache / path.name.replace(".nii.gz", ".npy")
        if kept is not None and kept.exists():
            subjects.append(_subject(path.name.removesuffix("_seg.nii.gz"), np.load(kept), scheme))
            continue
        subject = read_subject(path, scheme)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, subject.labels.numpy())
        subjects.append(subject)
    if not subjects:
        raise FileNotFoundError(f"No label map synthseg_*_seg.nii.gz in {folder}.")
    return subjects


def with_parcels(subjects: list[Subject], folder: Path, cache: Path | None = None) -> list[Subject]:
    """The subjects with the parcellation that lies beside their label maps; arrays are kept in `cache` where given.

    Raises:
        FileNotFoundError: one has none.
        ValueError: one is not on its label map's grid.
    """
    labels, scheme = load_labels(), load_parcels()
    found = []
    for subject in subjects:
        kept = None if cache is None else cache / f"{subject.name}_parcels_{scheme.version}.npy"
        if kept is not None and kept.exists():
            found.append(replace(subject, parcels=torch.from_numpy(np.load(kept))))
            continue
        ids = read_parcels(folder, subject.name, labels)
        if ids is None:
            raise FileNotFoundError(f"No parcellation {subject.name}_parc.nii.gz in {folder}.")
        compact = scheme.compact(ids)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, compact)
        found.append(replace(subject, parcels=torch.from_numpy(compact)))
    return found


def split(subjects: list[Subject]) -> tuple[list[Subject], list[Subject]]:
    """(training, held out)."""
    return (
        [subject for subject in subjects if subject.name not in HELD_OUT],
        [subject for subject in subjects if subject.name in HELD_OUT],
    )
