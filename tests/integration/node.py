"""A node as its user runs it: `vp-node serve` in a process of its own, asked through the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "vp_node.cli")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Node:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--config", str(self.config), "serve"], stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._listens, 60, lambda: f"the node to listen; its log ends with:\n{self.log_tail()}")

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"The node stopped with {self.process.returncode}:\n{self.log_tail()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9 of the serving process and of all that it started."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        try:
            if how is signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
        except ProcessLookupError:
            pass
        self.process.wait(timeout=60)
        self.process = None

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, "--config", str(self.config), *arguments], capture_output=True, text=True, timeout=300
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"vp-node {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}\n"
                f"The node's log ends with:\n{self.log_tail()}"
            )
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


def make_node(
    folder: Path, peers: str, port: int | None = None, accept_unknown_peers: bool = False, **completeness: float
) -> Node:
    """Writes a configuration with quick quiet times; `peers` is TOML."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    times = {"series_quiet_seconds": 1, "study_quiet_seconds": 2, "check_interval_seconds": 0.5, **completeness}
    settings = "\n".join(f"{key} = {value}" for key, value in times.items())
    (folder / "config.toml").write_text(
        f"""
[node]
data_folder = "data"

[dicom]
host = "127.0.0.1"
port = {port}
ae_titles = ["VOXELPROMPT", "VPSECOND"]
minimum_free_disk_gb = 0.1
accept_unknown_peers = {str(accept_unknown_peers).lower()}
maximum_associations_per_address = 20

[completeness]
{settings}

[compute]
threads = 1
time_limit_seconds = 600

[delivery]
first_delay_seconds = 1
longest_delay_seconds = 2

{peers}
"""
    )
    node = Node(folder, port)
    node.run("init", str(folder))
    return node


def wait_for(condition: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> Any:
    """Polls until the condition is true, and returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds:g} s for {what() if callable(what) else what}")
        time.sleep(0.3)
