"""Small studies with real geometry, as DICOM files."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from vp_node.demo.study import write_series

SHAPE = (20, 24, 10)
WORLD = np.eye(4)
WORLD[:3, :3] = Rotation.from_euler("xyz", [8, -5, 11], degrees=True).as_matrix() @ np.diag([-1.2, -1.1, 2.5])
WORLD[:3, 3] = [12.0, 14.0, -11.0]


def write_phantom(
    folder: Path,
    *,
    patient_id: str = "P1",
    visit: date = date(2024, 3, 1),
    description: str = "T1 MPRAGE",
    seed: int = 0,
) -> list[Path]:
    """A T1 series of a bright ellipsoid, oblique to every axis of the world; returns its files."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    voxels = np.where((grid**2).sum(axis=0) < 0.5, 800, 100)
    voxels = (voxels + np.random.default_rng(seed).integers(0, 50, SHAPE)).astype(np.uint16)
    write_series(
        folder,
        voxels,
        WORLD,
        visit=visit,
        patient_id=patient_id,
        patient_name="Phantom^Test",
        study_description="Brain MR",
        series_description=description,
    )
    return sorted(folder.glob("*.dcm"))


def study_uid(paths: list[Path]) -> str:
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


def move_into_study(paths: list[Path], study_instance_uid: str, frame_of_reference_uid: str = "") -> None:
    """Makes a series one of another study."""
    for path in paths:
        dataset = dcmread(path)
        dataset.StudyInstanceUID = study_instance_uid
        dataset.SeriesNumber = "3"
        if frame_of_reference_uid:
            dataset.FrameOfReferenceUID = frame_of_reference_uid
        dataset.save_as(path)
