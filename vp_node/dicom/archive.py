"""What the node asks an archive for a patient's earlier studies, whichever way it asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID

from vp_node.studies.dates import parse_date

MATCHES_AT_MOST = 500
"""Of one query: a patient with more studies than this is no patient, but a phantom or a missing key."""


class ArchiveError(Exception):
    """The archive did not do what it was asked; the message says what happened, without patient data."""


@dataclass(frozen=True)
class StudyMatch:
    study_instance_uid: str
    study_date: date | None
    modalities: tuple[str, ...]
    """Modalities in Study (0008,0061); empty where the archive does not say."""
    patient_id: str
    issuer: str
    patient_sex: str


@dataclass(frozen=True)
class SeriesMatch:
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    body_part: str
    description: str
    instances: int | None
    """None where the archive does not say."""


Receive = Callable[[Path, tuple[str, str], UID], None]
"""Keeps a fetched file, given its SOP Class and SOP Instance UID and its transfer syntax; raises where it cannot."""


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.at - time.monotonic())

    def check(self) -> None:
        """Raises ArchiveError when it has passed."""
        if self.seconds_left <= 0:
            raise ArchiveError("the time limit passed")


class Archive(Protocol):
    """A place where earlier studies are. Every method raises ArchiveError, also when the deadline passes."""

    def find_studies(self, patient_id: str, first: date, last: date, deadline: Deadline) -> list[StudyMatch]:
        """The studies of a patient with a study date between two days, both included."""

    def find_series(self, study_instance_uid: str, deadline: Deadline) -> list[SeriesMatch]: ...

    def retrieve(self, series: SeriesMatch, receive: Receive, deadline: Deadline) -> int:
        """Fetches one series; returns how many instances came."""


def can_be_asked_for(patient_id: str) -> bool:
    """Whether a Patient ID may stand in a query: a wildcard in it would find other patients (PS3.4 C.2.2.2.4)."""
    return bool(patient_id.strip()) and not any(character in patient_id for character in "*?\\")


def study_match(found: Dataset) -> StudyMatch | None:
    """A match of study level; None where it names no study."""
    uid = _text(found, "StudyInstanceUID")
    if not uid:
        return None
    modalities = found.get("ModalitiesInStudy") or ()
    if isinstance(modalities, str):
        modalities = (modalities,)
    return StudyMatch(
        study_instance_uid=uid,
        study_date=parse_date(_text(found, "StudyDate")),
        modalities=tuple(str(value).strip() for value in modalities if str(value).strip()),
        patient_id=_text(found, "PatientID"),
        issuer=_text(found, "IssuerOfPatientID"),
        patient_sex=_text(found, "PatientSex"),
    )


def series_match(found: Dataset, study_instance_uid: str) -> SeriesMatch | None:
    """A match of series level; None where it names no series."""
    uid = _text(found, "SeriesInstanceUID")
    if not uid:
        return None
    instances = _text(found, "NumberOfSeriesRelatedInstances")
    return SeriesMatch(
        study_instance_uid=study_instance_uid,
        series_instance_uid=uid,
        modality=_text(found, "Modality"),
        body_part=_text(found, "BodyPartExamined"),
        description=_text(found, "SeriesDescription"),
        instances=int(instances) if instances.isdigit() else None,
    )


def study_query(patient_id: str, first: date, last: date) -> dict[str, str]:
    """Keys of a query of study level, by keyword; empty ones are asked for (PS3.4 C.6.2.1)."""
    return {
        "PatientID": patient_id,
        "IssuerOfPatientID": "",
        "PatientSex": "",
        "StudyInstanceUID": "",
        "StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}",
        "ModalitiesInStudy": "",
    }


def series_query(study_instance_uid: str) -> dict[str, str]:
    """Keys of a query of series level."""
    return {
        "StudyInstanceUID": study_instance_uid,
        "SeriesInstanceUID": "",
        "Modality": "",
        "SeriesDescription": "",
        "BodyPartExamined": "",
        "NumberOfSeriesRelatedInstances": "",
    }


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")
