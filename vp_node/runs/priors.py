"""Earlier studies of the patient, for a run that asks about change: those that are here, and those of an archive.

What is fetched is kept as a study in the state `prior`: its volumes are understood like any other's, but no standing
prompt runs on it. When its sender sends it of its own accord later, it becomes an arrival like any other.

Everything is bounded, and nothing that goes wrong here ends a run: it goes on with what has come, and says so.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from vp_node.config import Config, Peer, PriorSource
from vp_node.database.models import PriorFetch, Run, Study, StudyState
from vp_node.dicom.archive import Archive, ArchiveError, Deadline, SeriesMatch, StudyMatch, can_be_asked_for
from vp_node.dicom.arrivals import Mismatch, Sender, read_arrival
from vp_node.dicom.incoming import stream_data_sets_into
from vp_node.dicom.query import DimseArchive
from vp_node.dicom.web import WebArchive
from vp_node.intake.store import INCOMING_FOLDER, store
from vp_node.operations.audit import record
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.priors import number_wanted
from vp_node.runs.context import RunContext, WorkerStopping
from vp_node.runs.locks import holding
from vp_node.runs.understanding import (
    input_digest,
    read_revision,
    store_understanding,
    stored_volumes,
    understand_revision,
)
from vp_node.studies.body import is_other_body_part
from vp_node.studies.exclusions import is_localizer_description
from vp_node.studies.volume_set import takes_any

LOG = logging.getLogger(__name__)

SENDER = "sender"
VOLUME_MODALITIES = ("MR", "CT")
LOCK_SECONDS = 0.2
TRIES_FOR_EACH = 3
"""Candidates that are looked at for each study that is wanted: some hold nothing that the prompt can take."""


@dataclass(frozen=True)
class PriorReport:
    """What the search came to."""

    wanted: int
    attempt: int
    source: str = ""
    here: tuple[str, ...] = ()
    """Studies that were here already, by UID."""
    fetched: tuple[str, ...] = ()
    """Studies that came from the archive, by UID."""
    instances: int = 0
    notes: tuple[str, ...] = ()
    """For the person who asked: what was looked for, what came, and what did not."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PriorReport:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class _Subject:
    """The study that a run is about, as far as its priors depend on it."""

    study_instance_uid: str
    visit: date | None
    patient_key: str
    patient_id: str
    issuer: str
    patient_sex: str
    modalities: frozenset[str]
    calling_ae_title: str
    sender_address: str


@dataclass
class _Search:
    """How far a search has come."""

    definition: PromptDefinition
    wanted: int
    oldest: date
    deadline: Deadline
    budget: int
    dates: set[date] = field(default_factory=set)
    here: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    instances: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return len(self.dates) >= self.wanted


def search_priors(context: RunContext, run_id: str, attempt: int) -> PriorReport | None:
    """Looks for the earlier studies that a run's prompt needs, and fetches them; None where it needs none."""
    settings = context.config.priors
    with context.sessions() as session:
        run = session.get_one(Run, run_id)
        definition = PromptDefinition.from_json(run.prompt_version.definition)
        wanted = number_wanted(definition, settings)
        if wanted == 0 or settings.studies == 0:
            return None
        subject = _subject(session, run, context.data_folder)
    report = PriorReport(wanted, attempt)
    if subject.visit is None:
        return replace(report, notes=("The study has no date: no study can be told to be earlier.",))
    age = definition.priors.maximum_age_days or settings.maximum_age_days
    search = _Search(
        definition,
        wanted,
        subject.visit - timedelta(days=age),
        Deadline.after(settings.time_limit_seconds),
        settings.maximum_instances,
    )
    source = definition.priors.source or settings.source
    try:
        found, archive, peer = _ask_archive(context.config, source, subject, search)
        _take(context, run_id, subject, search, found, archive, peer)
    except ArchiveError as error:
        search.notes.append(f"Earlier studies could not be fetched: {error}.")
        _take_those_here(context, subject, search)
    return replace(
        report,
        source=source,
        here=tuple(search.here),
        fetched=tuple(search.fetched),
        instances=search.instances,
        notes=tuple(search.notes),
    )


def _subject(session: Session, run: Run, data_folder: Path) -> _Subject:
    study = run.study
    volumes = stored_volumes(session, study, data_folder, run.revision)
    visits = [volume.visit for volume in volumes if volume.visit is not None]
    return _Subject(
        study_instance_uid=study.study_instance_uid,
        visit=min(visits) if visits else study.study_date,
        patient_key=study.patient.key,
        patient_id=study.patient.patient_id,
        issuer=study.patient.issuer,
        patient_sex=study.patient_sex,
        modalities=frozenset(volume.modality for volume in volumes),
        calling_ae_title=study.calling_ae_title,
        sender_address=study.sender_address,
    )


def _ask_archive(
    config: Config, name: str, subject: _Subject, search: _Search
) -> tuple[list[StudyMatch], Archive | None, Peer | None]:
    """What the archive knows, latest first, without what cannot be a prior."""
    if not name:
        return [], None, None
    try:
        source = config.prior_source(name)
    except KeyError:
        raise ArchiveError(f"the configuration has no prior source named {name!r}") from None
    if not can_be_asked_for(subject.patient_id) or subject.patient_key == _key_of_study(subject):
        search.notes.append("The study has no Patient ID by which earlier ones could be asked for.")
        return [], None, None
    peer = _peer(config, source, subject)
    archive = _archive(config, source, peer)
    assert subject.visit is not None  # noqa: S101 (the caller made sure)
    found = archive.find_studies(subject.patient_id, search.oldest, subject.visit - timedelta(days=1), search.deadline)
    fitting = [match for match in found if _fits(match, subject, search)]
    fitting.sort(key=lambda match: (match.study_date or date.min, match.study_instance_uid), reverse=True)
    return fitting, archive, peer


def _key_of_study(subject: _Subject) -> str:
    """See `vp_node.studies.headers.patient_key`: what stands for a patient without a usable id."""
    return hashlib.sha256(f"study\0{subject.study_instance_uid}".encode()).hexdigest()


def _peer(config: Config, source: PriorSource, subject: _Subject) -> Peer | None:
    if source.method == "dicomweb":
        return None
    if source.peer != SENDER:
        return config.peer(source.peer)
    peers = [peer for peer in config.peers if peer.ae_title == subject.calling_ae_title]
    if not peers:
        raise ArchiveError("who sent the study is no peer in the configuration")
    return next((peer for peer in peers if peer.host == subject.sender_address), peers[0])


def _archive(config: Config, source: PriorSource, peer: Peer | None) -> Archive:
    incoming = config.node.data_folder / INCOMING_FOLDER
    if peer is None:
        return WebArchive(source, incoming)
    stream_data_sets_into(incoming, config.dicom)
    calling = peer.calls_as or config.dicom.ae_titles[0]
    destination = config.dicom.ae_titles[0] if source.method == "c-move" else None
    return DimseArchive(peer, calling, destination)


def _fits(match: StudyMatch, subject: _Subject, search: _Search) -> bool:
    """Whether a match is an earlier study of the same patient that may hold what is needed.

    The archive was asked for all of it, but some ignore keys that they do not support (PS3.4 C.2.2.1).
    """
    if match.study_instance_uid == subject.study_instance_uid or match.study_date is None:
        return False
    assert subject.visit is not None  # noqa: S101 (the caller made sure)
    if not search.oldest <= match.study_date < subject.visit:
        return False
    if match.patient_id != subject.patient_id or (match.issuer and subject.issuer and match.issuer != subject.issuer):
        return False
    sexes = {match.patient_sex, subject.patient_sex}
    if sexes == {"M", "F"}:
        search.notes.append(f"A study of {match.study_date} was left: it states another sex of the patient.")
        return False
    return not match.modalities or not _modalities(subject, search).isdisjoint(match.modalities)


def _modalities(subject: _Subject, search: _Search) -> frozenset[str]:
    return frozenset(search.definition.priors.modalities) or subject.modalities or frozenset(VOLUME_MODALITIES)


def _take(
    context: RunContext,
    run_id: str,
    subject: _Subject,
    search: _Search,
    found: Sequence[StudyMatch],
    archive: Archive | None,
    peer: Peer | None,
) -> None:
    """Goes through what is here and what the archive knows, latest first, until there is enough."""
    local = _here(context, subject, search)
    remote = {match.study_instance_uid: match for match in found}
    days = {uid: visit for uid, (visit, _) in local.items()}
    days |= {uid: match.study_date for uid, match in remote.items() if match.study_date is not None and uid not in days}
    candidates = sorted(days, key=lambda uid: (days[uid], uid), reverse=True)
    for uid in candidates[: TRIES_FOR_EACH * search.wanted + len(local)]:
        if search.is_done:
            return
        if uid in local and (local[uid][1] or uid not in remote):
            if local[uid][1]:
                search.dates.add(days[uid])
                search.here.append(uid)
            continue
        if archive is not None and _fetch(context, run_id, subject, search, archive, peer, remote[uid]):
            search.dates.add(days[uid])
            search.fetched.append(uid)
    if not search.is_done:
        where = "here or in the archive" if archive is not None else "here, and no archive is configured for it"
        if search.dates:
            search.notes.append(f"Only {len(search.dates)} of {search.wanted} earlier studies were found {where}.")
        else:
            search.notes.append(f"No earlier study was found {where}.")


def _take_those_here(context: RunContext, subject: _Subject, search: _Search) -> None:
    for uid, (visit, usable) in sorted(_here(context, subject, search).items(), key=lambda item: item[1], reverse=True):
        if usable and not search.is_done and uid not in search.fetched:
            search.dates.add(visit)
            search.here.append(uid)


def _here(context: RunContext, subject: _Subject, search: _Search) -> dict[str, tuple[date, bool]]:
    """Earlier studies that the node holds: their visit, and whether the prompt can take something of them."""
    found: dict[str, tuple[date, bool]] = {}
    with context.sessions() as session:
        own = session.scalars(select(Study).where(Study.study_instance_uid == subject.study_instance_uid)).one()
        others = session.scalars(
            select(Study).where(
                Study.patient_id == own.patient_id,
                Study.id != own.id,
                Study.state.in_([StudyState.COMPLETE, StudyState.PRIOR, StudyState.RECEIVING]),
            )
        ).all()
        for other in others:
            volumes = stored_volumes(session, other, context.data_folder, other.understood_revision)
            visits = [volume.visit for volume in volumes if volume.visit is not None]
            visit = min(visits) if visits else other.study_date
            if visit is None or subject.visit is None or not search.oldest <= visit < subject.visit:
                continue
            if other.state == StudyState.RECEIVING:
                search.notes.append(
                    f"A study of {visit} is arriving just now: the run is repeated when it is complete."
                )
                continue
            found[other.study_instance_uid] = (visit, takes_any(volumes, search.definition.selection))
    return found


def _fetch(
    context: RunContext,
    run_id: str,
    subject: _Subject,
    search: _Search,
    archive: Archive,
    peer: Peer | None,
    match: StudyMatch,
) -> bool:
    """Fetches what a study holds for the prompt; True where it has something that the prompt can take."""
    uid = match.study_instance_uid
    with _held(context, f"prior {uid}", search.deadline):
        wanted = [
            series for series in archive.find_series(uid, search.deadline) if _series_fits(series, subject, search)
        ]
        if not wanted:
            search.notes.append(f"A study of {match.study_date} was left: it holds no series that fits the prompt.")
            return False
        came = 0
        with _awaited(context, run_id, uid, peer, search.deadline):
            for series in wanted:
                if series.instances is not None and search.instances + series.instances > search.budget:
                    search.notes.append(
                        f"A series of {match.study_date} was left: the run would fetch more than the "
                        f"{search.budget} instances that priors.maximum_instances allows."
                    )
                    continue
                if context.stopping.is_set():
                    raise WorkerStopping
                try:
                    number = archive.retrieve(series, _Receiver(context, subject, peer, search), search.deadline)
                except _OtherPatient:
                    search.notes.append(f"A study of {match.study_date} was left: its patient has another issuer.")
                    return False
                came += number
                search.instances += number
        usable = _understand(context, uid, subject, search)
    with context.sessions.begin() as session:
        record(session, "node", "prior fetched", uid, run=run_id, instances=came, usable=usable)
    if usable:
        search.notes.append(f"The earlier study of {match.study_date} was fetched ({came} images).")
    else:
        search.notes.append(f"A study of {match.study_date} was fetched and left: no volume of it fits the prompt.")
    return usable


def _series_fits(series: SeriesMatch, subject: _Subject, search: _Search) -> bool:
    needs = search.definition.priors
    if series.modality not in VOLUME_MODALITIES or series.modality not in _modalities(subject, search):
        return False
    if is_localizer_description(series.description):
        return False
    if needs.body_parts:
        if series.body_part.casefold() not in {part.casefold() for part in needs.body_parts}:
            return False
    elif is_other_body_part(series.body_part):
        return False
    folded = series.description.casefold()
    if search.definition.selection.description_contains.casefold() not in folded:
        return False
    return not needs.series_contain or any(word.casefold() in folded for word in needs.series_contain)


class _OtherPatient(ArchiveError):
    """Patient ID and issuer of what came are not those of the study that is asked about."""


class _Receiver:
    """Keeps what an archive sends, as a prior of the patient that was asked for and of nobody else."""

    def __init__(self, context: RunContext, subject: _Subject, peer: Peer | None, search: _Search) -> None:
        self._context = context
        self._subject = subject
        self._search = search
        self._sender = Sender(
            calling_ae_title=peer.ae_title if peer is not None else "",
            called_ae_title=context.config.dicom.ae_titles[0],
            address=peer.host[:64] if peer is not None else "",
            prior=True,
        )
        self._count = 0

    def __call__(self, path: Path, named: tuple[str, str], syntax: UID) -> None:
        self._search.deadline.check()
        self._count += 1
        if self._search.instances + self._count > self._search.budget:
            raise ArchiveError("more instances came than priors.maximum_instances allows")
        try:
            arrival = read_arrival(path, named, syntax, self._context.config.dicom, self._sender)
        except (Mismatch, ValueError) as error:
            raise ArchiveError("it sent an instance that cannot be used") from error
        if arrival.header.patient_key != self._subject.patient_key:
            raise _OtherPatient("it sent an instance of another patient")
        try:
            store(self._context.sessions, self._context.data_folder, arrival)
        except (OSError, SQLAlchemyError) as error:
            raise ArchiveError(f"an instance could not be stored ({type(error).__name__})") from error


@contextmanager
def _awaited(context: RunContext, run_id: str, uid: str, peer: Peer | None, deadline: Deadline) -> Iterator[None]:
    """Lets the listener know what comes by C-MOVE."""
    if peer is None:
        yield
        return
    expires = context.now() + timedelta(seconds=deadline.seconds_left + 30)
    with context.sessions.begin() as session:
        session.execute(delete(PriorFetch).where(PriorFetch.run_id == run_id, PriorFetch.study_instance_uid == uid))
        session.add(
            PriorFetch(
                run_id=run_id,
                study_instance_uid=uid,
                ae_title=peer.ae_title,
                requested_as=peer.calls_as or context.config.dicom.ae_titles[0],
                expires_at=expires,
            )
        )
    try:
        yield
    finally:
        with context.sessions.begin() as session:
            session.execute(delete(PriorFetch).where(PriorFetch.run_id == run_id, PriorFetch.study_instance_uid == uid))


@contextmanager
def _held(context: RunContext, name: str, deadline: Deadline) -> Iterator[None]:
    """Waits for a lock: two runs that need the same study do not fetch it at the same time."""
    while True:
        with holding(context.locks, name) as taken:
            if taken:
                yield
                return
        deadline.check()
        if context.stopping.is_set():
            raise WorkerStopping
        time.sleep(LOCK_SECONDS)


def _understand(context: RunContext, uid: str, subject: _Subject, search: _Search) -> bool:
    """Closes a fetched study and writes down its volumes; True where the prompt can take one of them."""
    with context.sessions.begin() as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid).with_for_update()).one_or_none()
        if study is None or study.state != StudyState.PRIOR:
            return False  # nothing came, or its sender sends it just now: then it is understood when it is complete
        if study.patient.key != subject.patient_key:
            search.notes.append("A study was left: its patient has another issuer.")
            return False
        digest = input_digest(session, study)
        if digest != study.input_digest or study.understood_revision < study.revision:
            study.revision += 1
            study.input_digest = digest
            study.closed_at = context.now()
            study.closed_reason = "fetched as a prior"
        identifier, is_new = study.id, study.understood_revision < study.revision
    if is_new:
        with context.sessions() as session:
            read = read_revision(session, identifier, context.data_folder)
        understanding = understand_revision(read)
        with context.sessions.begin() as session:
            study = session.get_one(Study, identifier)
            if study.state == StudyState.PRIOR and study.revision == read.revision:
                store_understanding(session, study, understanding, context.data_folder)
    with context.sessions() as session:
        study = session.get_one(Study, identifier)
        volumes = stored_volumes(session, study, context.data_folder, study.understood_revision)
        return takes_any(volumes, search.definition.selection)
