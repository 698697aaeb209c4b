"""Cropped and masked images → derived classic MR or CT series (PS3.3 A.3, A.4), in the source's Frame of Reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import DSfloat

from vp_model.outcome import DerivedVolume
from vp_node.results.codes import private
from vp_node.results.equipment import Equipment, add_contributing_equipment
from vp_node.results.model import ResultError, ResultObject, RunIdentity
from vp_node.results.numbers import SeriesNumbers
from vp_node.results.patient import copy_patient_and_study
from vp_node.results.segmentation import SegmentedVolume
from vp_node.results.sources import LPS, Source
from vp_node.results.stamping import stamp
from vp_node.results.uids import object_uid
from vp_node.results.wording import line

_ACQUISITION = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
    "InversionTime",
    "TriggerTime",
    "SequenceName",
    "MagneticFieldStrength",
    "FlipAngle",
    "ImagingFrequency",
    "ImagedNucleus",
    "NumberOfAverages",
    "KVP",
    "ConvolutionKernel",
    "GantryDetectorTilt",
    "ContrastBolusAgent",
    "BodyPartExamined",
    "PatientPosition",
    "AcquisitionDate",
    "AcquisitionTime",
    "PositionReferenceIndicator",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
"""What a derived image keeps of how its source was made."""
_REQUIRED_MR = {
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "",
    "EchoTime": None,
    "EchoTrainLength": None,
    "RepetitionTime": None,
}
_REQUIRED_CT = {"KVP": None}


@dataclass(frozen=True, eq=False)
class _Stored:
    """Pixels as integers: value = stored × slope + intercept."""

    voxels: NDArray[np.int16] | NDArray[np.uint16]
    slope: float
    intercept: float


def derived_series(
    volumes: Sequence[DerivedVolume],
    sources: Sequence[Source],
    identity: RunIdentity,
    equipment: Equipment,
    numbers: SeriesNumbers,
    first_series_number: int,
    moment: datetime,
    charset: str | list[str],
    segmented: Sequence[SegmentedVolume],
) -> tuple[ResultObject, ...]:
    """One series for each derived volume of the run's own study; those of other studies are told in the SR only."""
    objects: list[ResultObject] = []
    by_name = {source.chosen.name: source for source in sources}
    for index, volume in enumerate(item for item in volumes if item.source in by_name):
        source = by_name[volume.source]
        stored = _stored(volume, source.chosen.volume.modality)
        number = numbers.take(first_series_number + index)
        masks = [item for item in segmented if item.source is source]
        for k in range(volume.voxels.shape[2]):
            image = _image(volume, k, stored, source, masks)
            role = f"derived/{volume.identifier}"
            image.SeriesInstanceUID = object_uid(identity.run_id, f"{role}/series")
            image.SOPInstanceUID = object_uid(identity.run_id, f"{role}/{k}")
            image.SeriesNumber = number
            image.InstanceNumber = k + 1
            image.SeriesDescription = line(f"{equipment.model_name} {volume.label}")
            image.SpecificCharacterSet = charset
            image.Manufacturer = equipment.manufacturer
            image.ManufacturerModelName = equipment.model_name
            image.SoftwareVersions = equipment.software_version
            image.DeviceSerialNumber = equipment.device_serial_number
            if equipment.institution:
                image.InstitutionName = equipment.institution
            add_contributing_equipment(image, equipment)
            stamp(image, moment)
            objects.append(ResultObject("derived", image))
    return tuple(objects)


def _stored(volume: DerivedVolume, modality: str) -> _Stored:
    """Integers as they are where they fit; Hounsfield units rounded; otherwise stretched over 16 bits."""
    values = volume.voxels.astype(np.float64)
    if not np.isfinite(values).all():
        raise ResultError(f"The derived image {volume.identifier} has values that are no numbers.")
    low, high = float(values.min()), float(values.max())
    whole = modality == "CT" or bool(np.array_equal(values, np.rint(values)))
    if whole and low >= -32768 and high <= 32767:
        return _Stored(np.rint(values).astype(np.int16), 1.0, 0.0)
    slope = float(f"{max((high - low) / 65535, 1e-12):.9g}")
    # A slope of few digits may be rounded down: the largest value must still fit.
    stored = np.clip(np.rint((values - low) / slope), 0, 65535)
    return _Stored(stored.astype(np.uint16), slope, float(f"{low:.9g}"))


def _image(volume: DerivedVolume, k: int, stored: _Stored, source: Source, masks: Sequence[SegmentedVolume]) -> Dataset:
    of_source = source.chosen.volume
    lps = LPS @ volume.world
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    normal = np.cross(lps[:3, 0] / lengths[0], lps[:3, 1] / lengths[1])
    reference = _source_reference(volume, k, source)
    image = Dataset()
    copy_patient_and_study(source.first, image)
    for keyword in _ACQUISITION:
        if keyword in source.first:
            image[keyword] = source.first[keyword]
    for keyword, value in (_REQUIRED_MR if of_source.modality == "MR" else _REQUIRED_CT).items():
        if keyword not in image or (value and not image.get(keyword)):
            setattr(image, keyword, value)
    if not image.get("BodyPartExamined"):
        # Without it readers must ask for a laterality (PS3.3 C.7.3.1); this node takes heads only.
        image.BodyPartExamined = "HEAD"
    image.SOPClassUID = CTImageStorage if of_source.modality == "CT" else MRImageStorage
    image.Modality = of_source.modality
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if of_source.modality == "CT" else "OTHER"]
    image.StudyInstanceUID = of_source.study_instance_uid
    image.FrameOfReferenceUID = source.frame_of_reference_uid
    image.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator") or ""
    image.AcquisitionNumber = None
    image.PatientPosition = source.first.get("PatientPosition") or ""
    image.DerivationDescription = line(f"{volume.operation}: {volume.label}", 1024)
    image.DerivationCodeSequence = [
        private("Cropped to a region") if volume.operation == "crop" else _code(codes.DCM.PixelByPixelMask)
    ]
    if reference is not None:
        image.SourceImageSequence = [reference]
    if masks:
        image.ReferencedImageSequence = [_mask_reference(item) for item in masks]
    image.ImageOrientationPatient = _decimals((lps[:3, :2] / lengths[:2]).T.ravel())
    image.ImagePositionPatient = _decimals(lps[:3, 3] + k * lps[:3, 2])
    image.PixelSpacing = _decimals((lengths[1], lengths[0]))
    image.SliceThickness = _decimals([source.geometry.slice_thickness])[0]
    image.SpacingBetweenSlices = _decimals([abs(float(normal @ lps[:3, 2]))])[0]
    pixels = np.ascontiguousarray(stored.voxels[:, :, k].T)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1 if pixels.dtype == np.int16 else 0
    if of_source.modality == "CT" or (stored.slope, stored.intercept) != (1.0, 0.0):
        image.RescaleSlope, image.RescaleIntercept = _decimals((stored.slope, stored.intercept))
        image.RescaleType = "HU" if of_source.modality == "CT" else "US"
    image.add_new("PixelData", "OW", pixels.tobytes())
    return image


def _source_reference(volume: DerivedVolume, k: int, source: Source) -> Dataset | None:
    """The source frame whose plane lies nearest; None where that slice never came."""
    inverse = np.linalg.inv(source.chosen.volume.world)
    center = volume.world @ [*(0.5 * (np.asarray(volume.voxels.shape[:2]) - 1)), k, 1]
    index = round(float(np.clip((inverse @ center)[2], 0, len(source.frames) - 1)))
    frame = source.reference(index)
    if frame.is_missing:
        return None
    item = Dataset()
    item.ReferencedSOPClassUID = frame.sop_class_uid
    item.ReferencedSOPInstanceUID = frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    item.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _mask_reference(made: SegmentedVolume) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = made.dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = made.dataset.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [_code(codes.DCM.MaskImageForImageProcessingOperation)]
    return item


def _code(code: Code) -> Dataset:
    return CodedConcept.from_code(code)


def _decimals(values: Sequence[float] | NDArray[np.float64]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]
