"""Structured reports (PS3.3 C.17, C.18, PS3.16 TID 1500): values, references, units, coordinates, tracking."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom.dataset import Dataset

from vp_node.results.rules.problems import Problem, concept_of, content_items

TRACKING_UID = "112040"
MEASUREMENT_GROUP = "125007"
REFERENCED_SEGMENT = "121191"
_NOTICE = "research use only"
_GRAPHIC_POINTS = {
    "POINT": (1, 1),
    "POLYLINE": (2, None),
    "POLYGON": (3, None),
    "MULTIPOINT": (1, None),
    "ELLIPSE": (4, 4),
    "ELLIPSOID": (6, 6),
}


def report(dataset: Dataset) -> Iterator[Problem]:
    template = (dataset.get("ContentTemplateSequence") or [Dataset()])[0]
    if (template.get("TemplateIdentifier"), template.get("MappingResource")) != ("1500", "DCMR"):
        yield "template", "Content Template Sequence"
    if dataset.get("ValueType") != "CONTAINER" or not dataset.get("ConceptNameCodeSequence"):
        yield "content", "the root"
    known = evidence(dataset)
    for item in content_items(dataset):
        yield from _item(item)
        for reference in item.get("ReferencedSOPSequence") or []:
            if str(reference.get("ReferencedSOPInstanceUID")) not in known:
                yield "evidence", "one is not"
    for group in _groups(dataset):
        uids = [child for child in group.get("ContentSequence") or [] if concept_of(child) == TRACKING_UID]
        if len(uids) != 1:
            yield "group", f"{len(uids)} Tracking UIDs"


def house_report(dataset: Dataset, model: tuple[str, str, str] | None) -> Iterator[Problem]:
    """What reports of this node say.

    Args:
        model: name, version and Device UID of the Contributing Equipment.
    """
    if dataset.get("VerificationFlag") != "UNVERIFIED":
        yield "unverified", "Verification Flag"
    notice = False
    for item in content_items(dataset):
        value_type, concept = item.get("ValueType"), concept_of(item)
        if value_type == "TEXT":
            notice = notice or _NOTICE in str(item.get("TextValue", ""))
            if model and concept == "111001" and item.get("TextValue") != model[0]:
                yield "same-equipment", "Algorithm Name"
            if model and concept == "111003" and item.get("TextValue") != model[1]:
                yield "same-equipment", "Algorithm Version"
        elif value_type == "UIDREF" and model and concept == "121012" and str(item.get("UID")) != model[2]:
            yield "same-equipment", "Device Observer UID"
    if not notice:
        yield "notice", "it does not"


def evidence(dataset: Dataset) -> dict[str, str]:
    """SOP Class UID by SOP Instance UID of everything in the evidence (PS3.3 C.17.2.3)."""
    return {
        str(instance.ReferencedSOPInstanceUID): str(instance.ReferencedSOPClassUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(keyword) or []
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def segment_references(dataset: Dataset) -> Iterator[tuple[str, int, str]]:
    """SOP Instance UID, segment number and tracking UID of each group that refers to a segment."""
    for group in _groups(dataset):
        children = group.get("ContentSequence") or []
        tracking = next((str(child.get("UID")) for child in children if concept_of(child) == TRACKING_UID), "")
        for child in children:
            if concept_of(child) == REFERENCED_SEGMENT:
                reference = child.ReferencedSOPSequence[0]
                numbers = reference.get("ReferencedSegmentNumber")
                for number in numbers if isinstance(numbers, list) else [numbers]:
                    yield str(reference.ReferencedSOPInstanceUID), int(number or 0), tracking


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    return (item for item in content_items(dataset) if concept_of(item) == MEASUREMENT_GROUP)


def _item(item: Dataset) -> Iterator[Problem]:
    value_type = item.get("ValueType")
    if not item.get("RelationshipType") or not value_type:
        yield "content", "an item has no relationship or value type"
    elif value_type not in ("IMAGE", "CONTAINER", "SCOORD", "SCOORD3D", "COMPOSITE") and not concept_of(item):
        yield "content", f"a {value_type} has no concept name"
    if value_type == "NUM":
        yield from _number(item)
    elif value_type == "TEXT" and not str(item.get("TextValue") or "").strip():
        yield "content", "a TEXT is empty"
    elif value_type == "CODE" and not item.get("ConceptCodeSequence"):
        yield "content", "a CODE has no code"
    elif value_type == "UIDREF" and not item.get("UID"):
        yield "content", "a UIDREF has no UID"
    elif value_type == "SCOORD3D":
        yield from _coordinates(item)


def _number(item: Dataset) -> Iterator[Problem]:
    for value in item.get("MeasuredValueSequence") or []:
        units = value.get("MeasurementUnitsCodeSequence") or [Dataset()]
        if units[0].get("CodingSchemeDesignator") != "UCUM":
            yield "units", "one has another"
        if value.get("NumericValue") is None or not math.isfinite(float(value.NumericValue)):
            yield "content", "a NUM is no number"
    if not item.get("MeasuredValueSequence") and not item.get("NumericValueQualifierCodeSequence"):
        yield "content", "a NUM has neither a value nor a reason for none"


def _coordinates(item: Dataset) -> Iterator[Problem]:
    data = [float(value) for value in item.get("GraphicData") or []]
    least, most = _GRAPHIC_POINTS.get(str(item.get("GraphicType")), (1, None))
    points = len(data) // 3
    if len(data) % 3 or points < least or (most is not None and points > most):
        yield "coordinates", f"{len(data)} values for a {item.get('GraphicType')}"
    if not all(math.isfinite(value) for value in data):
        yield "coordinates", "one is no number"
    if not item.get("ReferencedFrameOfReferenceUID"):
        yield "coordinates", "no Frame of Reference"
