"""A node under test: its folder, its configuration and its process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from vp_node.config import Config, Peer, load_config
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import Run
from vp_node.dicom.sender import send

PACS = "TESTPACS"

CONFIGURATION = """
[node]
data_folder = "data"

[dicom]
host = "127.0.0.1"
port = {port}
minimum_free_disk_gb = 0.01

[[peers]]
name = "pacs"
ae_title = "TESTPACS"
host = "127.0.0.1"
port = {pacs_port}

[completeness]
series_quiet_seconds = 0.2
study_quiet_seconds = 0.3
check_interval_seconds = 0.2

[compute]
threads = 1
time_limit_seconds = {time_limit}
memory_limit_gb = 4

[workflow]
recovery_attempts = 30

[delivery]
first_delay_seconds = 0.2
longest_delay_seconds = 0.5
{more}
"""


@dataclass
class TestNode:
    __test__ = False
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    sessions: sessionmaker[Session] = field(init=False)

    def __post_init__(self) -> None:
        engine = create_database_engine(self.config.database_url)
        upgrade(engine)
        self.sessions = session_factory(engine)

    @property
    def config(self) -> Config:
        return load_config(self.folder / "config.toml")

    @property
    def log(self) -> str:
        path = self.folder / "serve.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, point: str = "none", marker: str = "killed") -> None:
        arguments = [str(self.folder / "config.toml"), point, str(self.folder / marker)]
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.vp_node.runs_support.launch", *arguments], stdout=log, stderr=log
            )
        wait_for(self._listens, 30, self)

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until_killed(self, seconds: float = 90) -> None:
        assert self.process is not None
        assert self.process.wait(seconds) == -signal.SIGKILL, self.log[-3000:]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def receive(self, paths: list[Path]) -> None:
        reports = send(Peer(name="node", ae_title="VOXELPROMPT", host="127.0.0.1", port=self.port), paths, PACS)
        assert [report.outcome for report in reports] == ["sent"] * len(paths), self.log[-3000:]

    def runs(self) -> list[Run]:
        with self.sessions() as session:
            return list(session.query(Run).order_by(Run.created_at))

    def wait_for_states(self, *states: str, seconds: float = 120) -> list[Run]:
        """Waits until the runs, in order of creation, have these states."""
        wait_for(lambda: [run.state for run in self.runs()] == list(states), seconds, self)
        return self.runs()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def node_in(folder: Path, pacs_port: int, time_limit: float = 60, more: str = "") -> Iterator[TestNode]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    port = free_port()
    text = CONFIGURATION.format(port=port, pacs_port=pacs_port, time_limit=time_limit, more=more)
    (folder / "config.toml").write_text(text)
    node = TestNode(folder, port)
    try:
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            os.kill(node.process.pid, signal.SIGKILL)
            node.process.wait()


def wait_for(condition: Callable[[], Any], seconds: float, node: TestNode) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            states = [(run.state, run.reason) for run in node.runs()]
            raise AssertionError(f"Waited {seconds:g} s; the runs are {states}; the log ends with\n{node.log[-3000:]}")
        time.sleep(0.1)
