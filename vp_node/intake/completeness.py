"""When is a study whole? Nobody says so on the wire: it is what a quiet sender suggests."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from vp_node.config import CompletenessSection, Config
from vp_node.database.models import Association, Instance, Series, Study, StudyState
from vp_node.operations.audit import record

LOG = logging.getLogger(__name__)

FORCED = "forced"
"""Flag of a study that never fell quiet and was closed at the force limit."""


@dataclass(frozen=True)
class StudyFacts:
    """What the decision looks at. All times are timezone-aware."""

    first_received_at: datetime
    """Of the revision that is arriving."""
    last_received_at: datetime
    series_last_received_at: tuple[datetime, ...]
    sender_is_connected: bool


class Verdict(StrEnum):
    WAIT = "wait"
    CLOSE = "close"
    FORCE = "force"


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    reason: str


def decide(facts: StudyFacts, settings: CompletenessSection, now: datetime) -> Decision:
    """Whether a study is whole: quiet, every series quiet, and its sender gone; or at the force limit."""
    if now - facts.first_received_at >= timedelta(seconds=settings.force_seconds):
        return Decision(Verdict.FORCE, "the force limit passed")
    quiet = now - facts.last_received_at
    if quiet < timedelta(seconds=settings.study_quiet_seconds):
        return Decision(Verdict.WAIT, "the study is not quiet yet")
    series_quiet = timedelta(seconds=settings.series_quiet_seconds)
    if any(now - last < series_quiet for last in facts.series_last_received_at):
        return Decision(Verdict.WAIT, "a series is not quiet yet")
    if facts.sender_is_connected:
        return Decision(Verdict.WAIT, "an association of the sender is open")
    return Decision(Verdict.CLOSE, "the study is quiet")


def close_whole_studies(sessions: sessionmaker[Session], config: Config, now: datetime) -> list[int]:
    """Closes every study that is whole; returns the ids of those that are complete now."""
    with sessions() as session:
        waiting = session.scalars(select(Study.id).where(Study.state == StudyState.RECEIVING)).all()
    closed = []
    for study_id in waiting:
        with sessions.begin() as session:
            study = session.get_one(Study, study_id, with_for_update=True)
            if study.state != StudyState.RECEIVING:
                continue
            decision = decide(facts_of(session, study), config.completeness, now)
            if decision.verdict is Verdict.WAIT:
                continue
            if close(session, study, config.completeness, decision, now):
                closed.append(study_id)
    return closed


def facts_of(session: Session, study: Study) -> StudyFacts:
    open_associations = session.scalars(
        select(Association.id)
        .where(
            Association.closed_at.is_(None),
            Association.calling_ae_title == study.calling_ae_title,
            Association.address == study.sender_address,
        )
        .limit(1)
    ).all()
    return StudyFacts(
        first_received_at=study.first_received_at,
        last_received_at=study.last_received_at,
        series_last_received_at=tuple(series.last_received_at for series in study.series),
        sender_is_connected=bool(open_associations),
    )


def close(
    session: Session,
    study: Study,
    settings: CompletenessSection,
    decision: Decision,
    now: datetime,
    actor: str = "node",
) -> bool:
    """Closes the revision of a study that is arriving; True if the study is complete.

    Nothing but what this node made is no study to run prompts on. At the force limit the configuration says whether to
    proceed (flagged), to hold for a person, or to discard.
    """
    digests = instance_digests(session, study)
    if not digests:
        study.state = StudyState.OWN_RESULTS
    elif decision.verdict is Verdict.FORCE and settings.force_action == "hold":
        study.state = StudyState.HELD
    elif decision.verdict is Verdict.FORCE and settings.force_action == "discard":
        study.state = StudyState.DISCARDED
    else:
        study.state = StudyState.COMPLETE
        study.revision += 1
        study.input_digest = content_digest(digests)
    flags = [flag for flag in study.flags if flag != FORCED]
    study.flags = [*flags, FORCED] if decision.verdict is Verdict.FORCE else flags
    study.closed_at = now
    study.closed_reason = decision.reason[:64]
    record(
        session,
        actor,
        "study closed",
        study.study_instance_uid,
        state=study.state,
        revision=study.revision,
        reason=decision.reason,
        instances=len(digests),
    )
    LOG.info("Study %s is %s: %s.", study.study_instance_uid, study.state, decision.reason)
    return study.state == StudyState.COMPLETE


def complete_by_hand(session: Session, study: Study, settings: CompletenessSection, now: datetime, actor: str) -> bool:
    """Closes a study that is still arriving, is held or was discarded, because a person says that it is whole."""
    return close(session, study, settings, Decision(Verdict.CLOSE, "completed by hand"), now, actor)


def content_digest(digests: Sequence[str]) -> str:
    """SHA-256 over the digests of what a study holds."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def instance_digests(session: Session, study: Study) -> Sequence[str]:
    """Of everything in a study but this node's results, in order."""
    return session.scalars(
        select(Instance.digest)
        .join(Series)
        .where(Series.study_id == study.id, Instance.own_result.is_(False))
        .order_by(Instance.digest)
    ).all()
