"""Bringing results to their destinations: an outbox of rows, worked off in the background with growing delays.

A destination that cannot be reached holds up nothing but its own deliveries: the workflow of a run only fills the
outbox. Each destination is served by one worker at a time, so that an object is never on two associations; and since
its UIDs are always the same, a second sending after a crash is the same object again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from vp_model.outcome import OUTCOME_FILE
from vp_node.compute.failure import place_of
from vp_node.config import Config, DeliverySection, Peer
from vp_node.database.models import Delivery, DeliveryState, Result, Run, RunState
from vp_node.dicom.sender import SendReport
from vp_node.intake.digest import dataset_digest
from vp_node.operations.audit import record
from vp_node.runs.context import RunContext
from vp_node.runs.destinations import Destination, NoDestination, deliver_to, form_for, resolve, takes
from vp_node.runs.locks import holding

LOG = logging.getLogger(__name__)


def fill_outbox(session: Session, config: Config, run: Run, destinations: Sequence[str], now: datetime) -> None:
    """Writes a delivery for each result and each destination that takes it and has none yet.

    A destination that cannot be resolved becomes a dead letter at once, which an admin sees and can retry.
    """
    for destination in dict.fromkeys(destinations):
        target: Destination | None = None
        try:
            target = resolve(config, run.study, destination)
            name, error = target.name, ""
        except NoDestination as problem:
            name, error = destination, str(problem)
        for result in run.results:
            if any(delivery.destination == name for delivery in result.deliveries):
                continue
            if not (_is_always_made(result) if target is None else takes(target, result)):
                continue
            state = DeliveryState.DEAD if error else DeliveryState.PENDING
            delivery = Delivery(destination=name, state=state, last_error=error, next_attempt_at=now, result=result)
            session.add(delivery)
            if error:
                record(session, "node", "delivery failed", result.sop_instance_uid, destination=name, error=error)
    session.flush()


def _is_always_made(result: Result) -> bool:
    return result.role in ("seg", "sr", "derived") and result.form in ("", "binary")


def due_destinations(session: Session, now: datetime) -> list[str]:
    query = select(Delivery.destination).where(_is_due(now)).distinct().order_by(Delivery.destination)
    return list(session.scalars(query))


def deliver_due(context: RunContext, destination: str) -> int:
    """Sends what is due at one destination, a run's objects on one association; returns how many were sent.

    Does nothing where another worker serves the destination.
    """
    sent = 0
    with holding(context.locks, f"deliveries to {destination}") as taken:
        if not taken:
            return 0
        with context.sessions() as session:
            due = session.scalars(
                select(Delivery)
                .join(Result)
                .where(Delivery.destination == destination, _is_due(context.now()))
                .order_by(Result.run_id, Delivery.id)
            ).all()
            parcels = [
                (run_id, [delivery.id for delivery in group])
                for run_id, group in groupby(due, key=lambda delivery: delivery.result.run_id)
            ]
        for run_id, delivery_ids in parcels:
            if context.stopping.is_set():
                break
            sent += _deliver(context, run_id, delivery_ids)
    return sent


def _is_due(now: datetime) -> ColumnElement[bool]:
    return and_(Delivery.state == DeliveryState.PENDING, Delivery.next_attempt_at <= now)


def _deliver(context: RunContext, run_id: str, delivery_ids: Sequence[int]) -> int:
    config = context.config
    with context.sessions.begin() as session:
        deliveries = _load(session, delivery_ids)
        study = deliveries[0].result.run.study
        try:
            destination = resolve(config, study, deliveries[0].destination)
        except NoDestination as problem:
            for delivery in deliveries:
                _fail(session, delivery, str(problem), config.delivery, context.now(), for_good=True)
            settle(session, context, run_id)
            return 0
        calls_as = destination.calls_as if isinstance(destination, Peer) else None
        title = calls_as or study.called_ae_title or config.dicom.ae_titles[0]
        forms = sorted({delivery.result.form for delivery in deliveries} - {""})
    problem_in_sending = "The sender reported nothing about this object."
    reports: Sequence[SendReport] = ()
    try:
        form = form_for(destination, forms, title, config) if forms else ""
        if form is None:
            problem_in_sending = f"{destination.name} cannot be reached, or closed the connection."
        else:
            with context.sessions.begin() as session:
                delivery_ids = _fit_for_sending(session, context, _load(session, delivery_ids), destination, form)
                settle(session, context, run_id)
                deliveries = _load(session, delivery_ids)
                paths = [context.data_folder / delivery.result.path for delivery in deliveries]
            reports = deliver_to(destination, paths, title, config) if paths else ()
    except Exception as error:  # noqa: BLE001 (whatever it was, it counts as an attempt and is written down)
        problem_in_sending = f"Sending failed: {type(error).__name__} in {place_of(error)}."
        LOG.error("%s", problem_in_sending)
    with context.sessions.begin() as session:
        by_path = {report.path: report for report in reports}
        committing = isinstance(destination, Peer) and destination.storage_commitment
        deliveries = _load(session, delivery_ids)
        sent = _note(session, context, deliveries, by_path, problem_in_sending, committing=committing)
        settle(session, context, run_id)
    return sent


def _fit_for_sending(
    session: Session, context: RunContext, deliveries: Sequence[Delivery], destination: Destination, form: str
) -> list[int]:
    """Ids of what may go now: of the form that the destination takes, and whole; of the rest the reason is kept."""
    fit: list[int] = []
    rules, now = context.config.delivery, context.now()
    for delivery in deliveries:
        result = delivery.result
        broken = [finding for finding in result.findings if finding.get("severity") == "error"]
        path = context.data_folder / result.path
        if result.form and form and result.form != form:
            delivery.state = DeliveryState.SET_ASIDE
            delivery.next_attempt_at = None
            delivery.last_error = f"{destination.name} gets the form {form!r}."
        elif result.form and not form:
            words = f"{destination.name} accepts none of the forms of segmentation that its configuration lists."
            _fail(session, delivery, words, rules, now, for_good=True)
        elif broken:
            words = f"It breaks a rule, and is never sent: {broken[0]['message']}"
            _fail(session, delivery, words, rules, now, for_good=True)
        elif not path.is_file():
            words = "Its file is no longer in the data folder. Run the prompt again."
            _fail(session, delivery, words, rules, now, for_good=True)
        elif result.digest and dataset_digest(path) != result.digest:
            words = "Its file was changed after it was checked, and is not sent. Retry the run."
            _fail(session, delivery, words, rules, now, for_good=True)
        else:
            fit.append(delivery.id)
    return fit


def _load(session: Session, delivery_ids: Sequence[int]) -> list[Delivery]:
    return list(session.scalars(select(Delivery).where(Delivery.id.in_(delivery_ids)).order_by(Delivery.id)))


def _note(
    session: Session,
    context: RunContext,
    deliveries: Iterable[Delivery],
    reports: Mapping[Path, SendReport],
    problem: str,
    *,
    committing: bool = False,
) -> int:
    """Writes down what became of each object, and `problem` where there is no report; returns how many were taken."""
    rules, now = context.config.delivery, context.now()
    sent = 0
    for delivery in deliveries:
        report = reports.get(context.data_folder / delivery.result.path)
        if report is None:
            _fail(session, delivery, problem, rules, now, for_good=False)
        elif report.outcome == "sent":
            delivery.attempts += 1
            delivery.state = DeliveryState.SENT
            delivery.sent_at = now
            delivery.last_error = ""
            delivery.next_attempt_at = None
            delivery.commitment_due_at = now if committing else None
            delivery.commitment_attempts = 0
            delivery.transaction_uid = ""
            delivery.committed_at = None
            subject = delivery.result.sop_instance_uid
            record(
                session, "node", "result sent", subject, destination=delivery.destination, run=delivery.result.run_id
            )
            sent += 1
        else:
            _fail(session, delivery, report.message, rules, now, for_good=report.outcome == "refused")
    return sent


def _fail(
    session: Session, delivery: Delivery, error: str, rules: DeliverySection, now: datetime, *, for_good: bool
) -> None:
    delivery.attempts += 1
    delivery.last_error = error
    if for_good or delivery.attempts >= rules.attempts:
        delivery.state = DeliveryState.DEAD
        delivery.next_attempt_at = None
        record(
            session,
            "node",
            "delivery failed",
            delivery.result.sop_instance_uid,
            destination=delivery.destination,
            attempts=delivery.attempts,
            error=error,
        )
        LOG.error("Gave up sending a result to %s after %d attempts.", delivery.destination, delivery.attempts)
    else:
        delivery.next_attempt_at = now + timedelta(seconds=delay(rules, delivery.attempts))


def delay(rules: DeliverySection, attempts: int) -> float:
    """Seconds before the next attempt, after `attempts` (at least 1) that failed: doubles, up to a bound."""
    doublings = min(attempts - 1, 30)
    return float(min(rules.first_delay_seconds * 2**doublings, rules.longest_delay_seconds))


def settle(session: Session, context: RunContext, run_id: str) -> None:
    """Ends a run all of whose deliveries have ended; says in its reason what did not arrive."""
    session.flush()
    run = session.get_one(Run, run_id, populate_existing=True)
    if run.state != RunState.SENDING:
        return
    deliveries = [delivery for result in run.results for delivery in result.deliveries]
    if any(delivery.state == DeliveryState.PENDING for delivery in deliveries):
        return
    dead = [delivery for delivery in deliveries if delivery.state == DeliveryState.DEAD]
    status, reason = outcome_status(context, run)
    run.state = RunState.REFUSED if status == "refused" else RunState.DONE
    run.reason = reason
    run.finished_at = context.now()
    if dead:
        names = ", ".join(sorted({delivery.destination for delivery in dead}))
        undelivered = f"{len(dead)} of {len(deliveries)} deliveries did not arrive ({names}); see `vp-node deliveries`."
        run.reason = f"{reason} {undelivered}".strip()
    record(session, "node", "run ended", run.id, state=run.state, undelivered=len(dead))


def outcome_status(context: RunContext, run: Run) -> tuple[str, str]:
    """Status (`answered`, `refused` or `failed`) and reason in the outcome that the run wrote."""
    path = context.data_folder / run.outcome_folder / OUTCOME_FILE
    summary = json.loads(path.read_text(encoding="utf-8"))
    return str(summary["status"]), str(summary["reason"])
