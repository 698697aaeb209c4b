"""Keeping what arrives: the file is on the disk and its row is committed before anybody hears that it was stored."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from vp_node.database.models import Association, Instance, Patient, PriorFetch, Result, Series, Study, StudyState, now
from vp_node.operations.audit import record
from vp_node.studies.headers import InstanceHeader

LOG = logging.getLogger(__name__)

INSTANCES_FOLDER = "instances"
INCOMING_FOLDER = "incoming"
RACES = 5
"""How often a row that another association wrote at the same moment is looked up again."""


class Stored(StrEnum):
    NEW = "new"
    IDENTICAL = "identical"
    """The same UID and content was stored before: nothing changed."""
    CONFLICT = "conflict"
    """The same UID with other content: kept beside the first."""


@dataclass(frozen=True)
class Arrival:
    """An instance that has been received into a file of its own, and who brought it."""

    path: Path
    header: InstanceHeader
    digest: str
    patient_id: str
    issuer: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    association_id: int | None = None
    own_result: bool = False
    """By its marks; what the index knows as a result of this node is one without them."""
    move_originator: str = ""
    """Who asked for it by C-MOVE; empty where it was sent of somebody's own accord, or its sender does not say."""
    prior: bool = False
    """It was fetched for a run as a prior."""


def patient_identity(dataset: Dataset) -> tuple[str, str]:
    """Patient ID and its issuer, as stored."""
    return str(dataset.get("PatientID", "") or "")[:64], str(dataset.get("IssuerOfPatientID", "") or "")[:64]


def store(sessions: sessionmaker[Session], data_folder: Path, arrival: Arrival) -> Stored:
    """Moves an arrival into the node's folder and indexes it, durably.

    The file is synced and renamed before the row is committed: a crash in between leaves a file without a row, which
    `vp_node.intake.recovery` removes, never a row without a file.

    Raises:
        OSError: the disk refused; sqlalchemy.exc.SQLAlchemyError: the database did. Nothing is stored then.
    """
    relative = _place(arrival)
    target = data_folder / relative
    for attempt in range(RACES):
        try:
            with sessions.begin() as session:
                return _index(session, arrival, relative, target)
        except IntegrityError:
            # Another association wrote the same patient, study, series or instance first: look again.
            if attempt == RACES - 1:
                raise
    raise AssertionError("unreachable")


def _place(arrival: Arrival) -> Path:
    """Made of hashes alone: nothing that a peer sent becomes part of a path."""
    header = arrival.header
    key = "\0".join([header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid, arrival.digest])
    name = hashlib.sha256(key.encode()).hexdigest()
    return Path(INSTANCES_FOLDER) / name[:2] / name[2:4] / f"{name}.dcm"


def _index(session: Session, arrival: Arrival, relative: Path, target: Path) -> Stored:
    header = arrival.header
    moment = now()
    prior = arrival.prior or _is_awaited_prior(session, arrival, moment)
    study = _study(session, arrival, moment, prior)
    series = _series(session, study, header, moment)
    known = session.scalars(
        select(Instance).where(Instance.series_id == series.id, Instance.sop_instance_uid == header.sop_instance_uid)
    ).all()
    if any(instance.digest == arrival.digest for instance in known):
        _count(session, arrival)
        if not target.is_file():  # it was lost: its place is made of its UIDs and digest, and is the same
            move_durably(arrival.path, target)
            record(session, "node", "lost file restored", header.sop_instance_uid, study=header.study_instance_uid)
        if study.state == StudyState.PRIOR and not prior:
            _reopen(session, study, arrival, moment)
        return Stored.IDENTICAL
    own = arrival.own_result or _is_known_result(session, header)
    move_durably(arrival.path, target)
    session.add(
        Instance(
            series_id=series.id,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            path=str(relative),
            digest=arrival.digest,
            size=target.stat().st_size,
            header=replace(header, path=target, digest=arrival.digest).to_json(),
            own_result=own,
            received_at=moment,
            association_id=arrival.association_id,
        )
    )
    _count(session, arrival)
    series.last_received_at = moment
    if prior and study.state == StudyState.PRIOR:
        study.last_received_at = moment
    elif not own:
        _reopen(session, study, arrival, moment)
    elif study.revision == 0 and study.state == StudyState.RECEIVING:
        study.last_received_at = moment
    if known:
        LOG.warning("SOP Instance %s came again with other content: both are kept.", header.sop_instance_uid)
        record(
            session,
            arrival.calling_ae_title,
            "instance conflict",
            header.sop_instance_uid,
            study=header.study_instance_uid,
        )
    return Stored.CONFLICT if known else Stored.NEW


def _is_known_result(session: Session, header: InstanceHeader) -> bool:
    return session.scalar(select(Result.id).where(Result.sop_instance_uid == header.sop_instance_uid)) is not None


def _is_awaited_prior(session: Session, arrival: Arrival, moment: datetime) -> bool:
    """Whether an archive sends this because a run of this node asked for it by C-MOVE.

    The archive names who asked (PS3.7 9.1.1.1.8); one that does not is known by its own AE title.
    """
    awaited = session.scalars(
        select(PriorFetch).where(
            PriorFetch.study_instance_uid == arrival.header.study_instance_uid, PriorFetch.expires_at > moment
        )
    ).all()
    who = arrival.move_originator
    return any(who == item.requested_as or (not who and item.ae_title == arrival.calling_ae_title) for item in awaited)


def _study(session: Session, arrival: Arrival, moment: datetime, prior: bool) -> Study:
    header = arrival.header
    # Locked, where the database locks rows: the study must not be closed between this look at its state and the commit.
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == header.study_instance_uid).with_for_update()
    ).one_or_none()
    if study is not None:
        return study
    patient = session.scalars(select(Patient).where(Patient.key == header.patient_key)).one_or_none()
    if patient is None:
        patient = Patient(key=header.patient_key, patient_id=arrival.patient_id, issuer=arrival.issuer)
        session.add(patient)
        session.flush()
    study = Study(
        study_instance_uid=header.study_instance_uid,
        patient_id=patient.id,
        study_date=_date(header.study_date),
        description=header.study_description[:64],
        patient_sex=header.patient_sex[:16],
        patient_age_years=age_in_years(header.patient_age),
        institution=header.institution_name[:64],
        calling_ae_title=arrival.calling_ae_title,
        called_ae_title=arrival.called_ae_title,
        sender_address=arrival.address,
        state=StudyState.PRIOR if prior else StudyState.RECEIVING,
        first_received_at=moment,
        last_received_at=moment,
    )
    session.add(study)
    session.flush()
    return study


def _series(session: Session, study: Study, header: InstanceHeader, moment: datetime) -> Series:
    series = session.scalars(
        select(Series).where(Series.study_id == study.id, Series.series_instance_uid == header.series_instance_uid)
    ).one_or_none()
    if series is None:
        series = Series(
            study_id=study.id,
            series_instance_uid=header.series_instance_uid,
            modality=header.modality[:16],
            number=header.series_number,
            description=header.series_description[:64],
            body_part=header.body_part[:16],
            protocol=header.protocol_name[:64],
            station=header.station_name[:16],
            last_received_at=moment,
        )
        session.add(series)
        session.flush()
    return series


def _reopen(session: Session, study: Study, arrival: Arrival, moment: datetime) -> None:
    """What arrives after a study was closed makes its next revision."""
    study.last_received_at = moment
    study.calling_ae_title = arrival.calling_ae_title
    study.called_ae_title = arrival.called_ae_title
    study.sender_address = arrival.address
    if study.state != StudyState.RECEIVING:
        record(session, "node", "study reopened", study.study_instance_uid, revision=study.revision)
        study.state = StudyState.RECEIVING
        study.first_received_at = moment
        study.closed_at = None


def _count(session: Session, arrival: Arrival) -> None:
    if arrival.association_id is not None:
        association = session.get(Association, arrival.association_id)
        if association is not None:
            association.instances += 1


def move_durably(source: Path, target: Path) -> None:
    """Renames a synced file to its place; the name is on the disk when this returns."""
    _make_folder(target.parent)
    _sync(source)
    source.replace(target)
    _sync(target.parent)


def _make_folder(folder: Path) -> None:
    """With its parents; the names of those that are new are on the disk when this returns."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()  # noqa: DTZ007 (DA has no zone)
    except ValueError:
        return None


_AGE = re.compile(r"(\d{1,3})([DWMY])")
_AGE_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def age_in_years(text: str) -> float | None:
    """Years of an Age String (PS3.5 6.2, AS): `034Y`, `006M`."""
    match = _AGE.fullmatch(text.strip())
    return int(match.group(1)) * _AGE_YEARS[match.group(2)] if match else None
