"""Holds an object against the rules for results (`rules.json`); an object that breaks one is not sent."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, Comprehensive3DSRStorage, CTImageStorage, MRImageStorage, SegmentationStorage

from vp_node.studies.frames import frame_headers

Severity = Literal["error", "warning"]

_REQUIRED = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "SeriesNumber",
    "InstanceNumber",
    "ContentDate",
    "ContentTime",
)
_MAY_BE_EMPTY = (
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
POSITION_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class Finding:
    """A rule that an object breaks, or nearly."""

    severity: Severity
    rule: str
    message: str


Problem = tuple[str, str]
"""Rule and what is wrong, without patient data."""


def check_file(path: Path) -> list[Finding]:
    """What is wrong with a file, as far as it can be seen in it alone. Empty: nothing."""
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, EOFError, OSError, ValueError, struct.error) as error:
        return [_finding("readable", type(error).__name__)]
    kind = _KINDS.get(str(dataset.get("SOPClassUID", "")))
    if kind is None:
        return [_finding("class", "it is another")]
    return [_finding(rule, detail) for rule, detail in (*_judged(_common, dataset), *_judged(kind, dataset))]


def check_with_sources(path: Path, sources: Mapping[str, Path]) -> list[Finding]:
    """`check_file`, and whether the object fits the images that it was made from.

    Args:
        path: of the object.
        sources: path of each source image by SOP Instance UID; those that are not given are not compared.
    """
    findings = check_file(path)
    if any(finding.rule in ("readable", "class") for finding in findings):
        return findings
    dataset = dcmread(path)
    headers = {uid: dcmread(source, stop_before_pixels=True) for uid, source in sources.items()}
    return [*findings, *(_finding(rule, detail) for rule, detail in _against(dataset, headers))]


def _judged(rule: Callable[[Dataset], Iterator[Problem]], dataset: Dataset) -> list[Problem]:
    """What the rules say; an object that is too broken to be judged breaks one by that."""
    problems: list[Problem] = []
    try:
        for problem in rule(dataset):
            problems.append(problem)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problems.append(("malformed", type(error).__name__))
    return problems


@cache
def rules() -> dict[str, dict[str, str]]:
    """`rules.json`: severity, text and source of each rule."""
    loaded: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "rules.json").read_text(encoding="utf-8"))
    return loaded


def _finding(rule: str, detail: str) -> Finding:
    entry = rules()[rule]
    severity: Severity = "error" if entry["severity"] == "error" else "warning"
    return Finding(severity, rule, f"{entry['message']} ({detail})" if detail else entry["message"])


def _common(dataset: Dataset) -> Iterator[Problem]:
    meta = dataset.file_meta
    if (meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID")) != (
        dataset.SOPClassUID,
        dataset.get("SOPInstanceUID"),
    ):
        yield "meta", "they differ"
    for keyword in _REQUIRED:
        if dataset.get(keyword) in (None, ""):
            yield "present", keyword
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            yield "type2", keyword
    for element in dataset.iterall():
        if element.VR == "UI" and not element.is_empty:
            values = element.value if element.VM > 1 else [element.value]
            if not all(UID(value).is_valid for value in values):
                yield "uid", element.keyword
        if element.keyword == "CodeValue" and len(str(element.value)) > 16:
            yield "code-length", str(element.value)
        if element.VR in ("LO", "SH", "PN", "LT", "ST", "UT", "UC") and "\ufffd" in str(element.value):
            yield "text", element.keyword
    equipment = dataset.get("ContributingEquipmentSequence") or []
    if not any(item.get("DeviceUID") and item.get("ManufacturerModelName") for item in equipment):
        yield "equipment", "it is not"


def _segmentation(dataset: Dataset) -> Iterator[Problem]:
    frames = int(dataset.get("NumberOfFrames") or 0)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if frames < 1 or len(groups) != frames:
        yield "frames", f"{len(groups)} items, {frames} frames"
    bits = frames * int(dataset.Rows) * int(dataset.Columns)
    expected = (bits + 7) // 8
    if len(dataset.get("PixelData") or b"") not in (expected, expected + expected % 2):
        yield "pixels", f"expected {expected} bytes"
    segments = dataset.get("SegmentSequence") or []
    numbers = [int(item.SegmentNumber) for item in segments]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        yield "segments", "the numbers have gaps"
    yield from _segments(dataset, segments)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or []
        for item in series.ReferencedInstanceSequence
    }
    if _named_sources(groups) - listed:
        yield "derivation", "a frame names an image that Referenced Series does not list"
    tracking = [str(item.get("TrackingUID")) for item in segments]
    if len(set(tracking)) != len(tracking):
        yield "segment-codes", "two segments have one Tracking UID"
    used = set()
    for group in groups:
        # One segment alone may be named for all frames at once.
        identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        used.add(int(identification[0].ReferencedSegmentNumber) if identification else 0)
        if not group.get("PlanePositionSequence"):
            yield "plane", "a frame has no position"
    if used - set(numbers):
        yield "segments", "a frame names a segment that is not there"
    for number in sorted(set(numbers) - used):
        yield "no-empty", f"segment {number}"
    if not shared.get("PlaneOrientationSequence") or not _is_orthonormal(
        shared.PlaneOrientationSequence[0].get("ImageOrientationPatient")
    ):
        yield "plane", "the orientation"
    if not dataset.get("ReferencedSeriesSequence"):
        yield "derivation", "there is no Referenced Series"
    if not dataset.get("FrameOfReferenceUID"):
        yield "present", "FrameOfReferenceUID"


def _named_sources(groups: Sequence[Dataset]) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for group in groups
        for derivation in group.get("DerivationImageSequence") or []
        for item in derivation.get("SourceImageSequence") or []
    }


def _segments(dataset: Dataset, segments: Sequence[Dataset]) -> Iterator[Problem]:
    model = _model_of(dataset)
    for item in segments:
        for keyword in (
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
            "SegmentLabel",
            "SegmentAlgorithmName",
            "TrackingID",
            "TrackingUID",
        ):
            if not item.get(keyword):
                yield "segment-codes", f"segment {item.SegmentNumber} has no {keyword}"
        for algorithm in item.get("SegmentationAlgorithmIdentificationSequence") or []:
            if model and (algorithm.get("AlgorithmName"), algorithm.get("AlgorithmVersion")) != model[:2]:
                yield "same-equipment", f"segment {item.SegmentNumber}"


def _report(dataset: Dataset) -> Iterator[Problem]:
    template = (dataset.get("ContentTemplateSequence") or [Dataset()])[0]
    if (template.get("TemplateIdentifier"), template.get("MappingResource")) != ("1500", "DCMR"):
        yield "template", "Content Template Sequence"
    if dataset.get("VerificationFlag") != "UNVERIFIED":
        yield "unverified", "Verification Flag"
    known = _evidence(dataset)
    model = _model_of(dataset)
    notice = False
    for item in _content(dataset):
        value_type = item.get("ValueType")
        if value_type == "IMAGE":
            if str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) not in known:
                yield "evidence", "an image is not"
        elif value_type == "NUM":
            for value in item.get("MeasuredValueSequence") or []:
                if value.MeasurementUnitsCodeSequence[0].get("CodingSchemeDesignator") != "UCUM":
                    yield "units", "a number has another"
        elif value_type == "TEXT":
            name = item.ConceptNameCodeSequence[0]
            notice = notice or "research use only" in str(item.get("TextValue", ""))
            if model and name.get("CodeValue") == "111001" and item.TextValue != model[0]:
                yield "same-equipment", "Algorithm Name"
            if model and name.get("CodeValue") == "111003" and item.TextValue != model[1]:
                yield "same-equipment", "Algorithm Version"
        elif value_type == "UIDREF":
            name = item.ConceptNameCodeSequence[0]
            if model and name.get("CodeValue") == "121012" and str(item.UID) != model[2]:
                yield "same-equipment", "Device Observer UID"
    if not notice:
        yield "notice", "it does not"


def _image(dataset: Dataset) -> Iterator[Problem]:
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    if len(dataset.get("PixelData") or b"") != expected:
        yield "pixels", f"expected {expected} bytes"
    if list(dataset.get("ImageType") or [])[:2] != ["DERIVED", "SECONDARY"]:
        yield "derivation", "Image Type does not say DERIVED\\SECONDARY"
    if not dataset.get("DerivationCodeSequence"):
        yield "derivation", "there is no Derivation Code"
    if not _is_orthonormal(dataset.get("ImageOrientationPatient")) or not dataset.get("ImagePositionPatient"):
        yield "plane", "position or orientation"
    if not dataset.get("FrameOfReferenceUID"):
        yield "present", "FrameOfReferenceUID"


_KINDS: dict[str, Callable[[Dataset], Iterator[Problem]]] = {
    str(SegmentationStorage): _segmentation,
    str(Comprehensive3DSRStorage): _report,
    str(MRImageStorage): _image,
    str(CTImageStorage): _image,
}


def _against(dataset: Dataset, headers: Mapping[str, Dataset]) -> Iterator[Problem]:
    own = [header for header in headers.values() if header.StudyInstanceUID == dataset.StudyInstanceUID]
    if not own:
        yield "same-study", "none of the sources is of its study"
        return
    if any(header.get("PatientID") != dataset.get("PatientID") for header in headers.values()):
        yield "same-study", "Patient ID"
    if any(header.SeriesInstanceUID == dataset.SeriesInstanceUID for header in headers.values()):
        yield "own-series", ""
    if dataset.SOPClassUID == SegmentationStorage:
        yield from _frames_on_sources(dataset, headers)


def _frames_on_sources(dataset: Dataset, headers: Mapping[str, Dataset]) -> Iterator[Problem]:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence") or []:
            for item in derivation.get("SourceImageSequence") or []:
                header = headers.get(str(item.ReferencedSOPInstanceUID))
                if header is None:
                    continue
                stated = header.get("FrameOfReferenceUID")
                if stated and stated != dataset.FrameOfReferenceUID:
                    yield "same-frame-of-reference", ""
                frames = frame_headers(header, max(1, int(header.get("NumberOfFrames") or 1)))
                number = int(item.get("ReferencedFrameNumber") or 1)
                position = frames[number - 1].position if number <= len(frames) else None
                here = group.PlanePositionSequence[0].ImagePositionPatient
                if position is not None and not np.allclose(position, here, atol=POSITION_TOLERANCE_MM, rtol=0):
                    yield "on-source", f"{np.linalg.norm(np.subtract(position, here)):.3f} mm off"


def _model_of(dataset: Dataset) -> tuple[str, str, str] | None:
    """Model name, version and Device UID as the Contributing Equipment says them."""
    for item in dataset.get("ContributingEquipmentSequence") or []:
        if item.get("DeviceUID"):
            return (
                str(item.get("ManufacturerModelName")),
                str(item.get("SoftwareVersions")),
                str(item.DeviceUID),
            )
    return None


def _content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or []:
        yield child
        yield from _content(child)


def _evidence(dataset: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(keyword) or []
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def _is_orthonormal(orientation: object) -> bool:
    if orientation is None:
        return False
    axes = np.asarray(orientation, dtype=np.float64)
    return axes.shape == (6,) and bool(np.allclose(axes.reshape(2, 3) @ axes.reshape(2, 3).T, np.eye(2), atol=1e-4))
