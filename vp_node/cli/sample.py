"""A harmless object to try a destination with: a small grey picture of a patient who does not exist."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

SAMPLE_NAMESPACE = UUID("0b9f3c52-4a1e-5f0e-8a44-52d1c7c0a9d3")
SIZE = 64
PATIENT_ID = "VPNODE-TEST"


def write_sample(path: Path, node_name: str, peer_name: str) -> str:
    """Writes the object; returns its SOP Instance UID.

    The UIDs are always the same for a node and a peer: trying twice leaves one object, not two.
    """
    study, series, instance = (
        UID(f"2.25.{uuid5(SAMPLE_NAMESPACE, f'{level}|{node_name}|{peer_name}').int}")
        for level in ("study", "series", "sop")
    )
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.StudyDate, dataset.StudyTime = "20000101", "000000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", "1", "1"
    dataset.Modality, dataset.ConversionType = "OT", "SYN"
    dataset.StudyDescription = dataset.SeriesDescription = "Connection test of VoxelPrompt Node"
    dataset.PatientName, dataset.PatientID = "Test^VoxelPrompt Node", PATIENT_ID
    dataset.PatientBirthDate = dataset.PatientSex = dataset.PatientOrientation = dataset.Laterality = ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = SIZE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    row, column = np.indices((SIZE, SIZE))
    dataset.PixelData = ((row + column) * 255 // (2 * SIZE)).astype(np.uint8).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return instance
