"""The compute process: warm, confined, killable, and clear about what went wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.vp_node.runs_support.agents import IDENTITY
from vp_model.outcome import InputVolume, Outcome
from vp_node.compute.codec import PlanJob, RunJob
from vp_node.compute.failure import ComputeFailure
from vp_node.compute.process import ComputeProcess
from vp_node.config import ComputeSection

AGENT = "tests.vp_node.runs_support.agents:load"


def make(**limits: float) -> ComputeProcess:
    return ComputeProcess(ComputeSection(threads=1, **limits), AGENT)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def compute() -> Iterator[ComputeProcess]:
    process = make(time_limit_seconds=60, memory_limit_gb=4)
    yield process
    process.close()


def ask(compute: ComputeProcess, prompt: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return compute.run(RunJob(prompt, (), folder))


def test_outcome_crosses_the_processes_unchanged(compute: ComputeProcess, tmp_path: Path) -> None:
    said: list[str] = []
    status = compute.run(RunJob("measure it", (), tmp_path), said.append)
    assert status == "answered"
    assert Outcome.load(tmp_path).transcript.prompt == "measure it"
    assert "running the model" in said


def test_process_is_kept_warm_between_jobs(compute: ComputeProcess, tmp_path: Path) -> None:
    ask(compute, "one", tmp_path)
    first = compute.pid
    ask(compute, "two", tmp_path)
    assert first is not None
    assert compute.pid == first


def test_plan_and_identity_need_no_pixels(compute: ComputeProcess) -> None:
    plan = compute.plan(PlanJob("measure it", (InputVolume("v1", "T1", "2024-01-01", 0),)))
    assert plan["status"] == "answered"
    assert plan["program"] == "# 1 volumes"
    assert compute.identity() == IDENTITY


def test_an_error_in_the_process_is_told_without_its_text_and_the_next_job_works(
    compute: ComputeProcess, tmp_path: Path
) -> None:
    with pytest.raises(ComputeFailure) as caught:
        ask(compute, "stumble", tmp_path)
    assert caught.value.kind == "internal"
    assert "ValueError" in str(caught.value)
    assert "agents.py" in str(caught.value)
    assert "Doe" not in str(caught.value)
    assert ask(compute, "again", tmp_path) == "answered"


def test_a_crash_is_named_by_its_signal_and_the_next_job_works(compute: ComputeProcess, tmp_path: Path) -> None:
    with pytest.raises(ComputeFailure, match="SIGSEGV") as caught:
        ask(compute, "crash", tmp_path)
    assert caught.value.kind == "crash"
    assert caught.value.may_pass
    assert ask(compute, "again", tmp_path) == "answered"


@pytest.mark.parametrize("prompt", ["grow at once", "grow slowly"])
def test_memory_limit_ends_the_job_and_the_next_one_works(tmp_path: Path, prompt: str) -> None:
    with closing(make(memory_limit_gb=1.5)) as compute:
        with pytest.raises(ComputeFailure) as caught:
            ask(compute, prompt, tmp_path)
        assert caught.value.kind == "memory"
        assert "compute.memory_limit_gb" in str(caught.value)
        assert not caught.value.may_pass
        assert ask(compute, "again", tmp_path) == "answered"


def test_time_limit_kills_the_job_and_the_next_one_works(tmp_path: Path) -> None:
    with closing(make(time_limit_seconds=6)) as compute:
        ask(compute, "warm up", tmp_path)
        begun = time.monotonic()
        with pytest.raises(ComputeFailure) as caught:
            ask(compute, "sleep", tmp_path)
        assert caught.value.kind == "time"
        assert 5 < time.monotonic() - begun < 10
        assert ask(compute, "again", tmp_path) == "answered"


def test_output_limit_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with closing(make(output_limit_gb=1e-6)) as compute, pytest.raises(ComputeFailure) as caught:
        ask(compute, "measure " * 500, tmp_path)
    assert caught.value.kind == "output"
    assert "compute.output_limit_gb" in str(caught.value)


def test_cancelling_kills_a_job_within_a_second(compute: ComputeProcess, tmp_path: Path) -> None:
    ask(compute, "warm up", tmp_path)
    begun = time.monotonic()
    with pytest.raises(ComputeFailure) as caught:
        compute.run(RunJob("sleep", (), tmp_path), cancelled=lambda: time.monotonic() > begun + 0.3)
    assert caught.value.kind == "cancelled"
    assert time.monotonic() - begun < 2


def test_a_process_killed_between_jobs_is_replaced(compute: ComputeProcess, tmp_path: Path) -> None:
    ask(compute, "one", tmp_path)
    before = compute.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    time.sleep(0.2)
    assert ask(compute, "two", tmp_path) == "answered"
    assert compute.pid != before


@pytest.mark.skipif(sys.platform != "linux", reason="Network namespaces are Linux's.")
def test_process_cannot_reach_even_this_machine(compute: ComputeProcess, tmp_path: Path) -> None:
    allowed = subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    if not allowed:
        pytest.skip("This system allows no network namespace.")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ComputeFailure, match=r"OSError|ConnectionRefusedError"):
            ask(compute, f"connect {server.getsockname()[1]}", tmp_path)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_process_ends_with_its_parent() -> None:
    code = (
        "from tests.vp_node.test_compute_process import make\n"
        "import os, signal\n"
        "compute = make(); compute.identity()\n"
        "print(compute.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_a_checkpoint_that_cannot_be_loaded_is_a_failure_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP_TEST_BROKEN_CHECKPOINT", "1")
    with closing(make()) as compute, pytest.raises(ComputeFailure) as caught:
        compute.identity()
    assert caught.value.kind == "start"
