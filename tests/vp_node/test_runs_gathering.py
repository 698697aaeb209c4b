"""What a run begins with: a study that is understood, volumes that are known, images that are there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete

from tests.vp_node.runs_support.index import close, closed_study, make_context, receive
from tests.vp_node.runs_support.prompts import add_prompt
from tests.vp_node.runs_support.studies import move_into_study, study_uid, write_phantom
from vp_node.config import CompletenessSection
from vp_node.database.models import PromptVersion, Run, RunState, Study, StudyState, Volume
from vp_node.intake.completeness import complete_by_hand
from vp_node.runs.choosing import gathered_volumes
from vp_node.runs.context import RunContext
from vp_node.runs.control import retry_run
from vp_node.runs.engine import waiting_runs
from vp_node.runs.planning import request_run
from vp_node.runs.scheduling import settle_study
from vp_node.runs.steps import perform

MODEL = "ab" * 32


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(tmp_path / "data")


def ask(context: RunContext, study_id: int) -> str:
    version_id = add_prompt(context.sessions, "volumes", "measure")
    with context.sessions.begin() as session:
        study, version = session.get_one(Study, study_id), session.get_one(PromptVersion, version_id)
        return request_run(session, study, version, "anna", context.data_folder, MODEL, context.now()).run.id


def state_of(context: RunContext, run_id: str) -> tuple[str, str]:
    with context.sessions() as session:
        run = session.get_one(Run, run_id)
        return run.state, run.reason


def gather(context: RunContext, run_id: str) -> str:
    with context.sessions() as session:
        attempt = session.get_one(Run, run_id).attempt
    return perform(context, "gather", run_id, attempt)


def retry(context: RunContext, run_id: str) -> None:
    with context.sessions.begin() as session:
        retry_run(session, session.get_one(Run, run_id), "anna", context.now())


def test_a_run_waits_until_its_study_is_understood(context: RunContext, tmp_path: Path) -> None:
    """Asked between the closing of a study and the look at what it holds: it must not find an empty study."""
    study_id = receive(context, write_phantom(tmp_path / "study"))
    with context.sessions.begin() as session:
        study = session.get_one(Study, study_id)
        complete_by_hand(session, study, CompletenessSection(), datetime.now(UTC), "anna")
    run_id = ask(context, study_id)
    with context.sessions() as session:
        assert waiting_runs(session) == []
        assert session.get_one(Run, run_id).choices == []
    settle_study(context, study_id, MODEL)
    with context.sessions() as session:
        assert [row.id for row in waiting_runs(session)] == [run_id]
    assert gather(context, run_id) == "next"
    with context.sessions() as session:
        assert len(gathered_volumes(session, session.get_one(Run, run_id), context.data_folder)) == 1


def test_images_that_are_gone_are_named_and_come_back_with_the_study(context: RunContext, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study")
    study_id = closed_study(context, paths)
    run_id = ask(context, study_id)
    for path in sorted((context.data_folder / "instances").rglob("*.dcm"))[:3]:
        path.unlink()
    assert gather(context, run_id) == "failed"
    state, reason = state_of(context, run_id)
    assert (state, reason) == (
        RunState.FAILED,
        "3 of its source images are no longer in the data folder. Send the study again.",
    )
    retry(context, run_id)
    assert gather(context, run_id) == "failed"
    assert state_of(context, run_id) == (state, reason)
    receive(context, paths)
    retry(context, run_id)
    assert gather(context, run_id) == "next"


def test_a_run_whose_volumes_are_no_longer_known_chooses_anew_or_says_why_not(
    context: RunContext, tmp_path: Path
) -> None:
    paths = write_phantom(tmp_path / "study")
    study_id = closed_study(context, paths)
    run_id = ask(context, study_id)
    late = write_phantom(tmp_path / "late", seed=1, description="T1 late")
    move_into_study(late, study_uid(paths))
    receive(context, late)
    with context.sessions.begin() as session:
        assert session.get_one(Study, study_id).state == StudyState.RECEIVING
        session.execute(delete(Volume).where(Volume.study_id == study_id, Volume.revision == 1))
    assert gather(context, run_id) == "failed"
    state, reason = state_of(context, run_id)
    assert state == RunState.FAILED
    assert "no longer in the index" in reason and "retry the run" in reason
    close(context, study_id)
    retry(context, run_id)
    assert gather(context, run_id) == "next"
    with context.sessions() as session:
        run = session.get_one(Run, run_id)
        assert run.revision == 2
        assert {entry["revision"] for entry in run.choices} == {2}
        assert len(gathered_volumes(session, run, context.data_folder)) == 2
