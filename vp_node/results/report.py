"""What a run found, as one Comprehensive 3D SR of TID 1500 (PS3.16): it is the root that names every other object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
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
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from vp_model.outcome import Outcome
from vp_node.results.equipment import Equipment, add_contributing_equipment
from vp_node.results.groups import ReportGroups, images_under
from vp_node.results.model import Form, Predecessor, ResultObject, RunIdentity
from vp_node.results.patient import copy_patient_and_study, leave_patient_out
from vp_node.results.segmentation import SegmentedVolume
from vp_node.results.sources import Source
from vp_node.results.stamping import stamp
from vp_node.results.uids import object_uid
from vp_node.results.wording import line

PROCEDURES = {
    "MR": CodedConcept("816077007", "SCT", "Magnetic resonance imaging of brain"),
    "CT": CodedConcept("303653007", "SCT", "Computed tomography of head"),
    "": CodedConcept("363679005", "SCT", "Imaging"),
}
"""Procedure Reported where the source names none: the imaging, not what the software did."""


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything that a report is written from."""

    outcome: Outcome
    header: Dataset
    """Of any image of the study that was asked about: its patient and study."""
    modality: str
    """`MR`, `CT`, or empty where there is no volume."""
    sources: tuple[Source, ...]
    segmented: tuple[SegmentedVolume, ...]
    further: tuple[ResultObject, ...]
    """All other objects of the run."""
    groups: ReportGroups


def report(
    given: ReportInput,
    identity: RunIdentity,
    equipment: Equipment,
    series_number: int,
    moment: datetime,
    charset: str | list[str],
    form: Form = "binary",
) -> Dataset:
    """Makes the SR that refers to the segmentations of one form."""
    role = "sr" if form == "binary" else f"sr/{form}"
    root = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(equipment)),
        procedure_reported=_procedure(given),
        imaging_measurements=given.groups.measured,
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
    )
    library = _library(given)
    if library is not None:
        _insert(root[0], library)
    dataset = Comprehensive3DSR(
        evidence=_evidence(given, root[0]) or [_nothing(given)],
        content=root[0],
        series_instance_uid=object_uid(identity.run_id, f"{role}/series"),
        series_number=series_number,
        sop_instance_uid=object_uid(identity.run_id, f"{role}/instance"),
        instance_number=1,
        manufacturer=equipment.manufacturer,
        is_complete=given.outcome.status == "answered",
        is_final=False,
        is_verified=False,
        institution_name=equipment.institution or None,
        specific_character_set=charset,
        series_description=f"{equipment.model_name} report" + ("" if form == "binary" else f" ({form})"),
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_version,
        device_serial_number=equipment.device_serial_number,
    )
    plain = Dataset()
    plain.update(dataset)
    plain.SeriesDescription = line(plain.SeriesDescription)
    if not given.sources:
        del plain.CurrentRequestedProcedureEvidenceSequence
    copy_patient_and_study(given.header, plain)
    plain.SpecificCharacterSet = charset
    if identity.predecessor is not None and identity.predecessor.same_model:
        _name_predecessor(plain, identity.predecessor)
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


def _procedure(given: ReportInput) -> CodedConcept:
    for item in given.header.get("ProcedureCodeSequence", ()):
        if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning"):
            return CodedConcept(str(item.CodeValue), str(item.CodingSchemeDesignator), line(str(item.CodeMeaning)))
    return PROCEDURES[given.modality]


def _library(given: ReportInput) -> ContainerContentItem | None:
    """TID 1600 with the images that regions lie on, what a group shares, and no descriptors for each image.

    Items cost more than anything else in a report; the segmentation itself names every image of its volume.
    """
    if not given.sources:
        return None
    of_source: dict[str, list[NDArray[np.bool_]]] = defaultdict(list)
    for mask in given.outcome.masks:
        of_source[mask.volume].append(mask.voxels)
    groups = []
    for source in given.sources:
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
                referenced_sop_class_uid=sop_class,
                referenced_sop_instance_uid=instance,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
            for sop_class, instance in images_under(source, of_source[source.chosen.name])
        ]
        group.ContentSequence = DicomSequence([modality, *images])
        groups.append(group)
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS)
    library.ContentSequence = DicomSequence(groups)
    return library


def _insert(root: Dataset, library: ContainerContentItem) -> None:
    """Before the measurements, where TID 1500 has it."""
    places = [
        index
        for index, item in enumerate(root.ContentSequence)
        if item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    root.ContentSequence.insert(places[0] if places else len(root.ContentSequence), library)


def _evidence(given: ReportInput, root: Dataset) -> list[Dataset]:
    """All that is referred to, those of the run's study first: from them highdicom takes the patient."""
    named = set(_named(root))
    references = [
        _reference(header)
        for source in given.sources
        for header in source.headers
        if str(header.SOPInstanceUID) in named
    ]
    study = given.header.StudyInstanceUID
    references.sort(key=lambda reference: bool(reference.StudyInstanceUID != study))
    unique = {str(reference.SOPInstanceUID): reference for reference in references}
    made = [item.dataset for item in given.segmented] + [item.dataset for item in given.further]
    made = [_reference(dataset) for dataset in made]
    return [*made, *unique.values()]


def _named(item: Dataset) -> Iterator[str]:
    for child in item.get("ContentSequence", ()):
        for reference in child.get("ReferencedSOPSequence", ()):
            yield str(reference.ReferencedSOPInstanceUID)
        yield from _named(child)


def _reference(header: Dataset) -> Dataset:
    reference = Dataset()
    leave_patient_out(reference)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        reference[keyword] = header[keyword]
    return reference


def _nothing(given: ReportInput) -> Dataset:
    """highdicom takes the study from the evidence and refuses to have none; it is taken out again."""
    return _reference(given.header)


def _name_predecessor(dataset: Dataset, predecessor: Predecessor) -> None:
    instance = Dataset()
    instance.ReferencedSOPClassUID = predecessor.sop_class_uid
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = [instance]
    study = Dataset()
    study.StudyInstanceUID = predecessor.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    dataset.PredecessorDocumentsSequence = [study]
