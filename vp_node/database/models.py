"""The tables. States are words that an admin reads; times are timezone-aware and in UTC.

Changes of a table need a migration in `vp_node/database/migrations`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, MetaData, String, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import DateTime, TypeDecorator


def now() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware time that stays aware on SQLite, which stores none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone must not enter the database.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        list[str]: JSON,
    }


class StudyState(StrEnum):
    RECEIVING = "receiving"
    COMPLETE = "complete"
    HELD = "held"
    """The force limit passed and the configuration says to wait for a person."""
    DISCARDED = "discarded"
    OWN_RESULTS = "own results"
    """Holds nothing but what this node made."""
    PRIOR = "prior"
    """Fetched for a run as an earlier study of its patient: no standing prompt runs on it."""


class RunState(StrEnum):
    SCHEDULED = "scheduled"
    """Waits for its time window."""
    QUEUED = "queued"
    FETCHING = "fetching"
    """Asks an archive for the patient's earlier studies."""
    GATHERING = "gathering"
    INFERRING = "inferring"
    ENCODING = "encoding"
    CHECKING = "checking"
    SENDING = "sending"
    DONE = "done"
    REFUSED = "refused"
    """The model does not understand the prompt or lacks what it asks for; the report says so."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """A later revision of the study was run instead, before this run began."""


FINAL_RUN_STATES = frozenset(
    {RunState.DONE, RunState.REFUSED, RunState.FAILED, RunState.CANCELLED, RunState.SUPERSEDED}
)


class DeliveryState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    """The destination has promised to keep it (storage commitment)."""
    SET_ASIDE = "set aside"
    """Not for this destination: it takes the run's results in another form, or not this kind of object."""
    DEAD = "dead"
    """Refused for good, or out of attempts: an admin can see it and resend."""


class Patient(Base):
    __tablename__ = "patients"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of issuer and Patient ID: what the rest of the node and its logs use."""
    patient_id: Mapped[str] = mapped_column(String(64))
    issuer: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)

    studies: Mapped[list[Study]] = relationship(back_populates="patient")


class Study(Base):
    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), index=True)
    study_date: Mapped[date | None] = mapped_column(index=True)
    description: Mapped[str] = mapped_column(String(64), default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    patient_age_years: Mapped[float | None]
    institution: Mapped[str] = mapped_column(String(64), default="")
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    """Of the association that brought the latest instance: where results go back to."""
    called_ae_title: Mapped[str] = mapped_column(String(16), default="")
    sender_address: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16), default=StudyState.RECEIVING, index=True)
    revision: Mapped[int] = mapped_column(default=0)
    """Counts how often the study was closed; what arrives later makes the next revision."""
    understood_revision: Mapped[int] = mapped_column(default=0, server_default="0")
    """The latest revision whose volumes are written down: runs of a later one wait."""
    input_digest: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 over the digests of the instances that the revision holds."""
    closed_reason: Mapped[str] = mapped_column(String(64), default="")
    flags: Mapped[list[str]] = mapped_column(default=list)
    first_received_at: Mapped[datetime] = mapped_column(default=now)
    last_received_at: Mapped[datetime] = mapped_column(default=now, index=True)
    closed_at: Mapped[datetime | None]

    patient: Mapped[Patient] = relationship(back_populates="studies")
    series: Mapped[list[Series]] = relationship(back_populates="study")
    runs: Mapped[list[Run]] = relationship(back_populates="study")


class Series(Base):
    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    modality: Mapped[str] = mapped_column(String(16), default="")
    number: Mapped[int | None]
    description: Mapped[str] = mapped_column(String(64), default="")
    body_part: Mapped[str] = mapped_column(String(16), default="")
    protocol: Mapped[str] = mapped_column(String(64), default="")
    station: Mapped[str] = mapped_column(String(16), default="")
    last_received_at: Mapped[datetime] = mapped_column(default=now)

    study: Mapped[Study] = relationship(back_populates="series")
    instances: Mapped[list[Instance]] = relationship(back_populates="series")


class Instance(Base):
    """One received object. The same SOP Instance UID with other content is kept as a further row."""

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("series_id", "sop_instance_uid", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(255), unique=True)
    """Relative to the node's data folder; made from hashes, never from what a peer sent."""
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the data set as received."""
    size: Mapped[int] = mapped_column(BigInteger)
    header: Mapped[dict[str, Any]]
    """`vp_node.studies.headers.InstanceHeader` as JSON."""
    own_result: Mapped[bool] = mapped_column(default=False)
    """Made by this node: kept, never processed."""
    received_at: Mapped[datetime] = mapped_column(default=now)
    association_id: Mapped[int | None] = mapped_column(ForeignKey("associations.id"))

    series: Mapped[Series] = relationship(back_populates="instances")


class Association(Base):
    """An association that a peer opened; a study is not whole while its sender's is open."""

    __tablename__ = "associations"

    id: Mapped[int] = mapped_column(primary_key=True)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    called_ae_title: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime] = mapped_column(default=now)
    closed_at: Mapped[datetime | None] = mapped_column(index=True)
    ended_by: Mapped[str] = mapped_column(String(16), default="")
    """`released`, `aborted`, `restart` or empty while it is open."""
    instances: Mapped[int] = mapped_column(default=0)


class Volume(Base):
    """A volume that one revision of a study was understood to hold."""

    __tablename__ = "volumes"
    __table_args__ = (UniqueConstraint("study_id", "revision", "identifier"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    revision: Mapped[int]
    identifier: Mapped[str] = mapped_column(String(64), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    visit: Mapped[date | None]
    description: Mapped[dict[str, Any]]
    """`vp_node.studies.model.SourceVolume` as JSON."""


class VolumeRule(Base):
    """A correction of what volumes are, for headers that say it wrongly or not at all."""

    __tablename__ = "volume_rules"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    definition: Mapped[dict[str, Any]]
    """`vp_node.studies.corrections.VolumeRule` as JSON."""
    position: Mapped[int] = mapped_column(default=100)
    """Lower is asked first; the first rule that fits corrects the volume."""
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)


class PriorFetch(Base):
    """A study that a run is fetching as a prior: what comes of it by C-MOVE is no new arrival."""

    __tablename__ = "prior_fetches"
    __table_args__ = (UniqueConstraint("run_id", "study_instance_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(String(36))
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    ae_title: Mapped[str] = mapped_column(String(16))
    """Of the archive that sends it."""
    requested_as: Mapped[str] = mapped_column(String(16))
    """The AE title under which the node asked."""
    expires_at: Mapped[datetime]
    """Later, what comes of the study is an arrival like any other."""


class SetAsideSeries(Base):
    """Instances of one revision of a study that are no volume, and why."""

    __tablename__ = "set_aside"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    revision: Mapped[int]
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    sop_instance_uids: Mapped[list[str]]


class Prompt(Base):
    __tablename__ = "prompts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    owner: Mapped[str] = mapped_column(String(64))
    standing: Mapped[bool] = mapped_column(default=True)
    """False: asked once, for named studies (ad hoc)."""
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)

    versions: Mapped[list[PromptVersion]] = relationship(
        back_populates="prompt", order_by="PromptVersion.number", cascade="all, delete-orphan"
    )


class PromptVersion(Base):
    """What a prompt said at one time. Never changed once written."""

    __tablename__ = "prompt_versions"
    __table_args__ = (UniqueConstraint("prompt_id", "number"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), index=True)
    number: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    definition: Mapped[dict[str, Any]]
    """`vp_node.prompts.definition.PromptDefinition` as JSON: conditions, series selection, priority, destinations…"""
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)

    prompt: Mapped[Prompt] = relationship(back_populates="versions")


class Run(Base):
    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """UUIDv5 of (study, prompt version, model hash, input digest): asking twice is asking once."""
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    revision: Mapped[int]
    prompt_version_id: Mapped[str] = mapped_column(ForeignKey("prompt_versions.id"), index=True)
    model_hash: Mapped[str] = mapped_column(String(64))
    input_digest: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default=RunState.QUEUED, index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it ended as it did, in words for the person who asked."""
    priority: Mapped[int] = mapped_column(default=100)
    """Lower goes first."""
    not_before: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(default=1)
    """Counts retries by hand; the engine's own retries of a step are not counted."""
    requested_by: Mapped[str] = mapped_column(String(64), default="")
    """`standing prompt`, or the name of the person who asked."""
    supersedes_run_id: Mapped[str | None] = mapped_column(String(36))
    """The run on the study's earlier revision, or with the earlier model, that this one follows."""
    choices: Mapped[list[Any]] = mapped_column(default=list)
    """Which volumes were taken, which not, and why; empty until they are chosen."""
    priors: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """What the search for earlier studies came to: `vp_node.runs.priors.PriorReport` as JSON; empty before."""
    task: Mapped[str] = mapped_column(String(64), default="")
    program: Mapped[str] = mapped_column(Text, default="")
    outcome_folder: Mapped[str] = mapped_column(String(255), default="")
    """Relative to the node's data folder."""
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    study: Mapped[Study] = relationship(back_populates="runs")
    prompt_version: Mapped[PromptVersion] = relationship()
    results: Mapped[list[Result]] = relationship(back_populates="run")


class Result(Base):
    __tablename__ = "results"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    """`seg`, `sr`, `derived`, `capture` or `pdf`."""
    form: Mapped[str] = mapped_column(String(16), default="")
    """Of segmentations and of the report that refers to them: `binary`, `labelmap` or `fractional`; empty: of none."""
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(64))
    findings: Mapped[list[Any]] = mapped_column(default=list)
    """What the check before sending said."""
    created_at: Mapped[datetime] = mapped_column(default=now)

    run: Mapped[Run] = relationship(back_populates="results")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="result")


class Delivery(Base):
    __tablename__ = "deliveries"
    __table_args__ = (UniqueConstraint("result_id", "destination"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    destination: Mapped[str] = mapped_column(String(64))
    """Name of a peer in the configuration."""
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.PENDING, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str] = mapped_column(Text, default="")
    next_attempt_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    transaction_uid: Mapped[str] = mapped_column(String(64), default="", index=True)
    """Of the storage commitment that was last asked for; empty: none is asked."""
    commitment_due_at: Mapped[datetime | None]
    """When commitment is asked for (again); None: it was given, given up, or is not asked."""
    commitment_attempts: Mapped[int] = mapped_column(default=0)
    committed_at: Mapped[datetime | None]

    result: Mapped[Result] = relationship(back_populates="deliveries")


class AuditEvent(Base):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    actor: Mapped[str] = mapped_column(String(64))
    """A person's name, a peer's AE title, or `node`."""
    action: Mapped[str] = mapped_column(String(64), index=True)
    """`association refused`, `study closed`, `prompt changed`, `run queued`, `result sent`…"""
    subject: Mapped[str] = mapped_column(String(128), default="")
    """A UID, a run's id, a prompt's name: never a patient's data."""
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
