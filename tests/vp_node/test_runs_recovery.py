"""The workflow engine, in processes that are really killed: nothing is lost, nothing finished is repeated."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vp_node.runs_support.postgres import postgres_server
from tests.vp_node.runs_support.worker import make_context
from vp_node.database.models import Patient, Prompt, PromptVersion, Run, RunState, Study
from vp_node.runs.context import RunContext
from vp_node.runs.control import retry_run


def add_runs(context: RunContext, *runs: tuple[str, int]) -> None:
    """Queued runs by id and priority."""
    with context.sessions.begin() as session:
        study = Study(
            study_instance_uid="1.2.3",
            patient=Patient(key="k", patient_id="SECRET-ID"),
            revision=1,
            understood_revision=1,
        )
        version = PromptVersion(id="v", number=1, text="p", definition={}, created_by="test")
        session.add_all([study, Prompt(name="p", owner="test", versions=[version])])
        session.flush()
        for name, priority in runs:
            session.add(
                Run(
                    id=name,
                    study_id=study.id,
                    revision=1,
                    prompt_version_id="v",
                    model_hash="ab",
                    input_digest="cd",
                    priority=priority,
                )
            )


@contextmanager
def worker(folder: Path, url: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-m", "tests.vp_node.runs_support.worker", str(folder), url, name]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def steps(folder: Path) -> list[list[str]]:
    path = folder / "steps"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def states(context: RunContext) -> dict[str, str]:
    with context.sessions() as session:
        return {run.id: run.state for run in session.query(Run)}


@pytest.mark.requirement("the workflows of a dead worker are taken over; holds the contract of a private function")
def test_a_living_worker_takes_over_what_a_killed_one_had_begun(tmp_path: Path) -> None:
    with postgres_server() as url:
        context = make_context(tmp_path, url)
        add_runs(context, ("a", 100))
        (tmp_path / "hold").touch()
        with worker(tmp_path, url, "one") as first:
            wait_for(lambda: ["one", "infer", "a", "1"] in steps(tmp_path))
            with worker(tmp_path, url, "two"):
                time.sleep(2)
                assert not any(line[0] == "two" for line in steps(tmp_path)), "a living worker's run was taken"
                first.kill()
                first.wait()
                wait_for(lambda: ["two", "infer", "a", "1"] in steps(tmp_path))
                (tmp_path / "hold").unlink()
                wait_for(lambda: states(context) == {"a": "done"})
    done = [(line[0], line[1]) for line in steps(tmp_path)]
    assert done == [("one", "gather"), ("one", "infer"), ("two", "infer"), ("two", "commit")]


def test_a_restarted_worker_goes_on_at_the_step_that_was_not_finished(tmp_path: Path) -> None:
    context = make_context(tmp_path, "")
    add_runs(context, ("late", 200), ("early", 1))
    (tmp_path / "hold").touch()
    with worker(tmp_path, "", "one") as process:
        wait_for(lambda: ["one", "infer", "early", "1"] in steps(tmp_path))
        (tmp_path / "stop one").touch()
        process.wait(20)
    assert states(context) == {"late": "queued", "early": "queued"}
    (tmp_path / "stop one").unlink()
    (tmp_path / "hold").unlink()
    with worker(tmp_path, "", "one"):
        wait_for(lambda: set(states(context).values()) == {"done"})
    assert [(line[1], line[2]) for line in steps(tmp_path)] == [
        ("gather", "early"),
        ("infer", "early"),
        ("infer", "early"),
        ("commit", "early"),
        ("gather", "late"),
        ("infer", "late"),
        ("commit", "late"),
    ]
    assert_only_ids_in_the_engine(tmp_path / "workflows.sqlite")


def assert_only_ids_in_the_engine(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        inputs = [json.loads(row[0]) for row in connection.execute("SELECT inputs FROM workflow_input")]
        outputs = [row[0] for row in connection.execute("SELECT output FROM operation_outputs")]
        dump = "\n".join(connection.iterdump())
    assert sorted(item["positionalArgs"] for item in inputs) == [["early", 1], ["late", 1]]
    assert set(outputs) == {'"next"'}
    assert "SECRET-ID" not in dump


def test_a_run_that_kills_its_worker_again_and_again_is_parked_and_can_be_retried(tmp_path: Path) -> None:
    context = make_context(tmp_path, "")
    add_runs(context, ("a", 100))
    (tmp_path / "die").touch()
    for _ in range(4):
        with worker(tmp_path, "", "one") as process:
            wait_for(lambda: process.poll() is not None or states(context) == {"a": "failed"})
    assert states(context) == {"a": "failed"}
    with context.sessions.begin() as session:
        run = session.get_one(Run, "a")
        assert "resumed 2 times after a crash" in run.reason
        (tmp_path / "die").unlink()
        retry_run(session, run, "admin", context.now())
        assert run.state == RunState.QUEUED
    with worker(tmp_path, "", "one"):
        wait_for(lambda: states(context) == {"a": "done"})
    assert [line[3] for line in steps(tmp_path) if line[1] == "infer"] == ["1", "1", "1", "2"]
