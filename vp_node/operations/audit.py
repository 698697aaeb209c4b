"""The audit: who did what to which object, written in the transaction of the deed."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from vp_node.database.models import AuditEvent


def record(session: Session, actor: str, action: str, subject: str = "", **detail: Any) -> None:
    """Adds an event to the session; it is stored when the session commits.

    Args:
        actor: a person's name, a peer's AE title, or `node`.
        subject: a UID, a run's id, a prompt's name: never a patient's data.
        detail: values that JSON knows; never a patient's data.
    """
    session.add(AuditEvent(actor=actor[:64], action=action, subject=subject[:128], detail=detail))
