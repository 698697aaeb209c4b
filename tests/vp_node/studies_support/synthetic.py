"""Studies written as DICOM files, whose matrices and voxels the tests know."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid


@dataclass
class Slices:
    """A stack to write: world matrix LPS, stored voxels (columns, rows, slices)."""

    lps: NDArray[np.float64]
    voxels: NDArray[np.integer[Any]]
    series: str = field(default_factory=generate_uid)
    study: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)
    modality: str = "MR"
    first_instance: int = 1
    skip: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    """By keyword, for every slice; a callable is asked for the value with the slice index."""

    @property
    def world(self) -> NDArray[np.float64]:
        """RAS, as the node says it."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.lps


def rotation(quaternion: tuple[float, float, float, float]) -> NDArray[np.float64]:
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def stack_matrix(
    axes: NDArray[np.float64],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    shear: float = 0.0,
) -> NDArray[np.float64]:
    """LPS matrix of a stack; `shear` is the step's component along the columns, in mm, as a tilted gantry makes it."""
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.asarray(spacing)
    matrix[:3, 2] += axes[:, 1] * shear
    matrix[:3, 3] = origin
    return matrix


def write(slices: Slices, folder: Path) -> list[Path]:
    """One classic file for each slice that is not skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    columns, rows, count = slices.voxels.shape
    paths = []
    for k in range(count):
        if k in slices.skip:
            continue
        dataset = image(slices, k, rows, columns)
        for keyword, value in slices.attributes.items():
            setattr(dataset, keyword, value(k) if callable(value) else value)
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def image(slices: Slices, k: int, rows: int, columns: int) -> Dataset:
    spacing = np.linalg.norm(slices.lps[:3, :2], axis=0)
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage if slices.modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = slices.study
    dataset.SeriesInstanceUID = slices.series
    dataset.FrameOfReferenceUID = slices.frame_of_reference
    dataset.Modality = slices.modality
    dataset.PatientID = "synthetic"
    dataset.PatientName = "Synthetic^Person"
    dataset.StudyDate = "20240301"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = slices.first_instance + k
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if slices.modality == "CT" else "M"]
    dataset.ImageOrientationPatient = [
        decimal(value) for column in (0, 1) for value in slices.lps[:3, column] / spacing[column]
    ]
    dataset.ImagePositionPatient = [decimal(value) for value in slices.lps[:3, 3] + k * slices.lps[:3, 2]]
    dataset.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]
    dataset.SliceThickness = decimal(float(np.linalg.norm(slices.lps[:3, 2])))
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * slices.voxels.dtype.itemsize
    dataset.BitsStored = dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 1 if slices.voxels.dtype.kind == "i" else 0
    dataset.PixelData = np.ascontiguousarray(slices.voxels[:, :, k].T).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def decimal(value: float) -> str:
    """A decimal string (PS3.5 6.2: 16 bytes at most)."""
    return f"{value:.9f}"[:16] if abs(value) >= 1e-9 else "0"


def corner_distance(world: NDArray[np.float64], shape: Any, other: NDArray[np.float64], other_shape: Any) -> float:
    """mm: how far the farthest corner voxel of one lies from the nearest corner of the other, both ways."""
    from vp_node.studies.geometry import corners

    distances = np.linalg.norm(corners(world, shape)[:, None] - corners(other, other_shape)[None], axis=2)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))


def brain_like(seed: int = 0, shape: tuple[int, int, int] = (6, 5, 4), dtype: str = "uint16") -> NDArray[Any]:
    """Random stored values over the whole range of a type."""
    limits = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(limits.min, limits.max, shape, endpoint=True)
    return values.astype(dtype)
