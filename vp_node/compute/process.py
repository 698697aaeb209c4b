"""The parent's end of the compute process: starts it on demand, keeps it warm, watches its limits, kills it."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from vp_model.outcome import ModelIdentity
from vp_node.compute.child import DEFAULT_AGENT
from vp_node.compute.codec import PlanJob, RunJob
from vp_node.compute.failure import ComputeFailure
from vp_node.config import ComputeSection

LOG = logging.getLogger(__name__)

GIGABYTE = 1 << 30
START_SECONDS = 120.0
"""Importing Python's libraries from a cold disk; the model is loaded in the time of its first job."""
POLL_SECONDS = 0.1
FAULT_LINES = 20
LEAVES_NO_PROCESS = ("memory", "internal")
"""Kinds of failure after which the process ends itself, since its heap or its model may be in an unknown state."""

Progress = Callable[[str], None]


def _ignore(_: str) -> None:
    pass


def _never() -> bool:
    return False


class ComputeProcess:
    """One compute process; jobs of several threads wait for each other."""

    def __init__(self, config: ComputeSection, agent: str = DEFAULT_AGENT) -> None:
        self._config = config
        self._agent = agent
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._faults: deque[str] = deque(maxlen=FAULT_LINES)
        self._number = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the running process, or None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(self, job: RunJob, progress: Progress = _ignore, cancelled: Callable[[], bool] = _never) -> str:
        """Runs a prompt on volumes; the outcome is saved in `job.output`.

        Args:
            progress: called with a few words whenever the job gets somewhere.
            cancelled: asked several times a second; True kills the process.

        Returns:
            status of the outcome: `answered`, `refused` or `failed`.

        Raises:
            ComputeFailure
        """
        answer = self._ask("run", job.to_json(), progress, cancelled, job.output)
        return str(answer["status"])

    def plan(self, job: PlanJob) -> dict[str, Any]:
        """What the model would do with a prompt (`vp_model.agent.Plan` as plain values), without pixels.

        Raises:
            ComputeFailure
        """
        plan: dict[str, Any] = self._ask("plan", job.to_json())["plan"]
        return plan

    def identity(self) -> ModelIdentity:
        """Raises ComputeFailure when the checkpoint cannot be loaded."""
        return ModelIdentity(**self._ask("identity", {})["identity"])

    def close(self) -> None:
        """Kills the process, in the middle of a job too; the job's caller gets a ComputeFailure."""
        self._closed = True
        process = self._process
        if process is not None:
            _kill(process)

    def _ask(
        self,
        kind: str,
        job: Mapping[str, Any],
        progress: Progress = _ignore,
        cancelled: Callable[[], bool] = _never,
        output: Path | None = None,
    ) -> dict[str, Any]:
        with self._lock, tempfile.TemporaryDirectory(prefix="vp-compute-") as folder:
            path = Path(folder) / "job.json"
            path.write_text(json.dumps(job), encoding="utf-8")
            process = self._started()
            self._number += 1
            try:
                requests = cast(IO[str], process.stdin)
                requests.write(json.dumps({"id": self._number, "type": kind, "job": str(path)}) + "\n")
                requests.flush()
            except OSError as error:
                raise self._death(process) from error
            return self._wait(process, self._number, progress, cancelled, output)

    def _started(self) -> subprocess.Popen[str]:
        if self._closed:
            raise ComputeFailure("cancelled", "The node is stopping.")
        process = self._process
        if process is not None and process.poll() is None:
            return process
        if process is not None:
            _kill(process)
        self._messages = queue.Queue()
        self._faults = deque(maxlen=FAULT_LINES)
        process = self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_environment(self._config.threads),
            start_new_session=True,
        )
        answers, errors = cast(IO[str], process.stdout), cast(IO[str], process.stderr)
        threading.Thread(target=_read_messages, args=(answers, self._messages), daemon=True).start()
        threading.Thread(target=_keep_faults, args=(errors, self._faults), daemon=True).start()
        try:
            ready = self._messages.get(timeout=START_SECONDS)
        except queue.Empty:
            _kill(process)
            raise ComputeFailure("start", f"The compute process did not start within {START_SECONDS:g} s.") from None
        if ready is None:
            raise self._death(process)
        for sentence in ready["missing"]:
            LOG.warning("%s", sentence)
        LOG.info("The compute process runs as process %d.", process.pid)
        return process

    def _command(self) -> list[str]:
        config = self._config
        command = [sys.executable, "-m", "vp_node.compute.child", "--agent", self._agent, "--device", config.device]
        command += ["--threads", str(config.threads)]
        command += ["--memory-bytes", str(int(config.memory_limit_gb * GIGABYTE))]
        command += ["--output-bytes", str(int(config.output_limit_gb * GIGABYTE))]
        if config.checkpoint is not None:
            command += ["--checkpoint", str(config.checkpoint)]
        return command

    def _wait(
        self,
        process: subprocess.Popen[str],
        number: int,
        progress: Progress,
        cancelled: Callable[[], bool],
        output: Path | None,
    ) -> dict[str, Any]:
        deadline = time.monotonic() + self._config.time_limit_seconds
        while True:
            try:
                message = self._messages.get(timeout=POLL_SECONDS)
            except queue.Empty:
                failure = self._passed_limit(process, deadline, cancelled, output)
                if failure is not None:
                    _kill(process)
                    raise failure from None
                continue
            if message is None:
                raise self._death(process)
            if message.get("id") != number:
                continue
            if message["event"] == "progress":
                progress(message["message"])
            elif message["event"] == "failed":
                if message["kind"] in LEAVES_NO_PROCESS:
                    _kill(process)
                raise ComputeFailure(message["kind"], message["message"])
            else:
                if output is not None and folder_bytes(output) > self._config.output_limit_gb * GIGABYTE:
                    raise self._too_much_output()
                return message

    def _passed_limit(
        self, process: subprocess.Popen[str], deadline: float, cancelled: Callable[[], bool], output: Path | None
    ) -> ComputeFailure | None:
        config = self._config
        if cancelled():
            return ComputeFailure("cancelled", "Cancelled while it was computing.")
        if time.monotonic() > deadline:
            limit = config.time_limit_seconds
            return ComputeFailure(
                "time", f"It computed for longer than the {limit:g} s that compute.time_limit_seconds allows."
            )
        if resident_bytes(process.pid) > config.memory_limit_gb * GIGABYTE:
            return ComputeFailure(
                "memory", f"It used more than the {config.memory_limit_gb:g} GB that compute.memory_limit_gb allows."
            )
        if output is not None and folder_bytes(output) > config.output_limit_gb * GIGABYTE:
            return self._too_much_output()
        return None

    def _too_much_output(self) -> ComputeFailure:
        limit = self._config.output_limit_gb
        return ComputeFailure(
            "output", f"Its outcome is larger than the {limit:g} GB that compute.output_limit_gb allows."
        )

    def _death(self, process: subprocess.Popen[str]) -> ComputeFailure:
        """What to say of a process that ended without an answer."""
        _kill(process)
        if self._closed:
            return ComputeFailure("cancelled", "The node is stopping.")
        code = process.returncode
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        if -code == signal.SIGKILL:
            how += " (the system kills processes when memory runs out)"
        if self._faults:
            LOG.error("The compute process left this trace:\n%s", "\n".join(self._faults))
        return ComputeFailure("crash", f"The compute process ended {how} before it answered.")


def resident_bytes(pid: int) -> int:
    """Memory that a process holds in RAM; 0 where the system does not tell, or the process is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _environment(threads: int) -> dict[str, str]:
    """The child's environment: the parent's, without what could change what it computes or where it connects."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    kept["HF_HUB_OFFLINE"] = "1"
    kept["PYTHONUNBUFFERED"] = "1"
    if threads:
        kept["OMP_NUM_THREADS"] = str(threads)
    return kept


def _read_messages(stream: IO[str], messages: queue.Queue[dict[str, Any] | None]) -> None:
    try:
        for line in stream:
            messages.put(json.loads(line))
    except (ValueError, OSError):
        LOG.error("The compute process sent something that is no message.")
    finally:
        messages.put(None)


def _keep_faults(stream: IO[str], faults: deque[str]) -> None:
    """Keeps Python's trace of a fatal signal, which names files and lines; all else may quote data sets."""
    for line in stream:
        if line.startswith(("Fatal Python error", "  File ")):
            faults.append(line.rstrip())


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            LOG.debug("The compute process was gone before its input was closed.")
