"""Is the node alive? Each worker writes a heartbeat into the data folder; anyone who can read it can tell."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vp_node.config import Config
from vp_node.database.models import Delivery, DeliveryState, Run, RunState, Study, StudyState

HEARTBEAT_SECONDS = 10.0
SILENT_AFTER = timedelta(seconds=4 * HEARTBEAT_SECONDS)
GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Heartbeat:
    """What a worker last said of itself."""

    worker: str
    process: int
    state: str
    """`ready` or `stopped`."""
    at: datetime
    port: int | None
    """Of the listener; None for a worker without one."""
    model: str
    """Name, version and the beginning of the content hash."""

    def is_alive(self, now: datetime) -> bool:
        return self.state == "ready" and now - self.at <= SILENT_AFTER


@dataclass(frozen=True)
class Health:
    """The node at a glance."""

    workers: tuple[Heartbeat, ...]
    problems: tuple[str, ...]
    """One sentence each; none: all is well."""
    free_disk_gb: float
    receiving: int
    """Studies that are still arriving."""
    waiting: int
    """Runs that have not begun."""
    running: int
    failed: int
    pending_deliveries: int
    dead_deliveries: int

    @property
    def ok(self) -> bool:
        return not self.problems


def write_heartbeat(data_folder: Path, heartbeat: Heartbeat) -> None:
    """Replaces the worker's heartbeat in one step, so that a reader never sees half of it."""
    folder = data_folder / "health"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{heartbeat.worker}.json"
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps({**asdict(heartbeat), "at": heartbeat.at.isoformat()}), encoding="utf-8")
    temporary.replace(path)


def read_heartbeats(data_folder: Path) -> tuple[Heartbeat, ...]:
    """Of all workers that ever used the data folder, the latest first."""
    found = []
    for path in (data_folder / "health").glob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        found.append(Heartbeat(**{**data, "at": datetime.fromisoformat(data["at"])}))
    return tuple(sorted(found, key=lambda heartbeat: heartbeat.at, reverse=True))


def health(config: Config, session: Session, now: datetime) -> Health:
    """Looks at workers, disk, queue and deliveries."""
    workers = read_heartbeats(config.node.data_folder)
    free = shutil.disk_usage(config.node.data_folder).free / GIGABYTE
    dead = _count(session, Delivery.id, Delivery.state == DeliveryState.DEAD)
    failed = _count(session, Run.id, Run.state == RunState.FAILED)
    held = _count(session, Study.id, Study.state == StudyState.HELD)
    problems = []
    if not any(worker.is_alive(now) for worker in workers):
        problems.append("No worker is alive. Start one with `vp-node serve`.")
    if free < config.dicom.minimum_free_disk_gb:
        problems.append(
            f"{free:.1f} GB of disk are free, less than dicom.minimum_free_disk_gb: studies are refused meanwhile."
        )
    if dead:
        problems.append(f"{dead} deliveries were given up. See `vp-node deliveries`.")
    if failed:
        problems.append(f"{failed} runs failed. See `vp-node runs`.")
    if held:
        problems.append(f"{held} studies are held, because they never fell quiet. See `vp-node studies`.")
    return Health(
        workers=workers,
        problems=tuple(problems),
        free_disk_gb=free,
        receiving=_count(session, Study.id, Study.state == StudyState.RECEIVING),
        waiting=_count(session, Run.id, Run.state.in_([RunState.QUEUED, RunState.SCHEDULED])),
        running=_count(
            session,
            Run.id,
            Run.state.in_([RunState.GATHERING, RunState.INFERRING, RunState.ENCODING, RunState.CHECKING]),
        ),
        failed=failed,
        pending_deliveries=_count(session, Delivery.id, Delivery.state == DeliveryState.PENDING),
        dead_deliveries=dead,
    )


def _count(session: Session, column: object, condition: object) -> int:
    return int(session.scalar(select(func.count(column)).where(condition)) or 0)  # type: ignore[arg-type]
