"""The check before sending: rules as data (`rules.json`), and what no table can say. Works on anyone's SEG and SR."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

Severity = Literal["error", "warning"]
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
STRUCTURED_REPORTS = ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.22")
LONGEST_UID = 64
NAMELESS = ("CONTAINER", "IMAGE", "SCOORD", "SCOORD3D", "COMPOSITE")
"""Value types whose concept name is optional (PS3.3 C.17.3)."""
MEGABYTE = 1e6


@dataclass(frozen=True)
class Finding:
    """What the check says of an object. The message quotes attributes' names and codes, never a patient's data."""

    severity: Severity
    rule: str
    message: str


@cache
def _rules() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "rules.json").read_text(encoding="utf-8"))
    return found


def check(path: Path) -> Sequence[Finding]:
    """Holds a file against the rules; an empty result means that it may be sent."""
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, EOFError, OSError, ValueError, struct.error):
        return (Finding("error", "readable", "The file is no readable DICOM object."),)
    findings = list(_check_attributes(dataset, path.stat().st_size))
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class == SEGMENTATION and not findings:
        findings += _check_segmentation(dataset)
    if sop_class in STRUCTURED_REPORTS and not findings:
        findings += _check_report(dataset)
    return tuple(findings)


def _check_attributes(dataset: Dataset, size: int) -> Iterator[Finding]:
    rules = _rules()
    own = rules.get(str(dataset.get("SOPClassUID", "")))
    if own is None:
        yield Finding("warning", "known class", "There are no rules for this SOP class: only the general ones apply.")
        own = {}
    for keyword in (*rules["any"]["required"], *own.get("required", ())):
        if keyword not in dataset or dataset[keyword].is_empty:
            yield Finding("error", "required attribute", f"{keyword} is missing or empty.")
    for keyword in rules["any"]["present"]:
        if keyword not in dataset:
            yield Finding("error", "present attribute", f"{keyword} is missing; it may be empty.")
    for keyword, allowed in own.get("values", {}).items():
        if keyword in dataset and str(dataset[keyword].value) not in allowed:
            yield Finding("error", "value", f"{keyword} is none of {', '.join(allowed)}.")
    for element in dataset.iterall():
        if element.VR == "UI" and element.value:
            for value in element.value if element.VM > 1 else [element.value]:
                if not UID(str(value)).is_valid or len(str(value)) > LONGEST_UID:
                    yield Finding("error", "valid UID", f"{element.keyword or element.tag} holds an invalid UID.")
        if element.keyword == "CodeValue" and len(str(element.value)) > 16:
            yield Finding("error", "code length", f"The code {element.value} is longer than 16 characters.")
    if size > rules["any"]["largest_megabytes"] * MEGABYTE:
        yield Finding("error", "size", f"The object is larger than {rules['any']['largest_megabytes']} MB.")
    if str(dataset.get("SOPInstanceUID", "")) != str(dataset.file_meta.get("MediaStorageSOPInstanceUID", "")):
        yield Finding("error", "file meta", "File meta information and data set name different instances.")


def _check_segmentation(dataset: Dataset) -> Iterator[Finding]:
    rules = _rules()[SEGMENTATION]
    numbers = [int(segment.get("SegmentNumber", 0)) for segment in dataset.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)) and dataset.SegmentationType != "LABELMAP":
        yield Finding("error", "segment numbers", "Segments are not numbered 1, 2, 3… in their order.")
    for number, segment in zip(numbers, dataset.SegmentSequence, strict=True):
        for keyword in rules["segment"]:
            if keyword not in segment or segment[keyword].is_empty:
                severity: Severity = "warning" if keyword.startswith("Tracking") else "error"
                yield Finding(severity, "segment attribute", f"Segment {number} has no {keyword}.")
    segments = zip(numbers, dataset.SegmentSequence, strict=True)
    tracking = [str(segment.get("TrackingUID", number)) for number, segment in segments]
    if len(set(tracking)) != len(tracking):
        yield Finding("error", "tracking UIDs", "Two segments have one Tracking UID.")
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    if len(frames) != int(dataset.NumberOfFrames):
        yield Finding("error", "frames", "Number of Frames and functional groups differ.")
        return
    yield from _check_frames(dataset, frames, numbers)


def _check_frames(dataset: Dataset, frames: Sequence[Dataset], numbers: Sequence[int]) -> Iterator[Finding]:
    seen = set()
    for frame in frames:
        identification = frame.get("SegmentIdentificationSequence")
        if identification:
            number = int(identification[0].ReferencedSegmentNumber)
            seen.add(number)
            if number not in numbers:
                yield Finding(
                    "error", "segment reference", f"A frame refers to segment {number}, which does not exist."
                )
        if not frame.get("PlanePositionSequence") and not frame.get("PlanePositionSlideSequence"):
            yield Finding("error", "plane position", "A frame has no plane position.")
    missing = [number for number in numbers if number not in seen] if seen else []
    if missing:
        yield Finding("error", "empty segment", f"Segments without a frame: {', '.join(map(str, missing))}.")
    pixels = dataset.pixel_array
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    empty = int((~pixels.reshape(len(pixels), -1).any(axis=1)).sum())
    if empty == len(pixels):
        yield Finding("error", "empty", "No frame holds a pixel: viewers stop at such an object.")
    elif empty:
        yield Finding("warning", "empty frames", f"{empty} of {len(pixels)} frames are empty.")
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    used = {
        str(source.ReferencedSOPInstanceUID)
        for frame in frames
        for derivation in frame.get("DerivationImageSequence", [])
        for source in derivation.get("SourceImageSequence", [])
    }
    if used - referenced:
        yield Finding("error", "references", "Frames refer to images that Referenced Series Sequence does not list.")
    if pixels.dtype == np.uint8 and dataset.SegmentationType == "BINARY" and int(pixels.max()) > 1:
        yield Finding("error", "binary", "A binary segmentation holds values above 1.")


def _check_report(dataset: Dataset) -> Iterator[Finding]:
    template = dataset.ContentTemplateSequence[0]
    if str(template.get("TemplateIdentifier", "")) != "1500":
        yield Finding("warning", "template", "The root is not TID 1500.")
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for sequence in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(sequence, [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    for item in _content(dataset):
        for reference in item.get("ReferencedSOPSequence", []):
            if str(reference.ReferencedSOPInstanceUID) not in listed:
                yield Finding("error", "evidence", "The content refers to an instance that the evidence does not list.")
        if item.get("ValueType") == "NUM" and not item.get("MeasuredValueSequence"):
            yield Finding("warning", "measured value", "A measurement has no value.")
        nameless = item.get("ValueType") in NAMELESS
        if not nameless and not item.get("ConceptNameCodeSequence"):
            yield Finding("error", "concept name", "A content item has no concept name.")


def _content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _content(child)
