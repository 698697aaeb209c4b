"""What a person does to a run: ask for it again, cancel it, retry it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from vp_node.database.models import FINAL_RUN_STATES, Delivery, DeliveryState, Result, Run, RunState
from vp_node.operations.audit import record
from vp_node.runs.states import RunStopped, advance


class RunControlError(ValueError):
    """The run cannot be cancelled or retried now; the message says why."""


def cancel_run(session: Session, run: Run, actor: str, now: datetime) -> None:
    """Ends a run that has not ended. A run that is computing is stopped by its worker within a second.

    Raises:
        RunControlError: it has ended, or its results are on their way.
    """
    if run.state in FINAL_RUN_STATES:
        raise RunControlError(f"The run has ended ({run.state}): there is nothing to cancel.")
    if run.state == RunState.SENDING:
        raise RunControlError("Its results are being sent: what a PACS has stored cannot be taken back from here.")
    before = run.state
    try:
        advance(
            session,
            run.id,
            run.attempt,
            RunState.CANCELLED,
            unless=(RunState.SENDING,),
            reason=f"Cancelled by {actor}.",
            finished_at=now,
        )
    except RunStopped:
        raise RunControlError("The run ended, or its results were sent, at this very moment.") from None
    record(session, actor, "run cancelled", run.id, state=before)


def retry_run(session: Session, run: Run, actor: str, now: datetime) -> None:
    """Queues a failed or cancelled run again, under the same identity.

    Raises:
        RunControlError: it is not failed or cancelled.
    """
    if run.state not in (RunState.FAILED, RunState.CANCELLED):
        raise RunControlError(
            f"Only a failed or cancelled run can be retried; this one is {run.state}. "
            "An answer changes only with the prompt, the model or the images: see `vp-node reprocess`."
        )
    run.attempt += 1
    run.priors = {}  # asked again: what did not come then may come now
    run.state = RunState.QUEUED
    run.reason = ""
    run.not_before = None
    run.started_at = None
    run.finished_at = None
    record(session, actor, "run queued", run.id, attempt=run.attempt)


def retry_deliveries(session: Session, run: Run, actor: str, now: datetime) -> int:
    """Sends a run's dead letters again, with all attempts anew; returns how many there are."""
    dead = [
        delivery for result in run.results for delivery in result.deliveries if delivery.state == DeliveryState.DEAD
    ]
    for delivery in dead:
        delivery.state = DeliveryState.PENDING
        delivery.attempts = 0
        delivery.next_attempt_at = now
        record(session, actor, "delivery retried", _subject(delivery.result), destination=delivery.destination)
    if dead:
        run.state = RunState.SENDING
        run.finished_at = None
    return len(dead)


def resend(session: Session, delivery: Delivery, actor: str, now: datetime) -> None:
    """Sends one object again by hand, whatever became of it before."""
    delivery.state = DeliveryState.PENDING
    delivery.attempts = 0
    delivery.next_attempt_at = now
    delivery.last_error = ""
    record(session, actor, "delivery retried", _subject(delivery.result), destination=delivery.destination)


def _subject(result: Result) -> str:
    return result.sop_instance_uid
