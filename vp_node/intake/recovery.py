"""What a start does about the crash before it: half-received files, files without a row, open associations."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from vp_node.database.models import Association, Instance, now
from vp_node.intake.store import INCOMING_FOLDER, INSTANCES_FOLDER, move_durably

LOG = logging.getLogger(__name__)

UNINDEXED_FOLDER = "unindexed"
"""Files without a row are kept here: an index that was put back from an older copy knows less than the disk, and what
it does not know was acknowledged."""


def recover(sessions: sessionmaker[Session], data_folder: Path) -> None:
    """Run once at the start of `serve`, before the listener starts and while no other process receives.

    What had not arrived whole is removed: it was not acknowledged, so its sender still has it and sends it again.
    """
    for path in (data_folder / INCOMING_FOLDER).glob("*"):
        path.unlink()
    with sessions() as session:
        known = set(session.scalars(select(Instance.path)))
    orphans = [
        path
        for path in (data_folder / INSTANCES_FOLDER).rglob("*.dcm")
        if str(path.relative_to(data_folder)) not in known
    ]
    for path in orphans:
        move_durably(path, data_folder / UNINDEXED_FOLDER / path.name)
    if orphans:
        LOG.warning(
            "%d files have no row in the index and were moved to %s. After a crash they were not acknowledged, and may "
            "be deleted; after a restored database, send them to the node again.",
            len(orphans),
            data_folder / UNINDEXED_FOLDER,
        )
    with sessions.begin() as session:
        left = session.scalars(select(Association).where(Association.closed_at.is_(None))).all()
        for association in left:
            association.closed_at, association.ended_by = now(), "restart"
    if left:
        LOG.info("After a crash: %d associations closed.", len(left))
