"""Masks on one source volume → one binary SEG (PS3.3 A.51), bit for bit on the source's own planes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.color import CIELabColor
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from vp_model.outcome import Mask
from vp_node.results.codes import structure_codes
from vp_node.results.equipment import Equipment, add_contributing_equipment, segment_algorithm
from vp_node.results.model import ResultError, RunIdentity
from vp_node.results.sources import Source
from vp_node.results.stamping import stamp
from vp_node.results.uids import object_uid, tracking_uid, uid_of

_PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "OtherPatientIDsSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ProcedureCodeSequence",
    "SpecificCharacterSet",
)
"""Of the Patient and Study modules: what is copied as it stands."""
_TYPE_2 = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


_AGE = re.compile(r"\d{3}[DWMY]")
"""Age String (PS3.5 6.2)."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A mask and its place in a SEG."""

    mask: Mask
    number: int
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True, eq=False)
class SegmentedVolume:
    source: Source
    segments: tuple[Segment, ...]
    dataset: Dataset


def segments_of(source: Source, masks: Sequence[Mask]) -> tuple[Segment, ...]:
    """Numbers and tracking of the masks on a volume. Several regions of one name are told apart by their order.

    Raises:
        ResultError: a mask does not lie on the volume's grid.
    """
    seen: Counter[tuple[str, str]] = Counter()
    segments: list[Segment] = []
    for mask in masks:
        volume = source.chosen.volume
        if mask.voxels.shape != volume.shape or not np.allclose(mask.world, volume.world, atol=1e-3):
            raise ResultError(f"The mask {mask.identifier} does not lie on the grid of volume {source.chosen.name}.")
        if not mask.voxels.any():
            continue
        seen[mask.structure, mask.side] += 1
        ordinal = seen[mask.structure, mask.side]
        name = " ".join(word for word in (mask.side, mask.structure) if word)
        name = name if ordinal == 1 else f"{name} {ordinal}"
        uid = tracking_uid(volume.patient_key, mask.structure, mask.side, ordinal)
        segments.append(Segment(mask, len(segments) + 1, name[:64], uid))
    return tuple(segments)


def segmentation(
    source: Source,
    segments: Sequence[Segment],
    identity: RunIdentity,
    equipment: Equipment,
    series_number: int,
    moment: datetime,
    charset: str | list[str],
    description: str,
) -> SegmentedVolume:
    """Makes the SEG of a volume.

    Args:
        segments: at least one, none of them empty.
        description: of the series, for people.
    """
    role = f"seg/{source.chosen.volume.identifier}"
    facades = [_facade(source, index, charset) for index in range(len(source.frames))]
    # (columns, rows, slices) as the node keeps it → (frames, rows, columns, segments) as DICOM does.
    pixels: NDArray[np.uint8] = np.stack(
        [segment.mask.voxels.transpose(2, 1, 0) for segment in segments], axis=-1
    ).astype(np.uint8)
    geometry = source.geometry
    dataset = Segmentation(
        source_images=facades,
        pixel_array=pixels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(segment, equipment) for segment in segments],
        series_instance_uid=object_uid(identity.run_id, f"{role}/series"),
        series_number=series_number,
        sop_instance_uid=object_uid(identity.run_id, f"{role}/instance"),
        instance_number=1,
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_version,
        device_serial_number=equipment.device_serial_number,
        content_label="VOXELPROMPT",
        content_description="Made by software, research use only, unverified",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        pixel_measures=PixelMeasuresSequence(
            geometry.pixel_spacing, geometry.slice_thickness, geometry.spacing_between_slices
        ),
        plane_orientation=PlaneOrientationSequence(CoordinateSystemNames.PATIENT, geometry.orientation),
        plane_positions=[
            PlanePositionSequence(CoordinateSystemNames.PATIENT, position) for position in geometry.positions
        ],
        omit_empty_frames=True,
        series_description=description[:64],
        specific_character_set=charset,
    )
    plain = Dataset()
    plain.update(dataset)
    _refer_to_sources(plain, source)
    _fix_dimension_uid(plain, object_uid(identity.run_id, f"{role}/dimensions"))
    copy_patient_and_study(source.first, plain)
    plain.SpecificCharacterSet = charset
    for item, segment in zip(plain.SegmentSequence, segments, strict=True):
        laterality = structure_codes(segment.mask.structure, segment.mask.side).laterality
        if laterality is not None:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [laterality]
    add_contributing_equipment(plain, equipment)
    if equipment.institution:
        plain.InstitutionName = equipment.institution
    stamp(plain, moment)
    return SegmentedVolume(source, tuple(segments), plain)


def copy_patient_and_study(header: Dataset, dataset: Dataset) -> None:
    """Copies the patient and the study faithfully; Type 2 elements that the source lacks are left empty."""
    for keyword in _PATIENT_AND_STUDY:
        if keyword in header:
            dataset[keyword] = header[keyword]
    if not _AGE.fullmatch(str(dataset.get("PatientAge") or "")):
        # Written otherwise it would make the result invalid; empty it may not be.
        dataset.pop("PatientAge", None)
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def leave_patient_out(dataset: Dataset) -> None:
    """Empties what highdicom would judge: a value that it dislikes it refuses, or quotes in a warning.

    `copy_patient_and_study` puts the true values into the object afterwards.
    """
    for keyword in _TYPE_2:
        setattr(dataset, keyword, "")


def _description(segment: Segment, equipment: Equipment) -> SegmentDescription:
    codes = structure_codes(segment.mask.structure, segment.mask.side)
    label = segment.mask.label + (" (experimental)" if segment.mask.experimental else "")
    return SegmentDescription(
        segment_number=segment.number,
        segment_label=label[:64],
        segmented_property_category=codes.category,
        segmented_property_type=codes.type,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=segment_algorithm(equipment),
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.tracking_id,
        display_color=CIELabColor.from_rgb(*codes.color),
    )


def _facade(source: Source, index: int, charset: str | list[str]) -> Dataset:
    """A classic image for one slice, with the volume's own geometry.

    highdicom refuses sources whose orientation drifts or that lack a Frame of Reference or a thickness, and cannot mix
    frames of several objects: it is given these, and `_refer_to_sources` puts the true references in their places.
    """
    geometry, first = source.geometry, source.first
    facade = Dataset()
    leave_patient_out(facade)
    facade.SpecificCharacterSet = charset
    facade.SOPClassUID = MRImageStorage
    facade.SOPInstanceUID = _placeholder(source, index)
    facade.SeriesInstanceUID = source.chosen.volume.series_instance_uid
    facade.StudyInstanceUID = source.chosen.volume.study_instance_uid
    facade.FrameOfReferenceUID = source.frame_of_reference_uid
    facade.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    facade.Modality = source.chosen.volume.modality
    facade.Columns, facade.Rows = source.chosen.volume.shape[:2]
    facade.ImageOrientationPatient = [float(f"{value:.9f}") for value in geometry.orientation]
    facade.ImagePositionPatient = [float(f"{value:.7f}") for value in geometry.positions[index]]
    facade.PixelSpacing = [float(f"{value:.9f}") for value in geometry.pixel_spacing]
    facade.SliceThickness = float(f"{geometry.slice_thickness:.9f}")
    if first.get("LossyImageCompression") == "01":
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in first:
                facade[keyword] = first[keyword]
    return facade


def _placeholder(source: Source, index: int) -> str:
    return uid_of("slice", source.chosen.volume.identifier, str(index))


def _refer_to_sources(dataset: Dataset, source: Source) -> None:
    """Puts the source frames where the facades stand. Slices that never came have no source."""
    slices = {_placeholder(source, index): index for index in range(len(source.frames))}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        if "DerivationImageSequence" not in group:
            continue
        for derivation in group.DerivationImageSequence:
            kept = []
            for item in derivation.get("SourceImageSequence", ()):
                if item.ReferencedSOPInstanceUID not in slices:
                    kept.append(item)  # shared with the frame of another segment: it already refers to its source
                    continue
                reference = source.reference(slices[item.ReferencedSOPInstanceUID])
                if reference.is_missing:
                    continue
                item.ReferencedSOPClassUID = reference.sop_class_uid
                item.ReferencedSOPInstanceUID = reference.sop_instance_uid
                if reference.frame_number is not None:
                    item.ReferencedFrameNumber = reference.frame_number
                kept.append(item)
            derivation.SourceImageSequence = DicomSequence(kept)
        if not any(item.SourceImageSequence for item in group.DerivationImageSequence):
            # Type 2: there, and empty.
            group.DerivationImageSequence = DicomSequence([])
    instances = {frame.sop_instance_uid: frame for frame in source.chosen.volume.frames if not frame.is_missing}
    items = []
    for frame in instances.values():
        item = Dataset()
        item.ReferencedSOPClassUID = frame.sop_class_uid
        item.ReferencedSOPInstanceUID = frame.sop_instance_uid
        items.append(item)
    series = Dataset()
    series.SeriesInstanceUID = source.chosen.volume.series_instance_uid
    series.ReferencedInstanceSequence = items
    dataset.ReferencedSeriesSequence = [series]
    for keyword in ("SourceImageSequence", "StudiesContainingOtherReferencedInstancesSequence"):
        if keyword in dataset:
            del dataset[keyword]


def _fix_dimension_uid(dataset: Dataset, uid: str) -> None:
    """highdicom draws it by chance."""
    for item in dataset.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
