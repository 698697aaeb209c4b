"""Prepared miniature data sets of made-up heads: anatomy with its labels, and a tumour with its parts."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from tests.vp_train.lesion_heads import head_and_anatomy, plain_labels
from vp_train.datasets.labels import load_labels
from vp_train.datasets.public.index import read_dataset
from vp_train.datasets.public.prepare import prepare_dataset
from vp_train.datasets.public.splits import Part, part_of

STEP = 2
ORIGIN = (-50.0, -60.0, -40.0)
BRIGHT = {"T1": 900.0, "FLAIR": 500.0}


def subjects(dataset: str, part: Part, count: int) -> list[str]:
    """Names of subjects that belong to a part of the split."""
    found = [name for number in range(400) if part_of(dataset, name := f"{number:05}") == part]
    return found[:count]


def labels_on_grid() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(50, 50, 50) compact labels of the made-up head at 2 mm, and its matrix."""
    world = np.diag([STEP, STEP, STEP, 1.0]).astype(np.float64)
    world[:3, 3] = ORIGIN
    return plain_labels(head_and_anatomy()[0])[::STEP, ::STEP, ::STEP], world


def picture(compact: NDArray[np.int64], kind: str, seed: int) -> NDArray[np.float32]:
    """An image of the labels: each has a value of its own, the same on both sides; air is dark."""
    generator = np.random.default_rng(seed + len(kind))
    swap = load_labels().swap.numpy()
    means = np.random.default_rng(len(kind)).uniform(0.3, 1.0, len(swap))
    means = np.minimum(means, means[swap]) * BRIGHT[kind]
    means[0] = 0.0
    voxels: NDArray[np.float32] = (means[compact] + generator.normal(0, 8, compact.shape)).astype(np.float32)
    return np.where(compact > 0, voxels, 0).astype(np.float32)


def aseg_ids(compact: NDArray[np.int64]) -> NDArray[np.int16]:
    """Ids of FreeSurfer for compact labels; 0 where they are no structure."""
    labels = load_labels()
    ids = np.zeros(compact.shape, dtype=np.int16)
    for index in range(1, labels.structures + 1):
        ids[compact == index] = int(np.flatnonzero(labels.from_id == index)[0])
    return ids


def tumour(shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Labels of BraTS: an enhancing rim about a necrotic core within edema, in the left hemisphere."""
    x, y, z = np.indices(shape)
    far = np.sqrt((x - 16.0) ** 2 + (y - 28) ** 2 + (z - 30) ** 2)
    return np.select([far < 3, far < 5, far < 8], [1, 3, 2], 0).astype(np.int16)


def save(path: Path, voxels: NDArray[np.generic], world: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, world), path)


def prepared_anatomy(folder: Path, out: Path, names: list[str], sessions: int = 1) -> Path:
    """Healthy heads with T1, FLAIR and the labels of FreeSurfer (layout `nifti`), prepared."""
    compact, world = labels_on_grid()
    for number, name in enumerate(names):
        for session in range(sessions):
            place = folder / name if sessions == 1 else folder / name / f"202{session}"
            for kind in ("T1", "FLAIR"):
                save(place / f"{kind.lower()}.nii.gz", picture(compact, kind, number), world)
            save(place / "seg.nii.gz", aseg_ids(compact), world)
    return _prepared(folder, out)


def prepared_tumours(folder: Path, out: Path, names: list[str]) -> Path:
    """Heads with a tumour in the layout of BraTS, prepared; their anatomy is marked nowhere."""
    compact, world = labels_on_grid()
    marked = tumour(compact.shape)
    for number, name in enumerate(names):
        case = f"BraTS-GLI-{name}-000"
        for suffix, kind in (("t1n", "T1"), ("t1c", "T1"), ("t2w", "FLAIR"), ("t2f", "FLAIR")):
            voxels = picture(compact, kind, number)
            voxels[marked > 0] = 2.0 * BRIGHT[kind]
            save(folder / case / f"{case}-{suffix}.nii.gz", voxels, world)
        save(folder / case / f"{case}-seg.nii.gz", marked, world)
    return _prepared(folder, out)


def _prepared(folder: Path, out: Path) -> Path:
    outcomes = list(prepare_dataset(read_dataset(folder), out))
    assert all(outcome.state == "done" for outcome in outcomes), outcomes
    return out
