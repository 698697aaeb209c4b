"""Studies with known geometry, and outcomes on them: what results are encoded from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from tests.vp_node.studies_support.synthetic import Slices, decimal, image, rotation, stack_matrix, write
from vp_model.outcome import InputVolume, Mask, Measurement, ModelIdentity, Outcome, Side, Step, Transcript
from vp_node.config import Config
from vp_node.results import PromptProvenance, ResultObject, RunIdentity, encode
from vp_node.results.model import Wanted
from vp_node.studies.headers import read_header
from vp_node.studies.model import ChosenVolume, SourceVolume
from vp_node.studies.understanding import understand

SHAPE = (20, 16, 9)
STUDY = "1.2.826.0.1.3680043.8.498.1"
MODEL = ModelIdentity("voxelprompt-compact", "0.1.0", "ab" * 32)
PROVENANCE = PromptProvenance(
    name="hippocampal volume",
    version=3,
    text="What is the volume of the left hippocampus?",
    owner="neuroradiology",
    requested_by="standing prompt",
    requested_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
)
PATIENT: dict[str, Any] = {
    "StudyTime": "101112",
    "StudyID": "1",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "Manufacturer": "Synthetic",
    "PositionReferenceIndicator": "",
    "KVP": "120",
}
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""LPS: rows run to the back, columns to the feet, slices to the left."""
GEOMETRIES = {
    "axial": stack_matrix(np.eye(3), (0.9, 1.1, 2.5), (-80.5, -70.25, -30.125)),
    "sagittal": stack_matrix(SAGITTAL, (1.0, 1.2, 1.7), (-60.0, -90.0, 80.0)),
    "oblique": stack_matrix(rotation((0.9, 0.1, -0.3, 0.2)), (0.9, 1.1, 2.5), (-80.0, 30.0, 12.0)),
    "thick": stack_matrix(np.eye(3), (0.45, 0.45, 6.5), (-100.0, -110.5, -40.0)),
    "tilted": stack_matrix(np.eye(3), (0.5, 0.5, 4.0), (-110.0, -120.0, 5.0), shear=0.9),
}


def classic(folder: Path, geometry: str, modality: str = "MR", **changes: Any) -> Slices:
    """A classic series written into a folder."""
    voxels = np.random.default_rng(3).integers(0, 900, SHAPE).astype(np.int16)
    attributes = PATIENT | changes.pop("attributes", {})
    values: dict[str, Any] = {"study": STUDY, "modality": modality, "attributes": attributes} | changes
    slices = Slices(GEOMETRIES[geometry], voxels, **values)
    write(slices, folder)
    return slices


def enhanced(folder: Path, geometry: str) -> None:
    """The same as one enhanced multi-frame object, its frames stored from last to first."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = GEOMETRIES[geometry]
    columns, rows, count = SHAPE
    voxels = np.random.default_rng(4).integers(0, 900, SHAPE).astype(np.int16)
    dataset = image(Slices(lps, voxels, study=STUDY), 0, rows, columns)
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for keyword in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, keyword)
    groups = []
    for k in reversed(range(count)):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [decimal(value) for value in lps[:3, 3] + k * lps[:3, 2]]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = count
    dataset.PixelData = np.ascontiguousarray(voxels.transpose(2, 1, 0)[::-1]).tobytes()
    dataset.save_as(folder / "enhanced.dcm", enforce_file_format=True)


def volumes_in(folder: Path) -> tuple[SourceVolume, ...]:
    """The volumes that the node sees in a folder of files."""
    headers = [read_header(path) for path in sorted(item for item in folder.rglob("*.dcm") if item.is_file())]
    return understand(headers).volumes


def chosen(volumes: Sequence[SourceVolume]) -> tuple[ChosenVolume, ...]:
    """Names and sessions as a volume set gives them: in order of date."""
    dates = sorted({volume.visit.isoformat() if volume.visit else "" for volume in volumes})
    ordered = sorted(volumes, key=lambda volume: volume.visit.isoformat() if volume.visit else "")
    return tuple(
        ChosenVolume(f"v{number}", dates.index(volume.visit.isoformat() if volume.visit else ""), volume)
        for number, volume in enumerate(ordered, 1)
    )


def on_the_left(volume: SourceVolume, seed: int = 0) -> NDArray[np.bool_]:
    """A ragged mask whose voxels all lie on the patient's left of the volume's middle (RAS x below it)."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in volume.shape), indexing="ij"), axis=-1)
    x = index @ volume.world[0, :3] + volume.world[0, 3]
    ragged = np.random.default_rng(seed).random(volume.shape) < 0.4
    inside = np.all((index >= 2) & (index < np.asarray(volume.shape) - 2), axis=-1)
    mask: NDArray[np.bool_] = (x < np.median(x) - 1.0) & ragged & inside
    return mask


def mask_of(
    item: ChosenVolume,
    identifier: str,
    structure: str,
    side: Side,
    voxels: NDArray[np.bool_],
    experimental: bool = False,
) -> Mask:
    label = f"{side} {structure}" if side in ("left", "right") else structure
    visit = item.volume.visit.isoformat() if item.volume.visit else ""
    return Mask(
        identifier, structure, side, visit, item.session, item.name, label, voxels, item.volume.world, experimental
    )


def outcome_of(items: Sequence[ChosenVolume], **parts: Any) -> Outcome:
    """An answered outcome on the volumes, with the parts given."""
    inputs = tuple(
        InputVolume(
            item.name, item.volume.kind, item.volume.visit.isoformat() if item.volume.visit else "", item.session
        )
        for item in items
    )
    steps = (Step('task("volume analysis")\nroi = segment("left hippocampus", v1<MOD>)\nshow(roi)'),)
    values: dict[str, Any] = {
        "status": "answered",
        "transcript": Transcript(PROVENANCE.text, inputs, steps),
        "model": MODEL,
        "task": "volume analysis",
        "structures": (("hippocampus", "left"),),
    } | parts
    return Outcome(**values)


def hippocampus(items: Sequence[ChosenVolume]) -> Outcome:
    """One left hippocampus on the first volume with its volume, its length and its centre."""
    item = items[0]
    mask = mask_of(item, "mask-1", "hippocampus", "left", on_the_left(item.volume))
    volume_ml = float(mask.voxels.sum() * abs(np.linalg.det(mask.world[:3, :3])) / 1000)
    points = np.argwhere(mask.voxels)[[0, -1]] @ mask.world[:3, :3].T + mask.world[:3, 3]
    ends = tuple(tuple(float(value) for value in point) for point in points)
    common: dict[str, Any] = {
        "structure": "hippocampus",
        "side": "left",
        "visit": mask.visit,
        "label": mask.label,
        "masks": ("mask-1",),
    }
    measurements = (
        Measurement("volume", volume_ml, "ml", **common),
        Measurement("mean intensity", 321.5, "1", **common, volume=item.name),
        Measurement("longest diameter", float(np.linalg.norm(points[0] - points[1])), "mm", **common, points=ends),
        Measurement("center of mass x", ends[0][0], "mm", **common, points=ends[:1]),
        Measurement("center of mass y", ends[0][1], "mm", **common, points=ends[:1]),
        Measurement("center of mass z", ends[0][2], "mm", **common, points=ends[:1]),
    )
    return outcome_of(items, masks=(mask,), measurements=measurements)


def identity_of(study: str = STUDY, run_id: str = "0d8f7c9e-1111-5222-8333-444455556666") -> RunIdentity:
    return RunIdentity(run_id, study, "prompt-version", MODEL.content_hash, "cd" * 32)


def encoded(outcome: Outcome, items: Sequence[ChosenVolume], **changes: Any) -> tuple[ResultObject, ...]:
    study = changes.pop("study", items[-1].volume.study_instance_uid)
    provenance = changes.pop("provenance", PROVENANCE)
    wanted = changes.pop("wanted", Wanted())
    return encode(outcome, items, changes.pop("identity", identity_of(study)), provenance, Config(), wanted)


def written(objects: Sequence[ResultObject], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, item in enumerate(objects):
        path = folder / f"{number:02}-{item.role}.dcm"
        item.dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
