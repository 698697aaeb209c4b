"""Cropped and masked images as derived classic MR or CT series (PS3.3 C.7.6.1, C.12.4)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat

from vp_model.outcome import DerivedVolume, ModelIdentity
from vp_node.config import Config
from vp_node.results.equipment import mark
from vp_node.results.model import PromptProvenance, RunIdentity
from vp_node.results.sources import RAS_TO_LPS, Sources
from vp_node.results.uids import result_uid
from vp_node.studies.model import ChosenVolume

COPIED = (
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientPosition",
    "BodyPartExamined",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
    "InversionTime",
    "MagneticFieldStrength",
    "FlipAngle",
    "KVP",
    "AcquisitionNumber",
    "Laterality",
)
MR_TYPE_2 = ("ScanOptions", "EchoTrainLength", "RepetitionTime", "EchoTime", "MRAcquisitionType")
"""Attributes of the MR Image module that may be empty but not absent (PS3.3 C.8.3.1)."""
OPERATIONS = {"crop": "Cropped", "remove": "Tissue removed", "isolate": "Tissue isolated"}
PIXEL_BY_PIXEL_MASK = ("113047", "DCM", "Pixel by pixel mask")
SPATIALLY_CROPPED = ("113131", "DCM", "Extended spatial crop")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")


def make_derived(
    derived: DerivedVolume,
    chosen: ChosenVolume,
    sources: Sources,
    identity: RunIdentity,
    provenance: PromptProvenance,
    model: ModelIdentity,
    config: Config,
) -> Iterator[Dataset]:
    """One image for each slice of a derived volume.

    Values are stored as 16-bit numbers with a slope and an intercept that keep the stored units of the source.
    """
    template = sources.datasets[0]
    lps = RAS_TO_LPS @ derived.world
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    low, high = float(derived.voxels.min()), float(derived.voxels.max())
    whole = np.array_equal(derived.voxels, np.round(derived.voxels)) and low >= -32768 and high <= 32767
    slope = 1.0 if whole else max(high - low, 1e-6) / 65535
    intercept = 0.0 if whole else low + 32768 * slope
    stored = np.clip(np.round((derived.voxels - intercept) / slope), -32768, 32767).astype("<i2")
    for index in range(derived.voxels.shape[2]):
        dataset = Dataset()
        for keyword in COPIED:
            if keyword in template:
                setattr(dataset, keyword, template[keyword].value)
        for keyword in ("PatientPosition", *(MR_TYPE_2 if chosen.volume.modality == "MR" else ())):
            if keyword not in dataset:
                setattr(dataset, keyword, None)
        if not dataset.get("BodyPartExamined"):
            dataset.BodyPartExamined = "HEAD"
        sop_class = CTImageStorage if chosen.volume.modality == "CT" else MRImageStorage
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        uid = result_uid(identity, f"derived {derived.identifier} {index}")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        dataset.SeriesInstanceUID = result_uid(identity, f"derived series {derived.identifier}")
        dataset.Modality = chosen.volume.modality
        dataset.ImageType = (
            ["DERIVED", "SECONDARY", "OTHER"] if dataset.Modality == "MR" else ["DERIVED", "SECONDARY", "AXIAL"]
        )
        dataset.SeriesNumber = config.results.derived_series_number + int(derived.identifier.rsplit("-", 1)[-1])
        dataset.InstanceNumber = index + 1
        dataset.SeriesDescription = f"VoxelPrompt: {derived.label}"[:64]
        dataset.Manufacturer = config.results.manufacturer
        dataset.DerivationDescription = f"{OPERATIONS[derived.operation]}: {derived.label}"[:1024]
        dataset.DerivationCodeSequence = _code(
            *(SPATIALLY_CROPPED if derived.operation == "crop" else PIXEL_BY_PIXEL_MASK)
        )
        dataset.SourceImageSequence = Sequence(_reference(source) for source in sources.datasets)
        position = lps[:3, 3] + index * lps[:3, 2]
        dataset.ImagePositionPatient = _decimals(position)
        dataset.ImageOrientationPatient = _decimals([*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1])])
        dataset.PixelSpacing = _decimals([spacing[1], spacing[0]])
        dataset.SliceThickness = DSfloat(float(spacing[2]), auto_format=True)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Columns, dataset.Rows = stored.shape[0], stored.shape[1]
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope = DSfloat(slope, auto_format=True)
        dataset.RescaleIntercept = DSfloat(intercept, auto_format=True)
        dataset.RescaleType = "HU" if dataset.Modality == "CT" else "US"
        dataset.BurnedInAnnotation = "NO"
        dataset.PixelData = np.ascontiguousarray(stored[:, :, index].T).tobytes()
        mark(dataset, config, model, provenance.requested_at)
        yield dataset


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = _code(*SOURCE_IMAGE)
    return item


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def _decimals(values: object) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in np.asarray(values).tolist()]
