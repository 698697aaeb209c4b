"""Masks on one source volume → one segmentation (PS3.3 A.51, A.92), bit for bit on the source's own planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.color import CIELabColor
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationFractionalTypeValues,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless

from vp_model.outcome import Mask
from vp_node.results.codes import coded_from, structure_codes
from vp_node.results.equipment import Equipment, add_contributing_equipment, segment_algorithm
from vp_node.results.model import Form, ResultError, RunIdentity, TrackedRegion
from vp_node.results.patient import copy_patient_and_study, leave_patient_out
from vp_node.results.segment_frames import OCCUPIED, overlap, put_frames
from vp_node.results.sources import Source
from vp_node.results.stamping import stamp
from vp_node.results.tracking import track
from vp_node.results.uids import object_uid
from vp_node.results.wording import line

_TYPES = {
    "binary": SegmentationTypeValues.BINARY,
    "labelmap": SegmentationTypeValues.LABELMAP,
    "fractional": SegmentationTypeValues.FRACTIONAL,
}


@dataclass(frozen=True, eq=False)
class Segment:
    """A mask and its place in a segmentation."""

    mask: Mask
    number: int
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True, eq=False)
class SegmentedVolume:
    source: Source
    segments: tuple[Segment, ...]
    dataset: Dataset


@dataclass(frozen=True)
class SegmentationSettings:
    """What the segmentations of a run share."""

    identity: RunIdentity
    equipment: Equipment
    moment: datetime
    charset: str | list[str]
    description: str
    """Of the series, for people; the kind of the volume is added."""


def segments_of(
    sources: Sequence[Source], masks: Sequence[Mask], known: Sequence[TrackedRegion] = ()
) -> dict[str, tuple[Segment, ...]]:
    """Numbers and tracking of the masks, by the name of the volume that they lie on.

    Args:
        sources: volumes that get a segmentation; masks on others are left out, and so are empty ones.
        known: regions of the run before.

    Raises:
        ResultError: a mask does not lie on its volume's grid.
    """
    by_name = {source.chosen.name: source for source in sources}
    placed: list[tuple[Source, Mask]] = []
    for mask in masks:
        source = by_name.get(mask.volume)
        if source is None:
            continue
        volume = source.chosen.volume
        if mask.voxels.shape != volume.shape or not np.allclose(mask.world, volume.world, atol=1e-3):
            raise ResultError(f"The mask {mask.identifier} does not lie on the grid of volume {source.chosen.name}.")
        if mask.voxels.any():
            placed.append((source, mask))
    tracking = track(placed, known)
    found: dict[str, list[Segment]] = {}
    for source, mask in placed:
        own = found.setdefault(source.chosen.name, [])
        named = tracking[mask.identifier]
        own.append(Segment(mask, len(own) + 1, line(named.identifier), named.uid))
    return {name: tuple(segments) for name, segments in found.items()}


def layers(segments: Sequence[Segment], form: Form) -> list[tuple[Segment, ...]]:
    """Segments by the object that they go into, numbered anew from 1 in each.

    A label map has one label for a voxel: segments that overlap go into further ones.
    """
    if form != "labelmap":
        return [tuple(segments)]
    found: list[list[Segment]] = []
    taken: list[NDArray[np.bool_]] = []
    for segment in segments:
        voxels = segment.mask.voxels
        free = next((index for index, seen in enumerate(taken) if not overlap([voxels, seen])), None)
        if free is None:
            found.append([segment])
            taken.append(voxels.copy())
        else:
            found[free].append(segment)
            taken[free] |= voxels
    return [
        tuple(Segment(item.mask, number, item.tracking_id, item.tracking_uid) for number, item in enumerate(layer, 1))
        for layer in found
    ]


def segmentation(
    source: Source,
    segments: Sequence[Segment],
    settings: SegmentationSettings,
    series_number: int,
    form: Form = "binary",
    layer: int = 0,
) -> SegmentedVolume:
    """Makes the segmentation of a volume.

    Args:
        segments: at least one, none of them empty, numbered from 1.
        layer: tells the label maps of one volume apart.
    """
    identity, equipment, geometry = settings.identity, settings.equipment, source.geometry
    role = f"seg/{source.chosen.volume.identifier}"
    role += "" if form == "binary" else f"/{form}"
    role += f"/{layer}" if layer else ""
    syntax = ExplicitVRLittleEndian if form == "binary" else RLELossless
    description = f"{settings.description} {source.chosen.volume.kind}" + ("" if form == "binary" else f" {form}")
    dataset = Segmentation(
        source_images=[_facade(source, settings.charset)],
        pixel_array=_one_pixel(len(segments), form),
        segmentation_type=_TYPES[form],
        fractional_type=SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=OCCUPIED,
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
        transfer_syntax_uid=syntax,
        pixel_measures=_pixel_measures(source),
        plane_orientation=PlaneOrientationSequence(CoordinateSystemNames.PATIENT, geometry.orientation),
        plane_positions=[PlanePositionSequence(CoordinateSystemNames.PATIENT, geometry.positions[0])],
        omit_empty_frames=True,
        series_description=line(description),
        specific_character_set=settings.charset,
    )
    plain = Dataset()
    plain.update(dataset)
    # highdicom takes the spacing of its one plane for that of all.
    plain.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = _pixel_measures(source)
    put_frames(
        plain,
        [segment.mask.voxels for segment in segments],
        form,
        geometry.positions,
        geometry.orientation,
        _derivations(source),
        syntax,
    )
    _refer_to_sources(plain, source)
    _fix_dimension_uid(plain, object_uid(identity.run_id, f"{role}/dimensions"))
    copy_patient_and_study(source.first, plain)
    plain.SpecificCharacterSet = settings.charset
    described = {int(item.SegmentNumber): item for item in plain.SegmentSequence}
    for segment in segments:
        laterality = structure_codes(segment.mask.structure, segment.mask.side).laterality
        if laterality is not None:
            item = described[segment.number]
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [laterality]
    add_contributing_equipment(plain, equipment)
    if equipment.institution:
        plain.InstitutionName = equipment.institution
    stamp(plain, settings.moment, syntax)
    return SegmentedVolume(source, tuple(segments), plain)


def _pixel_measures(source: Source) -> PixelMeasuresSequence:
    geometry = source.geometry
    return PixelMeasuresSequence(geometry.pixel_spacing, geometry.slice_thickness, geometry.spacing_between_slices)


def _one_pixel(segments: int, form: Form) -> NDArray[np.uint8] | NDArray[np.float32]:
    """What highdicom gets instead of the frames (`vp_node.results.segment_frames`)."""
    if form == "labelmap":
        return np.ones((1, 1, 1), np.uint8)
    if form == "fractional":
        return np.ones((1, 1, 1, segments), np.float32)
    return np.ones((1, 1, 1, segments), np.uint8)


def _description(segment: Segment, equipment: Equipment) -> SegmentDescription:
    codes = structure_codes(segment.mask.structure, segment.mask.side)
    label = segment.mask.label + (" (experimental)" if segment.mask.experimental else "")
    return SegmentDescription(
        segment_number=segment.number,
        segment_label=line(label) or "region",
        segmented_property_category=codes.category,
        segmented_property_type=codes.type,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=segment_algorithm(equipment),
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.tracking_id,
        display_color=CIELabColor.from_rgb(*codes.color),
    )


def _facade(source: Source, charset: str | list[str]) -> Dataset:
    """A classic image of one pixel with the volume's own geometry.

    highdicom refuses sources whose orientation drifts or that lack a Frame of Reference or a thickness, and cannot mix
    frames of several objects: it is given this, and the true references are put in afterwards.
    """
    geometry, first = source.geometry, source.first
    facade = Dataset()
    leave_patient_out(facade)
    facade.SpecificCharacterSet = charset
    facade.SOPClassUID = MRImageStorage
    facade.SOPInstanceUID = "2.25.1"
    facade.SeriesInstanceUID = source.chosen.volume.series_instance_uid
    facade.StudyInstanceUID = source.chosen.volume.study_instance_uid
    facade.FrameOfReferenceUID = source.frame_of_reference_uid
    facade.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    facade.Modality = source.chosen.volume.modality
    facade.Columns, facade.Rows = 1, 1
    facade.ImageOrientationPatient = [float(f"{value:.9f}") for value in geometry.orientation]
    facade.ImagePositionPatient = [float(f"{value:.7f}") for value in geometry.positions[0]]
    facade.PixelSpacing = [float(f"{value:.9f}") for value in geometry.pixel_spacing]
    facade.SliceThickness = float(f"{geometry.slice_thickness:.9f}")
    if first.get("LossyImageCompression") == "01":
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in first:
                facade[keyword] = first[keyword]
    return facade


def _derivations(source: Source) -> list[DicomSequence | None]:
    """Derivation Image Sequence (PS3.3 C.7.6.16.2.6) of each slice, shared by all segments; none for a slice that
    never came."""
    derivation_code = [coded_from(dicom_codes.cid7203.SegmentationImageDerivation)]
    purpose = [coded_from(dicom_codes.DCM.SourceImageForImageProcessingOperation)]
    found: list[DicomSequence | None] = []
    for index in range(len(source.frames)):
        frame = source.reference(index)
        if frame.is_missing:
            found.append(None)
            continue
        image = Dataset()
        image.ReferencedSOPClassUID = frame.sop_class_uid
        image.ReferencedSOPInstanceUID = frame.sop_instance_uid
        if frame.frame_number is not None:
            image.ReferencedFrameNumber = frame.frame_number
        # A slice that was a tile of a mosaic lies elsewhere in the image than in space.
        image.SpatialLocationsPreserved = "YES" if frame.tile is None else "NO"
        image.PurposeOfReferenceCodeSequence = purpose
        derivation = Dataset()
        derivation.SourceImageSequence = [image]
        derivation.DerivationCodeSequence = derivation_code
        found.append(DicomSequence([derivation]))
    return found


def _refer_to_sources(dataset: Dataset, source: Source) -> None:
    """Referenced Series Sequence with every image of the volume."""
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
