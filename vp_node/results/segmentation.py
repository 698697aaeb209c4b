"""Masks as DICOM SEG: BINARY, without empty frames, one object for each source volume (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from vp_model.outcome import Mask, ModelIdentity
from vp_node.config import Config
from vp_node.results.codes import region_codes
from vp_node.results.equipment import mark, model_name, segment_algorithm, software_versions
from vp_node.results.model import PromptProvenance, RunIdentity
from vp_node.results.sources import Sources, orientation, slice_position
from vp_node.results.uids import result_uid, tracking_uid
from vp_node.studies.model import ChosenVolume


def make_segmentation(
    masks: Sequence[Mask],
    chosen: ChosenVolume,
    sources: Sources,
    number: int,
    identity: RunIdentity,
    provenance: PromptProvenance,
    model: ModelIdentity,
    config: Config,
) -> Segmentation:
    """One SEG that holds the masks of one volume, one segment each, in their order.

    Args:
        masks: not empty, each with voxels on a slice that has a source image.
        number: Instance Number in the run's series of segmentations.
    """
    volume = chosen.volume
    frames, placed = _frames(masks, sources)
    placing: dict[str, Any] = {}
    if placed:
        placing = {
            "plane_positions": [
                PlanePositionSequence("PATIENT", slice_position(volume, index)) for index in sources.slices
            ],
            "plane_orientation": PlaneOrientationSequence("PATIENT", orientation(volume)),
            "pixel_measures": PixelMeasuresSequence(
                pixel_spacing=(volume.spacing[1], volume.spacing[0]), slice_thickness=volume.spacing[2]
            ),
        }
    segmentation = Segmentation(
        source_images=list(sources.datasets),
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe(mask, index, volume.patient_key, model) for index, mask in enumerate(masks, start=1)
        ],
        series_instance_uid=result_uid(identity, f"seg series {chosen.name}"),
        series_number=config.results.segmentation_series_number,
        sop_instance_uid=result_uid(identity, f"seg {chosen.name}"),
        instance_number=number,
        manufacturer=config.results.manufacturer,
        manufacturer_model_name=model_name(model),
        software_versions=software_versions(model),
        device_serial_number=config.results.device_serial_number,
        omit_empty_frames=True,
        content_label="VOXELPROMPT",
        content_description=provenance.text[:64],
        series_description=f"VoxelPrompt: {provenance.name}"[:64],
        **placing,
    )
    _add_sides(segmentation, masks)
    _fix_identifiers(segmentation, identity, chosen.name)
    mark(segmentation, config, model, provenance.requested_at)
    return segmentation


def _frames(masks: Sequence[Mask], sources: Sources) -> tuple[NDArray[np.uint8], bool]:
    """Masks as (frames, rows, columns, segments), and whether their planes must be said explicitly.

    The planes of an enhanced object's frames are said where the object holds more than this volume.
    """
    stack = np.stack([mask.voxels.transpose(2, 1, 0) for mask in masks], axis=-1).astype(np.uint8)
    stack = stack[list(sources.slices)]
    if not sources.enhanced:
        return stack, False
    count = int(sources.datasets[0].NumberOfFrames)
    if count != len(sources.slices):
        return stack, True
    frames = np.zeros((count, *stack.shape[1:]), np.uint8)
    frames[[number - 1 for number in sources.frame_numbers]] = stack
    return frames, False


def _describe(mask: Mask, number: int, patient_key: str, model: ModelIdentity) -> SegmentDescription:
    codes = region_codes(mask.structure, mask.side)
    description = SegmentDescription(
        segment_number=number,
        segment_label=mask.label[:64],
        segmented_property_category=codes.category,
        segmented_property_type=codes.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=segment_algorithm(model),
        tracking_uid=tracking_uid(patient_key, mask.structure, mask.side),
        tracking_id=tracking_identifier(mask.structure, mask.side),
        display_color=CIELabColor.from_rgb(*codes.color),
    )
    if mask.experimental:
        description.SegmentDescription = (
            "Experimental: measured below the accuracy at which it is offered without a warning"
        )
    return description


def tracking_identifier(structure: str, side: str) -> str:
    """Words of the tracking identifier, equal in SEG and SR."""
    return f"{side} {structure}".strip() if side in ("left", "right") else structure


def _add_sides(segmentation: Segmentation, masks: Sequence[Mask]) -> None:
    """Laterality as a modifier of the property type (PS3.3 C.8.20.4), for which highdicom has no argument."""
    for item, mask in zip(segmentation.SegmentSequence, masks, strict=True):
        side = region_codes(mask.structure, mask.side).side
        if side is not None:
            modifier = Dataset()
            modifier.CodeValue, modifier.CodingSchemeDesignator = side.value, side.scheme_designator
            modifier.CodeMeaning = side.meaning
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = DicomSequence([modifier])


def _fix_identifiers(segmentation: Segmentation, identity: RunIdentity, name: str) -> None:
    """UIDs that highdicom draws at random become those of the run."""
    organization = result_uid(identity, f"dimension organization {name}")
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
