"""Preparation of a data set as paper B.2: RAS, intensities in [0, 1], cut to 20 mm around the cranial cavity, all
images of a subject laid on one of them; once, into a folder that training reads.

A subject is done when its `case.json` is there and names the same sources; whatever was interrupted is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from vp_model.geometry import World, cropped_world
from vp_model.imaging.cranium import cranial_box
from vp_model.imaging.intensity import Image
from vp_model.imaging.registration import Registration, RegistrationError, register
from vp_model.vision.prepare import normalise, to_ras
from vp_model.volume import Volume
from vp_train.datasets.public.index import DatasetIndex, DatasetSubject, ImageFile, MaskFile
from vp_train.datasets.public.splits import part_of

VERSION = 2
"""Counts up when the same sources would be prepared otherwise."""
LEVELS = 65_535
"""Intensities are kept as 16-bit shares of this."""
STILL_MM, STILL_DEGREES = 0.3, 0.3
"""Images that lie this well on the reference stay where they are."""
CASE = "case.json"
REFERENCE_KINDS = ("T1", "FLAIR", "T2", "CT")


class PreparationError(ValueError):
    """A subject that cannot be prepared: which file, and why."""


@dataclass(frozen=True)
class Outcome:
    """What became of a subject: `done`, `kept` from an earlier run, or `failed` with the reason."""

    subject: str
    state: str
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A 3D image as it lies on disk."""

    file: ImageFile | MaskFile
    voxels: NDArray[Any]
    world: World


def prepare_dataset(index: DatasetIndex, out: Path, workers: int = 1) -> Iterator[Outcome]:
    """Prepare every subject; gives each one's outcome as it is ready.

    Args:
        out: gets `<layout>/<subject>/`, with `case.json`, images and label maps.
        workers: processes; 1 works in this one.
    """
    target = out / index.layout.key
    work = partial(prepare_subject, index.folder, index.layout.key, target)
    if workers <= 1:
        yield from map(work, index.subjects)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, subject) for subject in index.subjects]):
            yield future.result()


def prepare_subject(folder: Path, dataset: str, target: Path, subject: DatasetSubject) -> Outcome:
    """One subject; a file that cannot be read fails the subject, not the run."""
    place = target / subject.subject.replace("/", "_")
    digest = source_digest(folder, subject)
    case = place / CASE
    if case.is_file() and json.loads(case.read_text(encoding="utf-8"))["source"] == digest:
        return Outcome(subject.subject, "kept")
    case.unlink(missing_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    try:
        sessions = _prepare_sessions(folder, subject, place)
    except PreparationError as error:
        return Outcome(subject.subject, "failed", str(error))
    written = {
        "dataset": dataset,
        "subject": subject.subject,
        "part": part_of(dataset, subject.subject),
        "source": digest,
        "sessions": sessions,
    }
    draft = place / f"{CASE}.new"
    draft.write_text(json.dumps(written, indent=1), encoding="utf-8")
    draft.replace(case)
    return Outcome(subject.subject, "done")


def source_digest(folder: Path, subject: DatasetSubject) -> str:
    """Of names, sizes and times of the subject's files and the version of the preparation."""
    digest = hashlib.sha256(str(VERSION).encode())
    for session in subject.sessions:
        files: tuple[ImageFile | MaskFile, ...] = (*session.images, *session.masks)
        for file in files:
            status = (folder / file.path).stat()
            digest.update(f"{file}|{status.st_size}|{status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _load(folder: Path, file: ImageFile | MaskFile) -> _Loaded:
    try:
        image = nibabel.load(folder / file.path)
        voxels, world = np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise PreparationError(f"{file.path} cannot be read: {error}. Copy it again.") from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3:
        raise PreparationError(f"{file.path} has the shape {voxels.shape}; single volumes are expected.")
    if not np.isfinite(world).all() or abs(np.linalg.det(world[:3, :3])) < 1e-9:
        raise PreparationError(f"{file.path} has no world matrix that can be inverted.")
    if isinstance(file, ImageFile):
        voxels = np.nan_to_num(voxels.astype(np.float32))
        if float(voxels.max()) <= float(voxels.min()):
            raise PreparationError(f"{file.path} has the same value everywhere.")
    return _Loaded(file, voxels, world)


def _prepare_sessions(folder: Path, subject: DatasetSubject, place: Path) -> list[dict[str, Any]]:
    loaded = [
        ([_load(folder, file) for file in session.images], [_load(folder, file) for file in session.masks])
        for session in subject.sessions
    ]
    reference = _reference([image for images, _ in loaded for image in images])
    sessions = []
    for number, (session, (images, masks)) in enumerate(zip(subject.sessions, loaded, strict=True)):
        described: list[dict[str, Any]] = []
        for count, image in enumerate(images):
            moved = _lay(image, reference)
            name = f"{number}_{count}_{_kind(image)}"
            written = _write_image(image, moved, place, name)
            labels = [
                _write_mask(mask, written.pop("box"), moved, place, f"{name}_labels_{position}")
                for position, mask in enumerate(masks)
                if _same_grid(mask, image)
            ]
            described.append({**written, "masks": labels, "registration": _registration(moved)})
        drawn = {mask["source"] for image in described for mask in image["masks"]}
        for mask in masks:
            if isinstance(mask.file, MaskFile) and mask.file.path not in drawn:
                raise PreparationError(f"{mask.file.path} lies on the grid of none of its session's images.")
        sessions.append({"label": session.label, "day": session.day, "images": described})
    return sessions


def _kind(image: _Loaded) -> str:
    return image.file.kind if isinstance(image.file, ImageFile) else "labels"


def _reference(images: Sequence[_Loaded]) -> _Loaded:
    """The image that the others are laid on: the first of the best kind, in the earliest session that has it."""
    if not images:
        raise PreparationError("The subject has masks but no image.")
    for kind in REFERENCE_KINDS:
        for image in images:
            if _kind(image) == kind:
                return image
    return images[0]


def _volume(image: _Loaded) -> Volume:
    return Volume(torch.from_numpy(np.ascontiguousarray(image.voxels))[None], image.world, kind=_kind(image))


def _lay(image: _Loaded, reference: _Loaded) -> Registration | None:
    """Where the image lies on the reference; None where it lies there already."""
    if image is reference or _same_grid(image, reference):
        return None
    try:
        found = register(_volume(reference), _volume(image))
    except RegistrationError as error:
        raise PreparationError(f"{image.file.path} cannot be laid on {reference.file.path}: {error}") from error
    if found.head_motion_mm < STILL_MM and found.rotation_degrees < STILL_DEGREES:
        return None
    return found


def _same_grid(first: _Loaded, second: _Loaded) -> bool:
    return first.voxels.shape == second.voxels.shape and bool(np.allclose(first.world, second.world, atol=1e-2))


def _registration(found: Registration | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "world_transform": found.world_transform.tolist(),
        "overlap": found.overlap,
        "metric_before": found.metric_before,
        "metric_after": found.metric_after,
    }


def _write_image(image: _Loaded, moved: Registration | None, place: Path, name: str) -> dict[str, Any]:
    world = image.world if moved is None else moved.moved_world(image.world)
    voxels, ras = to_ras(image.voxels, world)
    scaled = normalise(voxels.astype(np.float32), _kind(image))
    low, shape = cranial_box(Image(voxels.astype(np.float32), ras), _kind(image))
    high = (low[0] + shape[0], low[1] + shape[1], low[2] + shape[2])
    cut = np.rint(scaled[low[0] : high[0], low[1] : high[1], low[2] : high[2]] * LEVELS).astype(np.uint16)
    _save(cut, cropped_world(ras, low), place / f"{name}.nii.gz", 1 / LEVELS)
    contrast = image.file.contrast if isinstance(image.file, ImageFile) else None
    return {
        "file": f"{name}.nii.gz",
        "source": image.file.path,
        "kind": _kind(image),
        "contrast": contrast,
        "box": (low, high),
    }


def _write_mask(
    mask: _Loaded, box: tuple[tuple[int, ...], tuple[int, ...]], moved: Registration | None, place: Path, name: str
) -> dict[str, Any]:
    if not isinstance(mask.file, MaskFile):
        raise TypeError("Only label maps are written as masks.")
    world = mask.world if moved is None else moved.moved_world(mask.world)
    voxels, ras = to_ras(np.rint(mask.voxels.astype(np.float64)).astype(np.int16), world)
    low, high = box
    cut = voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    _save(cut, cropped_world(ras, (low[0], low[1], low[2])), place / f"{name}.nii.gz", None)
    labels, counts = np.unique(cut, return_counts=True)
    return {
        "file": f"{name}.nii.gz",
        "source": mask.file.path,
        "table": mask.file.table,
        "rater": mask.file.rater,
        "voxels": {str(int(label)): int(count) for label, count in zip(labels, counts, strict=True) if label},
        "cut_off": int(np.count_nonzero(voxels) - np.count_nonzero(cut)),
    }


def _save(voxels: NDArray[Any], world: World, path: Path, slope: float | None) -> None:
    image = nibabel.Nifti1Image(voxels, world, dtype=voxels.dtype)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)
