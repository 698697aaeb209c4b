"""A worker without a model, in a process of its own: `python -m … FOLDER DATABASE NAME`.

Each step of a run writes a line into FOLDER/steps; the step `infer` waits while FOLDER/hold is there, and the worker
kills itself in it when FOLDER/die is there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from vp_node.config import Config, DatabaseSection, NodeSection, WorkflowSection
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import RunState
from vp_node.runs.context import ComputePool, RunContext, WorkerStopping
from vp_node.runs.engine import WORKER_LOCK, RunEngine
from vp_node.runs.locks import locks_for
from vp_node.runs.states import advance

STEPS = ("gather", "infer", "commit")


def make_context(folder: Path, url: str) -> RunContext:
    config = Config(
        node=NodeSection(data_folder=folder),
        database=DatabaseSection(url=url),
        workflow=WorkflowSection(recovery_attempts=2),
    )
    database = create_database_engine(config.database_url)
    upgrade(database)
    return RunContext(config, session_factory(database), ComputePool(_no_process, 0), locks_for(database, folder))


def _no_process() -> None:
    raise AssertionError


def perform(context: RunContext, step: str, run_id: str, attempt: int) -> str:
    folder = context.data_folder
    with (folder / "steps").open("a") as file:
        file.write(f"{os.environ.get('WORKER', 'test')} {step} {run_id} {attempt}\n")
    if step == "infer":
        while (folder / "hold").exists():
            if context.stopping.is_set():
                raise WorkerStopping
            time.sleep(0.05)
        if (folder / "die").exists():
            os.kill(os.getpid(), signal.SIGKILL)
    if step == "commit":
        with context.sessions.begin() as session:
            advance(session, run_id, attempt, RunState.DONE)
    return "next"


def main() -> None:
    folder, url, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.environ["WORKER"] = name
    context = make_context(folder, url)
    assert context.locks.take(WORKER_LOCK.format(name))
    engine = RunEngine(context, name, STEPS, perform)
    engine.start()
    while not (folder / f"stop {name}").exists():
        engine.enqueue_waiting()
        engine.recover_dead_workers()
        engine.park_lost()
        time.sleep(0.2)
    context.stopping.set()
    engine.stop()


if __name__ == "__main__":
    main()
