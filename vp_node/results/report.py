"""What a run found, as one Comprehensive 3D SR of TID 1500 (PS3.16): it is the root that names every other object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from vp_model.outcome import Outcome
from vp_node.results.equipment import Equipment, add_contributing_equipment
from vp_node.results.groups import ReportGroups
from vp_node.results.model import ResultObject, RunIdentity
from vp_node.results.segmentation import SegmentedVolume, copy_patient_and_study, leave_patient_out
from vp_node.results.sources import Source
from vp_node.results.stamping import stamp
from vp_node.results.uids import object_uid

PROCEDURES = {
    "MR": CodedConcept("816077007", "SCT", "Magnetic resonance imaging of brain"),
    "CT": CodedConcept("303653007", "SCT", "Computed tomography of head"),
}
"""Procedure Reported where the source names none: the imaging, not what the software did."""


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything that a report is written from."""

    outcome: Outcome
    sources: tuple[Source, ...]
    segmented: tuple[SegmentedVolume, ...]
    derived: tuple[ResultObject, ...]
    groups: ReportGroups


def report(
    given: ReportInput,
    own: Source,
    identity: RunIdentity,
    equipment: Equipment,
    series_number: int,
    moment: datetime,
    charset: str | list[str],
) -> Dataset:
    """Makes the SR.

    Args:
        given: the outcome, what was made of it, and its groups.
        own: a source of the run's study, whose patient and study the SR takes.
    """
    root = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(equipment)),
        procedure_reported=_procedure(own),
        imaging_measurements=given.groups.measured,
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
    )
    _insert_image_library(root[0], given.sources)
    evidence = _evidence(given, own)
    dataset = Comprehensive3DSR(
        evidence=evidence,
        content=root[0],
        series_instance_uid=object_uid(identity.run_id, "sr/series"),
        series_number=series_number,
        sop_instance_uid=object_uid(identity.run_id, "sr/instance"),
        instance_number=1,
        manufacturer=equipment.manufacturer,
        is_complete=given.outcome.status == "answered",
        is_final=False,
        is_verified=False,
        institution_name=equipment.institution or None,
        specific_character_set=charset,
        series_description=f"{equipment.model_name} report"[:64],
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_version,
        device_serial_number=equipment.device_serial_number,
    )
    plain = Dataset()
    plain.update(dataset)
    copy_patient_and_study(own.first, plain)
    plain.SpecificCharacterSet = charset
    if identity.predecessor_run_id:
        _name_predecessor(plain, identity.predecessor_run_id, identity.study_instance_uid)
    add_contributing_equipment(plain, equipment)
    stamp(plain, moment)
    return plain


def _observer(equipment: Equipment) -> ObserverContext:
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=equipment.device_uid,
            name=equipment.node_name,
            manufacturer_name=equipment.manufacturer,
            model_name=equipment.model_name,
            serial_number=equipment.device_serial_number,
        ),
    )


def _procedure(own: Source) -> CodedConcept:
    for item in own.first.get("ProcedureCodeSequence", ()):
        if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning"):
            return CodedConcept(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)[:64])
    return PROCEDURES[own.chosen.volume.modality]


def _insert_image_library(root: Dataset, sources: Sequence[Source]) -> None:
    """TID 1600 with what a group shares, and no descriptors for each image: those cost more than all else."""
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS)
    groups = []
    for source in sources:
        volume = source.chosen.volume
        group = ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS)
        modality = CodeContentItem(
            name=codes.DCM.Modality,
            value=codes.DCM.MagneticResonance if volume.modality == "MR" else codes.DCM.ComputedTomography,
            relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT,
        )
        images = [
            ImageContentItem(
                name=CodedConcept("260753009", "SCT", "Source"),
                referenced_sop_class_uid=str(header.SOPClassUID),
                referenced_sop_instance_uid=str(header.SOPInstanceUID),
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
            for header in source.headers
        ]
        group.ContentSequence = DicomSequence([modality, *images])
        groups.append(group)
    library.ContentSequence = DicomSequence(groups)
    places = [
        index
        for index, item in enumerate(root.ContentSequence)
        if item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    root.ContentSequence.insert(places[0] if places else len(root.ContentSequence), library)


def _evidence(given: ReportInput, own: Source) -> list[Dataset]:
    """All that is referred to, those of the run's study first: from them highdicom takes the patient."""
    headers = {str(header.SOPInstanceUID): _reference(header) for header in own.headers}
    for source in given.sources:
        headers |= {str(header.SOPInstanceUID): _reference(header) for header in source.headers}
    made = [item.dataset for item in given.segmented] + [item.dataset for item in given.derived]
    return [*headers.values(), *made]


def _reference(header: Dataset) -> Dataset:
    reference = Dataset()
    leave_patient_out(reference)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        reference[keyword] = header[keyword]
    return reference


def _name_predecessor(dataset: Dataset, predecessor_run_id: str, study_instance_uid: str) -> None:
    instance = Dataset()
    instance.ReferencedSOPClassUID = dataset.SOPClassUID
    instance.ReferencedSOPInstanceUID = object_uid(predecessor_run_id, "sr/instance")
    series = Dataset()
    series.SeriesInstanceUID = object_uid(predecessor_run_id, "sr/series")
    series.ReferencedSOPSequence = [instance]
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = [series]
    dataset.PredecessorDocumentsSequence = [study]
