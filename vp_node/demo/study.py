"""A brain study to demonstrate with: the MNI152 average T1 that nilearn ships, wrapped as a classic MR series.

The voxels and the world matrix are the template's; patient, dates and UIDs are made up for the demonstration.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def template_voxels() -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Voxels (w, h, d) and 4×4 world matrix (voxel index → RAS mm) of the 1 mm MNI152 T1 template."""
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    voxels = np.round(np.asarray(image.get_fdata()) * 1000).astype(np.uint16)
    return voxels, np.asarray(image.affine, dtype=np.float64)


def write_study(folder: Path, visit: date) -> int:
    """Writes the template as one axial T1 series of `visit` into `folder`; returns the number of instances."""
    voxels, world = template_voxels()
    # A radiologist reads axial slices with columns running to the patient's left and rows to the back.
    voxels, world = _flip(*_flip(voxels, world, 0), 1)
    return write_series(
        folder,
        voxels,
        world,
        visit=visit,
        patient_id="DEMO-MNI152",
        patient_name="Demo^Template",
        study_description="Brain MR (demonstration)",
        series_description="T1 MPRAGE axial",
    )


def _flip(
    voxels: NDArray[np.uint16], world: NDArray[np.float64], axis: int
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    change = np.eye(4)
    change[axis, axis] = -1
    change[axis, 3] = voxels.shape[axis] - 1
    return np.flip(voxels, axis), world @ change


def write_series(
    folder: Path,
    voxels: NDArray[np.uint16],
    world: NDArray[np.float64],
    *,
    visit: date,
    patient_id: str,
    patient_name: str,
    study_description: str,
    series_description: str,
) -> int:
    """Writes voxels (columns, rows, slices) as one MR Image Storage instance for each slice.

    The world matrix maps the voxel index to RAS mm; its third column becomes the step between the positions
    (PS3.3 C.7.6.2).
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = RAS_TO_LPS @ world
    columns, rows, slices = voxels.shape
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    for k in range(slices):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = f"{visit:%Y%m%d}"
        dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "090000"
        dataset.AccessionNumber = ""
        dataset.Modality = "MR"
        dataset.Manufacturer = "MNI152 template"
        dataset.ManufacturerModelName = "Demonstration"
        dataset.ReferringPhysicianName = ""
        dataset.StudyDescription = study_description
        dataset.SeriesDescription = series_description
        dataset.PatientName = patient_name
        dataset.PatientID = patient_id
        dataset.PatientBirthDate = ""
        dataset.PatientSex = "O"
        dataset.BodyPartExamined = "BRAIN"
        dataset.ScanningSequence = ["GR", "IR"]
        dataset.SequenceVariant = "SP"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "3D"
        dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = "2300", "3", "900"
        dataset.EchoTrainLength = "1"
        dataset.FlipAngle = "9"
        dataset.MagneticFieldStrength = "3"
        dataset.SliceThickness = f"{spacing[2]:.6g}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", "2", str(k + 1)
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame_of_reference, ""
        dataset.PatientPosition = "HFS"
        dataset.ImageOrientationPatient = [
            f"{value:.10g}" for value in (*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1]))
        ]
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in lps[:3, 3] + k * lps[:3, 2]]
        dataset.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = rows, columns
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        dataset.PixelData = np.ascontiguousarray(voxels[:, :, k].T).tobytes()
        dataset.save_as(folder / f"{k + 1:04}.dcm", enforce_file_format=True)
    return slices
