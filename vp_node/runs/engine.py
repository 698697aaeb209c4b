"""Runs as durable workflows: DBOS remembers which step of a run is done, queues runs and resumes them after a crash.

A workflow's arguments are the run's id and attempt, and what a step returns is one word, so that the engine's tables
hold neither pixels nor patient data; its serializer writes JSON, not pickle. The node's own database says what a run
is and how it stands; runs wait there, and `enqueue_waiting` hands them to the engine, under names that make a second
handing-over no second run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dbos import DBOS, DBOSConfig
from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.database.models import FINAL_RUN_STATES, Run, RunState, Study
from vp_node.operations.audit import record
from vp_node.runs.context import RunContext
from vp_node.runs.identity import WORKFLOW_VERSION, workflow_identifier
from vp_node.runs.states import RunStopped, advance

LOG = logging.getLogger(__name__)

APPLICATION = "vp-node"
APPLICATION_VERSION = WORKFLOW_VERSION
QUEUE = "runs"
WORKFLOW = "run"
WORKER_LOCK = "worker {}"
LOST = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED")
MAXIMUM_PRIORITY = 2**31 - 1

Perform = Callable[[RunContext, str, str, int], str]


class RunEngine:
    """The engine of one worker. There is one in a process: DBOS keeps its state globally."""

    def __init__(self, context: RunContext, worker: str, steps: Sequence[str], perform: Perform) -> None:
        """
        Args:
            worker: name of this worker, the same after a restart, and of no other worker that runs.
            steps: of every run, in their order.
            perform: does a step of a run and says `next`, or how the run ended.
        """
        self._context = context
        self._worker = worker
        self._steps = tuple(steps)
        self._perform = perform
        self._enqueued: set[str] = set()

    def start(self) -> None:
        """Connects, resumes what this worker had begun, and takes runs from the queue from now on."""
        from dbos._serialization import DBOSPortableJSON

        context = self._context
        settings: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": context.config.workflow_database_url,
            "application_version": APPLICATION_VERSION,
            "executor_id": self._worker,
            "serializer": DBOSPortableJSON,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        DBOS(config=settings)

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=context.config.workflow.recovery_attempts)
        def run(run_id: str, attempt: int) -> str:
            for step in self._steps:
                said = DBOS.run_step({"name": step}, self._perform, context, step, run_id, attempt)
                if said != "next":
                    return said
            return "done"

        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=context.config.workflow.concurrent_runs,
            polling_interval_sec=0.5,
            on_conflict="always_update",
        )

    def stop(self) -> None:
        """Leaves what has begun to the next worker with this name. `context.stopping` must be set before."""
        DBOS.destroy(destroy_registry=True)

    def enqueue_waiting(self) -> int:
        """Hands over the runs that wait in the node's database; returns how many were new to this worker.

        A run whose workflow is unknown to the engine (its database was lost) is begun again.
        """
        with self._context.sessions() as session:
            rows = waiting_runs(session)
        new = [row for row in rows if workflow_identifier(row.id, row.attempt) not in self._enqueued]
        for row in new:
            name = workflow_identifier(row.id, row.attempt)
            options = {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": name,
                "app_version": APPLICATION_VERSION,
                "priority": min(max(row.priority, 1), MAXIMUM_PRIORITY),
            }
            DBOS.enqueue_workflow_with_options(options, row.id, row.attempt)  # type: ignore[arg-type]
            self._enqueued.add(name)
        self._enqueued &= {workflow_identifier(row.id, row.attempt) for row in rows}
        return len(new)

    def park_lost(self) -> int:
        """Marks runs failed whose workflow the engine has given up; returns how many.

        Such a workflow was resumed `workflow.recovery_attempts` times and crashed its worker each time, or could not
        write down how a step ended.
        """
        with self._context.sessions() as session:
            rows = session.execute(
                select(Run.id, Run.attempt).where(
                    Run.state.not_in([*FINAL_RUN_STATES, RunState.SCHEDULED, RunState.SENDING])
                )
            ).all()
        if not rows:
            return 0
        names = {workflow_identifier(row.id, row.attempt): row for row in rows}
        found = DBOS.list_workflows(workflow_ids=list(names), status=list(LOST), load_input=False, load_output=False)
        return sum(self._park(*names[item.workflow_id], item.status) for item in found)

    def _park(self, run_id: str, attempt: int, status: str) -> bool:
        if status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
            times = self._context.config.workflow.recovery_attempts
            reason = f"It was resumed {times} times after a crash and did not come through. Retry it by hand."
        else:
            reason = f"The workflow engine gave it up ({status}). Retry it by hand."
        try:
            with self._context.sessions.begin() as session:
                advance(session, run_id, attempt, RunState.FAILED, reason=reason, finished_at=self._context.now())
                record(session, "node", "run failed", run_id, reason=reason)
        except RunStopped:
            return False
        return True

    def recover_dead_workers(self) -> list[str]:
        """Takes over the runs of workers that are gone; returns the names of these workers.

        A worker holds a lock as long as it lives; DBOS itself does not notice that one is gone.
        """
        pending = DBOS.list_workflows(status="PENDING", name=WORKFLOW, load_input=False, load_output=False)
        workers = {item.executor_id for item in pending if item.executor_id} - {self._worker}
        dead = sorted(name for name in workers if not self._context.locks.is_held(WORKER_LOCK.format(name)))
        if dead:
            LOG.warning("Taking over the runs of %s, which is gone.", ", ".join(dead))
            recover_workflows_of(dead)
        return dead


class WaitingRun(NamedTuple):
    id: str
    attempt: int
    priority: int


def waiting_runs(session: Session) -> list[WaitingRun]:
    """The runs to be done, in their order.

    A run waits until somebody has written down what its study holds: before, there is nothing that it could take.
    """
    query = (
        select(Run.id, Run.attempt, Run.priority)
        .join(Study, Run.study_id == Study.id)
        .where(Run.state.not_in([*FINAL_RUN_STATES, RunState.SCHEDULED, RunState.SENDING]))
        .where(Run.revision <= Study.understood_revision)
        .order_by(Run.priority, Run.created_at)
    )
    return [WaitingRun(*row) for row in session.execute(query)]


def recover_workflows_of(workers: Sequence[str]) -> int:
    """Puts the begun workflows of workers back into the queue, to go on at the step that was not finished.

    The one use of a private function of DBOS; `test_runs_recovery.py` holds its contract.
    """
    return len(DBOS._recover_pending_workflows(list(workers)))
