"""From a closed study and prompts to runs: asked twice is asked once, and what is new supersedes what is old."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.vp_node.runs_support.index import close, closed_study, make_context, receive
from tests.vp_node.runs_support.prompts import add_prompt
from tests.vp_node.runs_support.studies import move_into_study, study_uid, write_phantom
from vp_node.database.models import AuditEvent, Prompt, PromptVersion, Run, RunState, Study
from vp_node.runs import planning
from vp_node.runs.context import RunContext
from vp_node.runs.planning import PlanningError, plan_standing_prompts, request_run
from vp_node.runs.reprocessing import Selectors, plan_reprocess, reprocess
from vp_node.runs.states import advance

MODEL = "ab" * 32
NEWER = "cd" * 32


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(tmp_path / "data")


def plan(context: RunContext, study_id: int, model: str = MODEL) -> list[str]:
    with context.sessions.begin() as session:
        study = session.get_one(Study, study_id)
        return [run.id for run in plan_standing_prompts(session, study, context.data_folder, model, context.now())]


def run_of(context: RunContext, identifier: str) -> Run:
    with context.sessions() as session:
        return session.get_one(Run, identifier)


def add_late_series(context: RunContext, tmp_path: Path, study_id: int) -> None:
    late = write_phantom(tmp_path / "late", seed=1, description="T2 TSE")
    move_into_study(late, study_uid(sorted((tmp_path / "study").glob("*.dcm"))))
    assert receive(context, late) == study_id
    close(context, study_id)


@pytest.mark.requirement("asking twice is asking once")
def test_planning_again_asks_for_nothing_new_until_prompt_model_or_images_change(
    context: RunContext, tmp_path: Path
) -> None:
    study_id = closed_study(context, write_phantom(tmp_path / "study"))
    version = add_prompt(context.sessions, "volumes", "measure")
    assert len(plan(context, study_id)) == 1
    assert plan(context, study_id) == []
    assert len(plan(context, study_id, NEWER)) == 1
    with context.sessions.begin() as session:
        old = session.get_one(PromptVersion, version)
        old.prompt.versions.append(
            PromptVersion(id="v2", number=2, text="measure all", definition=old.definition, created_by="test")
        )
    assert len(plan(context, study_id)) == 1
    add_late_series(context, tmp_path, study_id)
    assert len(plan(context, study_id)) == 1


def test_a_run_that_has_not_begun_is_superseded_by_the_run_on_the_next_revision(
    context: RunContext, tmp_path: Path
) -> None:
    study_id = closed_study(context, write_phantom(tmp_path / "study"))
    add_prompt(context.sessions, "volumes", "measure")
    (first,) = plan(context, study_id)
    add_late_series(context, tmp_path, study_id)
    (second,) = plan(context, study_id)
    assert run_of(context, first).state == RunState.SUPERSEDED
    assert (run_of(context, second).revision, run_of(context, second).supersedes_run_id) == (2, None)


def test_a_run_that_has_begun_goes_on_and_is_named_as_the_predecessor(context: RunContext, tmp_path: Path) -> None:
    study_id = closed_study(context, write_phantom(tmp_path / "study"))
    add_prompt(context.sessions, "volumes", "measure")
    (first,) = plan(context, study_id)
    with context.sessions.begin() as session:
        advance(session, first, 1, RunState.INFERRING)
    add_late_series(context, tmp_path, study_id)
    (second,) = plan(context, study_id)
    assert run_of(context, first).state == RunState.INFERRING
    assert run_of(context, second).supersedes_run_id == first


def test_a_waiting_ad_hoc_run_moves_to_the_next_revision(context: RunContext, tmp_path: Path) -> None:
    study_id = closed_study(context, write_phantom(tmp_path / "study"))
    version = add_prompt(context.sessions, "once", "measure")
    with context.sessions.begin() as session:
        session.query(Prompt).update({"standing": False})
        study = session.get_one(Study, study_id)
        asked = request_run(
            session,
            study,
            session.get_one(PromptVersion, version),
            "Dr. Example",
            context.data_folder,
            MODEL,
            context.now(),
        )
    add_late_series(context, tmp_path, study_id)
    (second,) = plan(context, study_id)
    assert run_of(context, asked.run.id).state == RunState.SUPERSEDED
    assert run_of(context, second).requested_by == "Dr. Example"


def test_a_prompt_that_cannot_be_planned_is_a_failed_run_and_holds_up_no_other(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = closed_study(context, write_phantom(tmp_path / "study"))
    bad = add_prompt(context.sessions, "bad", "measure")
    add_prompt(context.sessions, "good", "measure")
    real = planning.request_run

    def fail(session: object, study: object, version: PromptVersion, *rest: object, **options: object) -> object:
        if version.id == bad:
            raise ZeroDivisionError("Doe^John")
        return real(session, study, version, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "request_run", fail)
    runs = [run_of(context, identifier) for identifier in plan(context, study_id)]
    assert sorted(run.state for run in runs) == ["failed", "queued"]
    (failed,) = [run for run in runs if run.state == "failed"]
    assert failed.prompt_version_id == bad
    assert "ZeroDivisionError" in failed.reason
    assert "Doe" not in failed.reason


def test_a_study_that_is_still_arriving_cannot_be_asked_about(context: RunContext, tmp_path: Path) -> None:
    study_id = receive(context, write_phantom(tmp_path / "study"))
    version = add_prompt(context.sessions, "volumes", "measure")
    with context.sessions.begin() as session, pytest.raises(PlanningError, match="once it is complete"):
        study, asked = session.get_one(Study, study_id), session.get_one(PromptVersion, version)
        request_run(session, study, asked, "me", context.data_folder, MODEL, context.now())


def test_reprocessing_says_what_it_would_do_and_does_it(context: RunContext, tmp_path: Path) -> None:
    for day in (1, 2, 3):
        folder = tmp_path / str(day)
        closed_study(context, write_phantom(folder, visit=date(2024, 3, day), patient_id=f"P{day}", seed=day))
    add_prompt(context.sessions, "volumes", "measure")
    (first,) = plan(context, 1)
    (second,) = plan(context, 2)
    with context.sessions.begin() as session:
        advance(session, first, 1, RunState.DONE)
        advance(session, second, 1, RunState.FAILED)

    def would(selectors: Selectors, model: str = MODEL) -> list[tuple[int, str]]:
        with context.sessions() as session:
            found = plan_reprocess(session, selectors, context.data_folder, model)
            return [(item.study.id, item.action) for item in found]

    assert would(Selectors()) == [(1, "nothing"), (2, "retry"), (3, "run")]
    assert would(Selectors(failed_only=True)) == [(2, "retry")]
    assert would(Selectors(from_date=date(2024, 3, 2), to_date=date(2024, 3, 2))) == [(2, "retry")]
    assert would(Selectors(model_hash=MODEL[:8]), NEWER) == [(1, "run"), (2, "run")]
    assert would(Selectors(prompts=("volumes",)), NEWER) == [(1, "run"), (2, "run"), (3, "run")]
    with pytest.raises(PlanningError, match="No complete study"):
        would(Selectors(study_instance_uids=("1.2.3",)))
    with pytest.raises(PlanningError, match="No prompt is named"):
        would(Selectors(prompts=("typo",)))
    with context.sessions.begin() as session:
        found = plan_reprocess(session, Selectors(), context.data_folder, MODEL)
        queued = reprocess(session, found, "admin", context.data_folder, MODEL, context.now())
        assert [(run.study_id, run.attempt) for run in queued] == [(2, 2), (3, 1)]
    with context.sessions() as session:
        assert session.query(AuditEvent).filter(AuditEvent.actor == "admin").count() == 2
