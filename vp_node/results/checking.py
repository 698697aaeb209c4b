"""Holds objects against the rules for results (`rules.json`, `attributes.json`); one that breaks one is not sent."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from vp_node.results.codes import PRIVATE_SCHEME
from vp_node.results.rules import images
from vp_node.results.rules.attributes import attributes, house_attributes
from vp_node.results.rules.codes import codes
from vp_node.results.rules.problems import Problem
from vp_node.results.rules.references import against_sources, within_run
from vp_node.results.rules.report import house_report, report
from vp_node.results.rules.segmentation import house_segmentation, segmentation

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A rule that an object breaks, or nearly."""

    severity: Severity
    rule: str
    message: str


@dataclass(frozen=True)
class _Kind:
    table: str
    """In `attributes.json`."""
    standard: Callable[[Dataset], Iterator[Problem]]
    house: Callable[[Dataset], Iterator[Problem]]


_SEGMENTATION = _Kind("segmentation", segmentation, house_segmentation)
_KINDS: dict[str, _Kind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": _SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.66.7": _SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.88.34": _Kind("report", report, lambda dataset: house_report(dataset, model_of(dataset))),
    "1.2.840.10008.5.1.4.1.1.4": _Kind("mr image", images.image, images.house_image),
    "1.2.840.10008.5.1.4.1.1.2": _Kind("ct image", images.image, images.house_image),
    "1.2.840.10008.5.1.4.1.1.7": _Kind("page", images.page, images.house_page),
    "1.2.840.10008.5.1.4.1.1.104.1": _Kind("document", images.document, images.house_page),
}
"""SOP classes that the node makes. SR of the other classes that hold TID 1500 are judged as it is."""
_REPORT = _KINDS["1.2.840.10008.5.1.4.1.1.88.34"]
_KINDS |= {"1.2.840.10008.5.1.4.1.1.88.22": _REPORT, "1.2.840.10008.5.1.4.1.1.88.33": _REPORT}


@cache
def rules() -> dict[str, dict[str, Any]]:
    """`rules.json`: severity, text and source of each rule, and whether it is one of this house alone."""
    loaded: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "rules.json").read_text(encoding="utf-8"))
    return loaded


def check_file(path: Path) -> list[Finding]:
    """What is wrong with a file, as far as it can be seen in it alone. Empty: nothing.

    Rules of this house (IHE AIR, notices, tracking) are warnings for objects that another program made.
    """
    dataset, findings = _read(path)
    return findings if dataset is None else _findings(_alone(dataset), is_own(dataset))


def check_with_sources(path: Path, sources: Mapping[str, Path]) -> list[Finding]:
    """`check_file`, and whether the object fits the images that it was made from.

    Args:
        path: of the object.
        sources: path of each source image by SOP Instance UID; those that are not given are not compared.
    """
    dataset, findings = _read(path)
    if dataset is None:
        return findings
    headers = _headers(sources)
    return _findings(
        [*_alone(dataset), *_judged(lambda item: against_sources(item, headers), dataset)], is_own(dataset)
    )


def check_objects(paths: Sequence[Path], sources: Mapping[str, Path]) -> dict[Path, list[Finding]]:
    """Everything that can be said of the objects of one run before they leave: `check_with_sources` for each, and
    whether what they say of each other and of the sources is so.

    Args:
        sources: path of every image that the run took, by SOP Instance UID.
    """
    headers = _headers(sources)
    read = {path: _read(path) for path in paths}
    by_uid = {str(item.get("SOPInstanceUID")): item for item, _ in read.values() if item is not None}
    found: dict[Path, list[Finding]] = {}
    for path, (dataset, findings) in read.items():
        if dataset is None:
            found[path] = findings
            continue
        problems = [
            *_alone(dataset),
            *_judged(lambda item: against_sources(item, headers), dataset),
            *_judged(lambda item: within_run(item, by_uid, headers), dataset),
        ]
        found[path] = _findings(problems, is_own(dataset))
    twice = len(paths) - len(by_uid)
    if twice > 0 and all(item is not None for item, _ in read.values()):
        found[paths[-1]].append(_finding("uid-twice", f"{twice} times", own=True))
    return found


def is_own(dataset: Dataset) -> bool:
    """Whether an object says that a node of this project made it."""
    schemes = dataset.get("CodingSchemeIdentificationSequence") or []
    return any(item.get("CodingSchemeDesignator") == PRIVATE_SCHEME for item in schemes)


def model_of(dataset: Dataset) -> tuple[str, str, str] | None:
    """Model name, version and Device UID as the Contributing Equipment says them."""
    for item in dataset.get("ContributingEquipmentSequence") or []:
        if item.get("DeviceUID"):
            return (str(item.get("ManufacturerModelName")), str(item.get("SoftwareVersions")), str(item.DeviceUID))
    return None


def _read(path: Path) -> tuple[Dataset | None, list[Finding]]:
    """The data set, or why it cannot be judged."""
    try:
        dataset = dcmread(path)
        kind = str(dataset.get("SOPClassUID", ""))
    except (InvalidDicomError, EOFError, OSError, ValueError, struct.error) as error:
        return None, [_finding("readable", type(error).__name__, own=True)]
    if kind not in _KINDS:
        return None, [_finding("class", "it is another", own=True)]
    return dataset, []


def _headers(sources: Mapping[str, Path]) -> dict[str, Dataset]:
    """Each file is read once, also where it holds many frames."""
    return {uid: dcmread(path, stop_before_pixels=True) for uid, path in sources.items()}


def _alone(dataset: Dataset) -> Iterator[Problem]:
    kind = _KINDS[str(dataset.SOPClassUID)]
    yield from _judged(lambda item: attributes(item, kind.table), dataset)
    yield from _judged(codes, dataset)
    yield from _judged(kind.standard, dataset)
    yield from _judged(house_attributes, dataset)
    yield from _judged(kind.house, dataset)
    yield from _judged(_same_equipment, dataset)


def _same_equipment(dataset: Dataset) -> Iterator[Problem]:
    model = model_of(dataset)
    for item in dataset.get("SegmentSequence") or []:
        for algorithm in item.get("SegmentationAlgorithmIdentificationSequence") or []:
            if model and (algorithm.get("AlgorithmName"), algorithm.get("AlgorithmVersion")) != model[:2]:
                yield "same-equipment", f"segment {item.SegmentNumber}"


def _judged(rule: Callable[[Dataset], Iterable[Problem]], dataset: Dataset) -> list[Problem]:
    """What a rule says; an object that is too broken to be judged breaks one by that."""
    problems: list[Problem] = []
    try:
        for problem in rule(dataset):
            problems.append(problem)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problems.append(("malformed", type(error).__name__))
    return problems


def _findings(problems: Iterable[Problem], own: bool) -> list[Finding]:
    """Each once, in order."""
    return [_finding(rule, detail, own=own) for rule, detail in dict.fromkeys(problems)]


def _finding(rule: str, detail: str, *, own: bool) -> Finding:
    entry = rules()[rule]
    lenient = entry["severity"] == "warning" or (entry.get("house", False) and not own)
    return Finding(
        "warning" if lenient else "error", rule, f"{entry['message']} ({detail})" if detail else entry["message"]
    )
