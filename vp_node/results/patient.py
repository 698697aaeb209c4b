"""The Patient and Study modules of a result (PS3.3 C.7.1.1, C.7.2.1): copied from the study that was asked about."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

COPIED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "OtherPatientIDsSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ProcedureCodeSequence",
    "SpecificCharacterSet",
)
"""What is copied as it stands."""
TYPE_2 = (
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

_AGE = re.compile(r"\d{3}[DWMY]")
"""Age String (PS3.5 6.2)."""


def copy_patient_and_study(header: Dataset, dataset: Dataset) -> None:
    """Copies the patient and the study faithfully; Type 2 elements that the source lacks are left empty."""
    for keyword in COPIED:
        if keyword in header:
            dataset[keyword] = header[keyword]
    if not _AGE.fullmatch(str(dataset.get("PatientAge") or "")):
        # Written otherwise it would make the result invalid; empty it may not be.
        dataset.pop("PatientAge", None)
    for keyword in TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def leave_patient_out(dataset: Dataset) -> None:
    """Empties what highdicom would judge: a value that it dislikes it refuses, or quotes in a warning.

    `copy_patient_and_study` puts the true values into the object afterwards.
    """
    for keyword in TYPE_2:
        setattr(dataset, keyword, "")
