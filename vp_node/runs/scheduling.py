"""When things happen: interval jobs, safe to run in every worker because each does nothing that is done already."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from apscheduler.executors.pool import ThreadPoolExecutor as JobThreads
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import select, update

from vp_node.compute.failure import place_of
from vp_node.database.models import Run, RunState, Study, StudyState
from vp_node.intake.completeness import close_whole_studies
from vp_node.runs.commitment import ask_due, due_commitments
from vp_node.runs.context import RunContext
from vp_node.runs.delivery import deliver_due, due_destinations
from vp_node.runs.engine import RunEngine
from vp_node.runs.locks import holding
from vp_node.runs.planning import plan_later_studies, plan_standing_prompts
from vp_node.runs.understanding import not_understood, read_revision, store_understanding, understand_revision

LOG = logging.getLogger(__name__)

QUEUE_SECONDS = 1.0
DELIVERY_SECONDS = 1.0
COMMITMENT_SECONDS = 2.0
RECOVERY_SECONDS = 15.0
DESTINATIONS_AT_A_TIME = 8


class NodeScheduler:
    """The periodic jobs of one worker."""

    def __init__(self, context: RunContext, engine: RunEngine, model_hash: str) -> None:
        self._context = context
        self._engine = engine
        self._model_hash = model_hash
        self._senders = ThreadPoolExecutor(DESTINATIONS_AT_A_TIME, thread_name_prefix="delivery")
        self._sending: dict[str, Future[object]] = {}
        self._asking: dict[str, Future[object]] = {}
        self._scheduler = BackgroundScheduler(executors={"default": JobThreads(4)}, timezone="UTC")

    def start(self) -> None:
        self._every(self._context.config.completeness.check_interval_seconds, self.settle_studies)
        self._every(QUEUE_SECONDS, self.queue_runs)
        self._every(DELIVERY_SECONDS, self.deliver)
        self._every(COMMITMENT_SECONDS, self.ask_for_commitment)
        self._every(RECOVERY_SECONDS, self.recover)
        self._scheduler.start()

    def stop(self) -> None:
        """Waits for jobs that have begun. `context.stopping` must be set before."""
        self._scheduler.shutdown(wait=True)
        self._senders.shutdown(wait=True, cancel_futures=True)

    def settle_studies(self) -> None:
        """Closes the studies that are whole, and asks for the runs of the prompts that match them."""
        context = self._context
        with holding(context.locks, "settling of studies") as taken:
            if not taken:
                return
            close_whole_studies(context.sessions, context.config, context.now())
            with context.sessions() as session:
                waiting = not_understood(session)
            for study_id in waiting:
                if context.stopping.is_set():
                    return
                guarded("settle a study", settle_study, context, study_id, self._model_hash)

    def queue_runs(self) -> None:
        """Opens the runs whose time has come, and hands what waits to the engine."""
        open_scheduled_runs(self._context, self._context.now())
        self._engine.enqueue_waiting()

    def deliver(self) -> None:
        """Begins sending to every destination for which something is due; slow ones delay no other."""
        with self._context.sessions() as session:
            destinations = due_destinations(session, self._context.now())
        for destination in destinations:
            running = self._sending.get(destination)
            if running is None or running.done():
                self._sending[destination] = self._senders.submit(
                    guarded, f"deliver to {destination}", deliver_due, self._context, destination
                )

    def ask_for_commitment(self) -> None:
        """Asks destinations to promise that they keep what they were sent."""
        with self._context.sessions() as session:
            destinations = due_commitments(session, self._context.now())
        for destination in destinations:
            running = self._asking.get(destination)
            if running is None or running.done():
                self._asking[destination] = self._senders.submit(
                    guarded, f"ask {destination} for commitment", ask_due, self._context, destination
                )

    def recover(self) -> None:
        """Takes over from workers that are gone, and parks what the engine has given up."""
        self._engine.recover_dead_workers()
        self._engine.park_lost()

    def _every(self, seconds: float, job: Callable[[], None]) -> None:
        self._scheduler.add_job(
            guarded,
            "interval",
            seconds=seconds,
            args=(job.__name__, job),
            id=job.__name__,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
            next_run_time=self._context.now(),
        )


def guarded(name: str, job: Callable[..., object], *arguments: object) -> object:
    """Runs a periodic job; an error is logged without its text, which may quote a row, and the job runs again later."""
    try:
        return job(*arguments)
    except Exception as error:  # noqa: BLE001 (the boundary of a periodic job: the next interval tries again)
        LOG.error("The periodic job %r failed: %s in %s.", name, type(error).__name__, place_of(error))
        return None


def settle_study(context: RunContext, study_id: int, model_hash: str) -> tuple[str, ...]:
    """Understands a closed study and asks for its runs; returns the ids of the new runs.

    Volumes and runs are written in one transaction: a study that has volumes has been planned.
    """
    with context.sessions() as session:
        read = read_revision(session, study_id, context.data_folder)
    understanding = understand_revision(read)
    with context.sessions.begin() as session:
        study = session.get_one(Study, study_id)
        if study.state != StudyState.COMPLETE or study.revision != read.revision:
            return ()  # more arrived meanwhile: the next revision is looked at when it is closed
        store_understanding(session, study, understanding, context.data_folder)
        priors = context.config.priors
        runs = plan_standing_prompts(session, study, context.data_folder, model_hash, context.now(), priors)
        runs += plan_later_studies(session, study, context.data_folder, model_hash, context.now(), priors)
        identifiers = tuple(run.id for run in runs)
    LOG.info("Study %d, revision %d: %d run(s) asked for.", study_id, read.revision, len(identifiers))
    return identifiers


def open_scheduled_runs(context: RunContext, now: datetime) -> int:
    """Queues the scheduled runs whose time window has opened; returns how many."""
    with context.sessions.begin() as session:
        due = select(Run.id).where(Run.state == RunState.SCHEDULED, Run.not_before <= now)
        identifiers = list(session.scalars(due))
        if identifiers:
            session.execute(
                update(Run)
                .where(Run.id.in_(identifiers), Run.state == RunState.SCHEDULED)
                .values(state=RunState.QUEUED)
            )
    return len(identifiers)
