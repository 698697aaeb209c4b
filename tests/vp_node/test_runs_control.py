"""What a person does to a run, and what a worker may still write into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vp_node.runs_support.index import make_context
from tests.vp_node.test_runs_recovery import add_runs
from vp_node.database.models import AuditEvent, Run, RunState
from vp_node.runs.context import RunContext
from vp_node.runs.control import RunControlError, cancel_run, retry_run
from vp_node.runs.states import RunStopped, advance, is_stopped


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    context = make_context(tmp_path / "data")
    add_runs(context, ("a", 100))
    return context


def test_a_cancelled_run_is_not_brought_back_by_its_worker(context: RunContext) -> None:
    with context.sessions.begin() as session:
        advance(session, "a", 1, RunState.INFERRING)
        cancel_run(session, session.get_one(Run, "a"), "Dr. Example", context.now())
    with context.sessions.begin() as session:
        assert is_stopped(session, "a", 1)
        with pytest.raises(RunStopped):
            advance(session, "a", 1, RunState.ENCODING)
        assert session.get_one(Run, "a").state == RunState.CANCELLED
        event = session.query(AuditEvent).filter(AuditEvent.action == "run cancelled").one()
        assert (event.actor, event.subject, event.detail) == ("Dr. Example", "a", {"state": "inferring"})


def test_a_worker_of_an_earlier_attempt_writes_nothing_into_a_later_one(context: RunContext) -> None:
    with context.sessions.begin() as session:
        cancel_run(session, session.get_one(Run, "a"), "Dr. Example", context.now())
        retry_run(session, session.get_one(Run, "a"), "Dr. Example", context.now())
    with context.sessions.begin() as session:
        run = session.get_one(Run, "a")
        assert (run.state, run.attempt, run.reason) == (RunState.QUEUED, 2, "")
        assert is_stopped(session, "a", 1)
        assert not is_stopped(session, "a", 2)
        with pytest.raises(RunStopped):
            advance(session, "a", 1, RunState.FAILED, reason="late")
        advance(session, "a", 2, RunState.GATHERING)


@pytest.mark.parametrize(("state", "says"), [(RunState.DONE, "has ended"), (RunState.SENDING, "cannot be taken back")])
def test_what_cannot_be_cancelled_says_why(context: RunContext, state: RunState, says: str) -> None:
    with context.sessions.begin() as session:
        advance(session, "a", 1, state)
    with context.sessions.begin() as session, pytest.raises(RunControlError, match=says):
        cancel_run(session, session.get_one(Run, "a"), "Dr. Example", context.now())


def test_a_run_that_was_answered_is_not_retried(context: RunContext) -> None:
    with context.sessions.begin() as session:
        advance(session, "a", 1, RunState.DONE)
    with context.sessions.begin() as session, pytest.raises(RunControlError, match="reprocess"):
        retry_run(session, session.get_one(Run, "a"), "Dr. Example", context.now())
