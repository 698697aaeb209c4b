"""Measurements and answers as a structured report: TID 1500 in a Comprehensive 3D SR (PS3.16 A, PS3.3 A.35.13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    CoordinatesForMeasurement3D,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues3D,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.enum import RelationshipTypeValues
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import vp_model.outcome as model_outcome
from vp_model.outcome import Mask, Outcome
from vp_node.config import Config
from vp_node.results.codes import RegionCodes, measurement_code, private, region_codes, unit_code
from vp_node.results.equipment import mark, model_name, report_algorithm, software_versions
from vp_node.results.model import PromptProvenance, RunIdentity
from vp_node.results.segmentation import tracking_identifier
from vp_node.results.uids import device_uid, result_uid, tracking_uid
from vp_node.studies.model import ChosenVolume

COMMENT = CodedConcept("121106", "DCM", "Comment")
STATEMENT = "Made by software, for research use only. Not verified by a physician."
LONGEST_TEXT = 8000
MR_OF_BRAIN = CodedConcept("816077007", "SCT", "MRI of brain")
CT_OF_BRAIN = CodedConcept("34227000", "SCT", "CT of brain")

Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


@dataclass(frozen=True, eq=False)
class WrittenSegment:
    """Where a mask went: the SEG and the number of its segment."""

    segmentation: Dataset
    number: int


def make_report(
    outcome: Outcome,
    volumes: Sequence[ChosenVolume],
    segments: Mapping[str, WrittenSegment],
    evidence: Sequence[Dataset],
    identity: RunIdentity,
    provenance: PromptProvenance,
    config: Config,
) -> Comprehensive3DSR:
    """The one report of a run.

    Args:
        segments: of each mask by its identifier, where a SEG was written for it.
        evidence: the images and SEGs that are referred to; the first image gives patient and study.
    """
    writer = _Writer(outcome, volumes, segments, identity, provenance, config)
    root = MeasurementReport(
        observation_context=writer.observer(),
        procedure_reported=CT_OF_BRAIN if volumes and volumes[0].volume.modality == "CT" else MR_OF_BRAIN,
        imaging_measurements=writer.groups(),
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept("en-US", "RFC5646", "English (United States)")
        ),
        referenced_images=[dataset for dataset in evidence if dataset.Modality not in ("SEG", "SR")][:1],
    )
    report = Comprehensive3DSR(
        evidence=list(evidence),
        content=root[0],
        series_instance_uid=result_uid(identity, "sr series"),
        series_number=config.results.report_series_number,
        sop_instance_uid=result_uid(identity, "sr"),
        instance_number=1,
        manufacturer=config.results.manufacturer,
        is_complete=outcome.status != "failed",
        is_final=False,
        is_verified=False,
        institution_name=config.results.institution or None,
        manufacturer_model_name=model_name(outcome.model),
        software_versions=software_versions(outcome.model),
        device_serial_number=config.results.device_serial_number,
        series_description=f"VoxelPrompt: {provenance.name}"[:64],
    )
    mark(report, config, outcome.model, provenance.requested_at)
    return report


class _Writer:
    def __init__(
        self,
        outcome: Outcome,
        volumes: Sequence[ChosenVolume],
        segments: Mapping[str, WrittenSegment],
        identity: RunIdentity,
        provenance: PromptProvenance,
        config: Config,
    ) -> None:
        self._outcome = outcome
        self._volumes = {chosen.name: chosen for chosen in volumes}
        self._segments = segments
        self._identity = identity
        self._provenance = provenance
        self._config = config
        self._patient = volumes[0].volume.patient_key if volumes else ""
        self._frame_of_reference = volumes[-1].volume.frame_of_reference_uid if volumes else ""
        self._algorithm = report_algorithm(outcome.model)

    def observer(self) -> ObservationContext:
        model = self._outcome.model
        device = DeviceObserverIdentifyingAttributes(
            uid=device_uid(model.content_hash),
            name=self._config.node.name[:64],
            manufacturer_name=self._config.results.manufacturer,
            model_name=model_name(model),
            serial_number=self._config.results.device_serial_number,
        )
        return ObservationContext(ObserverContext(codes.DCM.Device, device))

    def groups(self) -> list[Group]:
        """One group for each segment, one for each region measured without one, and one about the run."""
        outcome = self._outcome
        taken: set[int] = set()
        groups: list[Group] = []
        for mask in outcome.masks:
            if mask.identifier in self._segments:
                own = self._measurements_of(mask, taken)
                groups.append(self._segment_group(mask, own))
        rest = [item for index, item in enumerate(outcome.measurements) if index not in taken]
        regions = dict.fromkeys((item.structure, item.side) for item in rest)
        for structure, side in regions:
            members = [item for item in rest if (item.structure, item.side) == (structure, side)]
            groups.append(self._region_group(structure, side, members))
        groups.append(self._run_group())
        return groups

    def _measurements_of(self, mask: Mask, taken: set[int]) -> list[model_outcome.Measurement]:
        """The measurements made on this one mask, each given to the first mask that it was made on."""
        found = []
        for index, item in enumerate(self._outcome.measurements):
            alone = item.masks and item.masks[0] == mask.identifier and not item.points and not item.visits
            if index not in taken and alone and item.side == mask.side:
                taken.add(index)
                found.append(item)
        return found

    def _segment_group(self, mask: Mask, measurements: Sequence[model_outcome.Measurement]) -> Group:
        written = self._segments[mask.identifier]
        source = self._volumes[mask.volume].volume
        region = region_codes(mask.structure, mask.side)
        group = VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(mask.structure, mask.side),
            referenced_segment=ReferencedSegment(
                sop_class_uid=written.segmentation.SOPClassUID,
                sop_instance_uid=written.segmentation.SOPInstanceUID,
                segment_number=written.number,
                source_series=SourceSeriesForSegmentation(source.series_instance_uid),
            ),
            finding_type=region.type,
            finding_category=region.category,
            finding_sites=self._sites(region),
            algorithm_id=self._algorithm,
            session=mask.visit or None,
            measurements=[self._measurement(item) for item in measurements] or None,
        )
        self._comment(group, [self._experimental(mask.experimental, mask.label)])
        return group

    def _region_group(self, structure: str, side: str, measurements: Sequence[model_outcome.Measurement]) -> Group:
        region = region_codes(structure, side)
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(structure, side),
            finding_type=region.type,
            finding_category=region.category,
            finding_sites=self._sites(region),
            algorithm_id=self._algorithm,
            measurements=[self._measurement(item) for item in measurements],
        )
        notes = [_in_words(item) for item in measurements if item.visits or item.visit]
        experimental = any(item.experimental for item in measurements)
        self._comment(group, [*notes, self._experimental(experimental, measurements[0].label)])
        return group

    def _run_group(self) -> Group:
        """What was asked, what was run, by what, and what it said in words."""
        outcome, provenance = self._outcome, self._provenance
        negative = self._nothing_found()
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                identifier="VoxelPrompt run", uid=result_uid(self._identity, "run tracking")
            ),
            finding_type=private("VoxelPrompt run"),
            algorithm_id=self._algorithm,
            qualitative_evaluations=[
                QualitativeEvaluation(name=private("Status of the run"), value=private(outcome.status)),
                *([QualitativeEvaluation(CodedConcept("121071", "DCM", "Finding"), negative)] if negative else []),
            ],
        )
        said = [text.text for text in outcome.texts]
        self._comment(
            group,
            [
                STATEMENT,
                f"Prompt: {provenance.text}",
                f"Prompt name and version: {provenance.name}, {provenance.version}; owner: {provenance.owner}; "
                f"requested by: {provenance.requested_by}",
                f"Status: {outcome.status}" + (f". {outcome.reason}" if outcome.reason else ""),
                *said,
                *(f"Warning: {warning}" for warning in outcome.warnings),
                f"Program:\n{outcome.transcript.program or '(none)'}",
                f"Model: {outcome.model.name} {outcome.model.version}, weights {outcome.model.content_hash}",
                f"Run: {self._identity.run_id}"
                + (f", follows {self._identity.predecessor_run_id}" if self._identity.predecessor_run_id else ""),
            ],
        )
        return group

    def _nothing_found(self) -> CodedConcept | None:
        if self._outcome.status == "answered" and self._outcome.structures and not self._outcome.masks:
            return CodedConcept("2667000", "SCT", "Absent")
        return None

    def _measurement(self, item: model_outcome.Measurement) -> Measurement:
        points = None
        if item.points and self._frame_of_reference:
            lps = np.array(item.points) * np.array([-1.0, -1.0, 1.0])
            kind = GraphicTypeValues3D.POINT if len(lps) == 1 else GraphicTypeValues3D.POLYLINE
            points = [CoordinatesForMeasurement3D(kind, lps, self._frame_of_reference)]
        return Measurement(
            name=measurement_code(item.name),
            value=_rounded(item.value),
            unit=unit_code(item.unit),
            referenced_coordinates=points,
        )

    def _tracking(self, structure: str, side: str) -> TrackingIdentifier:
        return TrackingIdentifier(
            identifier=tracking_identifier(structure, side), uid=tracking_uid(self._patient, structure, side)
        )

    @staticmethod
    def _sites(region: RegionCodes) -> list[FindingSite] | None:
        """The structure with its side: Finding Site modifies the finding (HAS CONCEPT MOD)."""
        if region.side is None:
            return None
        return [FindingSite(anatomic_location=region.type, laterality=region.side)]

    @staticmethod
    def _experimental(experimental: bool, label: str) -> str:
        return f"{label}: experimental, see the model card" if experimental else ""

    @staticmethod
    def _comment(group: Group, texts: Sequence[str]) -> None:
        """Adds texts as Comments to a group, for which highdicom has no argument."""
        for text in texts:
            if text:
                item = TextContentItem(COMMENT, text[:LONGEST_TEXT], RelationshipTypeValues.CONTAINS)
                group[0].ContentSequence.append(item)


def _in_words(item: model_outcome.Measurement) -> str:
    """A measurement with its dates: a change names both."""
    dates = " to ".join(item.visits) if item.visits else item.visit
    return f"{item.label}, {item.name}: {_rounded(item.value):g} {item.unit} ({dates})"


def _rounded(value: float) -> float:
    """At most seven digits: more are not there, and DS has room for sixteen characters."""
    return float(f"{value:.7g}")
