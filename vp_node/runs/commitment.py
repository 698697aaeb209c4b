"""Storage commitment of deliveries: asked for after sending, answered at any time, kept in the database.

A delivery is `sent` until the destination has promised to keep the object, then `committed`. An object that the
destination does not have is sent again; an answer that never comes is asked for again, a bounded number of times.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from vp_node.config import Config, Peer
from vp_node.database.models import Delivery, DeliveryState, Result
from vp_node.dicom.commitment import Answered, CommitmentReport, Instance, ask_for_commitment
from vp_node.operations.audit import record
from vp_node.runs.context import RunContext
from vp_node.runs.destinations import NoDestination, resolve
from vp_node.runs.locks import holding

LOG = logging.getLogger(__name__)


def due_commitments(session: Session, now: datetime) -> list[str]:
    """Destinations that have something to be asked about."""
    query = (
        select(Delivery.destination)
        .where(Delivery.state == DeliveryState.SENT, Delivery.commitment_due_at <= now)
        .distinct()
        .order_by(Delivery.destination)
    )
    return list(session.scalars(query))


def ask_due(context: RunContext, destination: str) -> int:
    """Asks a destination about what is due, one transaction for each run; returns how many objects were asked about.

    Does nothing where another worker serves the destination.
    """
    asked = 0
    with holding(context.locks, f"commitment by {destination}") as taken:
        if not taken:
            return 0
        with context.sessions() as session:
            due = session.scalars(
                select(Delivery)
                .join(Result)
                .where(
                    Delivery.destination == destination,
                    Delivery.state == DeliveryState.SENT,
                    Delivery.commitment_due_at <= context.now(),
                )
                .order_by(Result.run_id, Delivery.id)
            ).all()
            groups = [
                [item.id for item in group] for _, group in groupby(due, key=lambda delivery: delivery.result.run_id)
            ]
        for delivery_ids in groups:
            if context.stopping.is_set():
                break
            asked += _ask(context, delivery_ids)
    return asked


def keep_answer(sessions: sessionmaker[Session], config: Config) -> Answered:
    """What keeps an answer, whichever association it came on; for the listener and for requests."""

    def keep(report: CommitmentReport) -> bool:
        with sessions.begin() as session:
            return note_answer(session, config, report)

    return keep


def note_answer(session: Session, config: Config, report: CommitmentReport) -> bool:
    """Writes an answer down; False where the transaction is not known. The same answer twice changes nothing."""
    if not report.transaction_uid:
        return False
    query = select(Delivery).where(Delivery.transaction_uid == report.transaction_uid)
    deliveries = list(session.scalars(query))
    failed = dict(report.failed)
    for delivery in deliveries:
        uid = delivery.result.sop_instance_uid
        if delivery.state not in (DeliveryState.SENT, DeliveryState.COMMITTED):
            continue
        if uid in report.committed and uid not in failed:
            if delivery.state != DeliveryState.COMMITTED:
                delivery.state = DeliveryState.COMMITTED
                delivery.committed_at = _now()
                delivery.commitment_due_at = None
                record(session, "node", "result committed", uid, destination=delivery.destination)
        elif uid in failed:
            _refused(session, config, delivery, failed[uid])
    return bool(deliveries)


def _ask(context: RunContext, delivery_ids: Sequence[int]) -> int:
    config = context.config
    transaction = f"2.25.{uuid4().int}"
    with context.sessions.begin() as session:
        deliveries = _load(session, delivery_ids)
        study = deliveries[0].result.run.study
        try:
            destination = resolve(config, study, deliveries[0].destination)
        except NoDestination:
            destination = None
        if not isinstance(destination, Peer) or not destination.storage_commitment:
            for delivery in deliveries:
                delivery.commitment_due_at = None
            return 0
        title = destination.calls_as or study.called_ae_title or config.dicom.ae_titles[0]
        instances = [Instance(item.result.sop_class_uid, item.result.sop_instance_uid) for item in deliveries]
        now = context.now()
        for delivery in deliveries:
            # Before the request: its answer may be faster than the request's own response.
            delivery.transaction_uid = transaction
            delivery.commitment_attempts += 1
            given_up = delivery.commitment_attempts >= config.delivery.commitment_attempts
            delivery.commitment_due_at = (
                None if given_up else now + timedelta(seconds=config.delivery.commitment_wait_seconds)
            )
            if given_up:
                uid = delivery.result.sop_instance_uid
                record(session, "node", "last request for commitment", uid, destination=delivery.destination)
    keep = keep_answer(context.sessions, config)
    problem = ask_for_commitment(destination, transaction, instances, title, keep, config.tls)
    if problem:
        LOG.warning("%s", problem)
        with context.sessions.begin() as session:
            for delivery in _load(session, delivery_ids):
                if delivery.state == DeliveryState.SENT:
                    delivery.last_error = problem
    return len(instances)


def _refused(session: Session, config: Config, delivery: Delivery, reason: int) -> None:
    """The destination does not have it: it is sent again, as often as any delivery is tried."""
    delivery.transaction_uid = ""
    delivery.commitment_due_at = None
    delivery.last_error = f"{delivery.destination} did not commit to keep it ({reason:04X})."
    delivery.attempts += 1
    if delivery.attempts >= config.delivery.attempts:
        delivery.state = DeliveryState.DEAD
    else:
        delivery.state = DeliveryState.PENDING
        delivery.next_attempt_at = _now() + timedelta(seconds=config.delivery.first_delay_seconds)
    uid = delivery.result.sop_instance_uid
    record(session, "node", "commitment refused", uid, destination=delivery.destination, reason=f"{reason:04X}")


def _load(session: Session, delivery_ids: Sequence[int]) -> list[Delivery]:
    return list(session.scalars(select(Delivery).where(Delivery.id.in_(delivery_ids)).order_by(Delivery.id)))


def _now() -> datetime:
    return datetime.now(UTC)
