"""What the steps of runs and the periodic jobs work with: one value, made when a worker starts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from vp_node.compute.process import ComputeProcess
from vp_node.config import Config
from vp_node.runs.locks import Locks


class ComputePool:
    """As many compute processes as there are runs at a time; each is started when it is first needed."""

    def __init__(self, make: Callable[[], ComputeProcess], size: int) -> None:
        self._all = [make() for _ in range(size)]
        self._free: queue.LifoQueue[ComputeProcess] = queue.LifoQueue()  # the last used is the warm one
        for process in reversed(self._all):
            self._free.put(process)

    @contextmanager
    def process(self) -> Iterator[ComputeProcess]:
        """Waits for a process that is not busy."""
        taken = self._free.get()
        try:
            yield taken
        finally:
            self._free.put(taken)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._all if process.pid is not None]

    def close(self) -> None:
        for process in self._all:
            process.close()


@dataclass(frozen=True)
class RunContext:
    config: Config
    sessions: sessionmaker[Session]
    compute: ComputePool
    locks: Locks
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the worker ends: what is computing is left, to be resumed by the next worker."""

    @property
    def data_folder(self) -> Path:
        return self.config.node.data_folder

    def run_folder(self, run_id: str, attempt: int) -> Path:
        """Where one attempt of a run keeps its files."""
        return self.data_folder / "runs" / run_id / str(attempt)

    def now(self) -> datetime:
        return datetime.now(UTC)


class WorkerStopping(BaseException):
    """The worker ends in the middle of a step. No `Exception`, so that the engine records no outcome of the step and
    the next worker repeats it."""
