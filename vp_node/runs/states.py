"""The state of a run, changed only where it is still the run that one thinks it is."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from vp_node.database.models import FINAL_RUN_STATES, Run, RunState


class RunStopped(Exception):
    """The run was cancelled, superseded or retried meanwhile: whoever works on it must stop, and nothing is wrong."""


class RunFailure(Exception):
    """The run cannot go on; the message goes to the person who asked and holds no patient data.

    Args:
        may_pass: trying the step again may help.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class RunRefused(Exception):
    """The study holds nothing that the prompt could be run on; the message says why. Not a failure."""


def advance(
    session: Session, run_id: str, attempt: int, state: RunState, *, unless: tuple[RunState, ...] = (), **values: Any
) -> None:
    """Sets the state, and other columns, of a run that has not ended, in one statement.

    Args:
        unless: further states in which the run is to be left alone.

    Raises:
        RunStopped: it has ended, or is in one of these states, or this is no longer its attempt.
    """
    left_alone = [*FINAL_RUN_STATES, *unless]
    statement = (
        update(Run)
        .where(Run.id == run_id, Run.attempt == attempt, Run.state.not_in(left_alone))
        .values(state=state, **values)
        .execution_options(synchronize_session="fetch")
    )
    result = cast(CursorResult[Any], session.execute(statement))
    if result.rowcount == 0:
        raise RunStopped(f"Run {run_id} is no longer in attempt {attempt}, or has ended.")


def is_stopped(session: Session, run_id: str, attempt: int) -> bool:
    """Whether a worker on this attempt should stop."""
    row = session.get(Run, run_id, populate_existing=True)
    return row is None or row.attempt != attempt or row.state in FINAL_RUN_STATES
