"""One node in one process: from C-STORE to C-STORE, and what happens when things go wrong on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vp_node.runs_support.nodes import PACS, node_in, wait_for
from tests.vp_node.runs_support.prompts import add_prompt
from tests.vp_node.runs_support.studies import move_into_study, study_uid, write_phantom
from vp_node.database.models import Run, Volume
from vp_node.demo.pacs import received, receiving_pacs
from vp_node.operations.health import read_heartbeats
from vp_node.runs.control import cancel_run


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[int]:
    with receiving_pacs(tmp_path / "pacs", PACS) as port:
        yield port


def test_a_late_series_makes_a_revision_whose_run_supersedes_the_earlier_one(pacs: int, tmp_path: Path) -> None:
    with node_in(tmp_path / "node", pacs) as node:
        add_prompt(node.sessions, "volumes", "measure the left hippocampus")
        node.start()
        first = write_phantom(tmp_path / "first")
        node.receive(first)
        node.wait_for_states("done")
        node.receive(first)
        time.sleep(1.5)
        (only,) = node.runs()
        late = write_phantom(tmp_path / "late", seed=1, description="T2 TSE")
        move_into_study(late, study_uid(first))
        node.receive(late)
        earlier, later = node.wait_for_states("done", "done")
        assert (earlier.id, earlier.revision) == (only.id, 1)
        assert (later.revision, later.supersedes_run_id) == (2, earlier.id)
        with node.sessions() as session:
            assert session.query(Volume).filter(Volume.revision == 2).count() == 2
        assert len(received(tmp_path / "pacs")["SR"]) == 2
        assert node.terminate() == 0
        (beat,) = read_heartbeats(node.config.node.data_folder)
        assert beat.state == "stopped"


def test_a_run_that_breaks_a_limit_fails_with_the_reason_and_the_next_one_works(pacs: int, tmp_path: Path) -> None:
    with node_in(tmp_path / "node", pacs, time_limit=4) as node:
        add_prompt(node.sessions, "a", "sleep", priority=1)
        add_prompt(node.sessions, "b", "stumble", priority=2)
        add_prompt(node.sessions, "c", "measure", priority=3)
        node.start()
        node.receive(write_phantom(tmp_path / "study"))
        wait_for(lambda: sorted(run.state for run in node.runs()) == ["done", "failed", "failed"], 40, node)
        reasons = sorted(run.reason for run in node.runs() if run.state == "failed")
        assert "compute.time_limit_seconds" in reasons[0]
        assert "ValueError in" in reasons[1]
        assert "Doe" not in node.log
        assert "Phantom" not in node.log
        assert "P1" not in node.log


def test_a_prompt_that_is_not_understood_is_refused_with_a_report_that_says_so(pacs: int, tmp_path: Path) -> None:
    with node_in(tmp_path / "node", pacs) as node:
        add_prompt(node.sessions, "x", "refuse this")
        node.start()
        node.receive(write_phantom(tmp_path / "study"))
        (run,) = node.wait_for_states("refused")
        assert "not understood" in run.reason
        assert {modality: len(paths) for modality, paths in received(tmp_path / "pacs").items()} == {"SR": 1}


def test_a_prompt_that_takes_none_of_the_volumes_is_refused_with_the_reason(pacs: int, tmp_path: Path) -> None:
    with node_in(tmp_path / "node", pacs) as node:
        add_prompt(node.sessions, "x", "measure", selection={"kinds": ["CT"]})
        node.start()
        node.receive(write_phantom(tmp_path / "study"))
        (run,) = node.wait_for_states("refused")
        assert "none of the 1 volumes" in run.reason
        assert "not one of CT" in run.choices[0]["reason"]


def test_a_computing_run_is_cancelled_from_another_process_and_the_next_one_runs(pacs: int, tmp_path: Path) -> None:
    with node_in(tmp_path / "node", pacs) as node:
        add_prompt(node.sessions, "a", "sleep", priority=1)
        add_prompt(node.sessions, "b", "measure", priority=2)
        node.start()
        node.receive(write_phantom(tmp_path / "study"))
        wait_for(lambda: "inferring" in [run.state for run in node.runs()], 30, node)
        with node.sessions.begin() as session:
            run = session.query(Run).filter(Run.state == "inferring").one()
            cancel_run(session, run, "Dr. Example", run.created_at)
        wait_for(lambda: sorted(run.state for run in node.runs()) == ["cancelled", "done"], 30, node)


def test_a_second_serve_on_the_same_data_folder_is_refused(pacs: int, tmp_path: Path) -> None:
    with node_in(tmp_path / "node", pacs) as node:
        node.start()
        assert node.process is not None
        second = subprocess.run(
            [sys.executable, "-m", "tests.vp_node.runs_support.launch", str(node.folder / "config.toml"), "none", "x"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert second.returncode != 0
        assert f"Another `vp-node serve` (process {node.process.pid})" in second.stderr


def test_a_run_waits_while_the_node_is_stopped_and_goes_on_after_it(pacs: int, tmp_path: Path) -> None:
    marker = tmp_path / "computing"
    marker.touch()
    with node_in(tmp_path / "node", pacs) as node:
        add_prompt(node.sessions, "x", f"wait for {marker} and measure")
        node.start()
        node.receive(write_phantom(tmp_path / "study"))
        node.wait_for_states("inferring")
        begun = time.monotonic()
        assert node.terminate() == 0
        assert time.monotonic() - begun < 15
        assert [run.state for run in node.runs()] == ["inferring"]
        marker.unlink()
        node.start()
        node.wait_for_states("done")
