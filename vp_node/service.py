"""`vp-node serve` and `vp-node worker`: everything of a node in one process, with one child for computing.

`serve` listens, settles studies, runs prompts and delivers results. `worker` does all but listen, and is for more
computing machines on the same database and data folder.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial

from sqlalchemy.orm import Session, sessionmaker

from vp_model.outcome import ModelIdentity
from vp_node.compute.child import DEFAULT_AGENT
from vp_node.compute.failure import ComputeFailure
from vp_node.compute.process import ComputeProcess
from vp_node.config import Config
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.dicom.listener import Listener, ListenerError
from vp_node.operations.health import HEARTBEAT_SECONDS, Heartbeat, write_heartbeat
from vp_node.operations.logging import configure_logging
from vp_node.runs.commitment import keep_answer
from vp_node.runs.context import ComputePool, RunContext
from vp_node.runs.engine import WORKER_LOCK, RunEngine
from vp_node.runs.locks import FileLocks, Locks, locks_for
from vp_node.runs.scheduling import NodeScheduler
from vp_node.runs.steps import STEPS, perform

LOG = logging.getLogger(__name__)

SERVE_LOCK = "serve"
MAXIMUM_WORKERS = 64


class ServiceError(RuntimeError):
    """The node cannot start; the message says why and what to do."""


def serve(config: Config, agent: str = DEFAULT_AGENT, stop: threading.Event | None = None) -> None:
    """Runs a whole node until SIGTERM, SIGINT or `stop`.

    Raises:
        ServiceError: another `serve` uses the data folder, a port is taken, or the checkpoint cannot be loaded.
    """
    _prepare(config)
    locks = FileLocks(config.node.data_folder / "locks")
    if not locks.take(SERVE_LOCK):
        raise ServiceError(
            f"Another `vp-node serve` (process {locks.holder(SERVE_LOCK) or 'unknown'}) uses the data folder "
            f"{config.node.data_folder}. Stop it, or give this node a data folder of its own."
        )
    try:
        _work(config, agent, stop or threading.Event(), listens=True)
    finally:
        locks.release(SERVE_LOCK)


def worker(config: Config, agent: str = DEFAULT_AGENT, stop: threading.Event | None = None) -> None:
    """Runs prompts, settles studies and delivers results beside a `serve`, until SIGTERM, SIGINT or `stop`.

    Raises:
        ServiceError: the checkpoint cannot be loaded.
    """
    _prepare(config)
    _work(config, agent, stop or threading.Event(), listens=False)


def _prepare(config: Config) -> None:
    configure_logging(config)
    config.node.data_folder.mkdir(parents=True, exist_ok=True)


def _work(config: Config, agent: str, stop: threading.Event, *, listens: bool) -> None:
    with ExitStack() as stack:
        stack.enter_context(_stopping_on_signals(stop))
        database = create_database_engine(config.database_url)
        stack.callback(database.dispose)
        upgrade(database)
        sessions = session_factory(database)
        port = stack.enter_context(_listening(config, sessions)) if listens else None
        pool = ComputePool(lambda: ComputeProcess(config.compute, agent), config.workflow.concurrent_runs)
        stack.callback(pool.close)
        model = _load_model(pool)
        context = RunContext(config, sessions, pool, locks_for(database, config.node.data_folder))
        name = take_worker_name(context.locks)
        stack.callback(context.locks.release, WORKER_LOCK.format(name))
        beat = partial(_beat, config, name, port, model)
        stack.callback(beat, "stopped")
        engine = RunEngine(context, name, tuple(STEPS), perform)
        engine.start()
        stack.callback(engine.stop)
        scheduler = NodeScheduler(context, engine, model.content_hash)
        scheduler.start()
        stack.callback(scheduler.stop)
        stack.callback(pool.close)
        stack.callback(context.stopping.set)
        LOG.info(
            "Ready: %s, worker %s, model %s %s (%s), data in %s.",
            "working" if port is None else f"listening on port {port}",
            name,
            model.name,
            model.version,
            model.content_hash[:12],
            config.node.data_folder,
        )
        beat("ready")
        while not stop.wait(HEARTBEAT_SECONDS):
            beat("ready")
        LOG.info("Stopping. What is computing is resumed at the next start.")


@contextmanager
def _listening(config: Config, sessions: sessionmaker[Session]) -> Iterator[int]:
    """Yields the port. Studies are taken from now on, also while the model is still loading."""
    listener = Listener(config, sessions, keep_answer(sessions, config))
    try:
        listener.start()
    except ListenerError as error:
        raise ServiceError(str(error)) from error
    try:
        yield listener.port
    finally:
        listener.stop()


def _load_model(pool: ComputePool) -> ModelIdentity:
    try:
        with pool.process() as process:
            return process.identity()
    except ComputeFailure as failure:
        raise ServiceError(f"The model cannot be used: {failure} See compute.checkpoint.") from failure


def _beat(config: Config, worker: str, port: int | None, model: ModelIdentity, state: str) -> None:
    heartbeat = Heartbeat(
        worker=worker,
        process=os.getpid(),
        state=state,
        at=datetime.now(UTC),
        port=port,
        model=f"{model.name} {model.version} ({model.content_hash[:12]})",
    )
    write_heartbeat(config.node.data_folder, heartbeat)


def take_worker_name(locks: Locks) -> str:
    """The first name of this machine that no living worker has, so that a worker that was killed gets its name, and
    the runs that it had begun, back.

    Raises:
        ServiceError
    """
    machine = socket.gethostname()
    for number in range(1, MAXIMUM_WORKERS + 1):
        name = f"{machine}-{number}"
        if locks.take(WORKER_LOCK.format(name)):
            return name
    raise ServiceError(f"{MAXIMUM_WORKERS} workers run on this machine already.")


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Sets `stop` on SIGTERM and SIGINT; does nothing outside the main thread, where Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: object) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
