"""Commands that look back and behind: `audit`, `model`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from vp_node.cli.context import load, opened
from vp_node.cli.output import Column, JsonOption, facts, listing, print_json, say, table

PANEL = "Look behind"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(audit)
    app.command(rich_help_panel=PANEL)(model)


def audit(
    ctx: typer.Context,
    subject: Annotated[str, typer.Option(help="Only of this UID, run or prompt, or what begins like it.")] = "",
    action: Annotated[str, typer.Option(help="Only this, e.g. 'run queued' or 'association refused'.")] = "",
    actor: Annotated[str, typer.Option(help="Only by this person, AE title or `node`.")] = "",
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Only from then on, UTC.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Lists who did what to which object, the latest first."""
    from sqlalchemy import select

    from vp_node.database.models import AuditEvent

    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if subject:
        query = query.where(AuditEvent.subject.startswith(subject, autoescape=True))
    if action:
        query = query.where(AuditEvent.action == action)
    if actor:
        query = query.where(AuditEvent.actor == actor)
    if since is not None:
        query = query.where(AuditEvent.at >= since.replace(tzinfo=UTC))
    with opened(ctx) as node, node.sessions() as session:
        rows = [
            {"at": item.at, "actor": item.actor, "action": item.action, "subject": item.subject, "detail": item.detail}
            for item in session.scalars(query)
        ]
    columns = (
        Column("at", "When"),
        Column("actor", "Who"),
        Column("action", "What"),
        Column("subject", "Of what"),
        Column("detail", "Detail", lambda detail: json.dumps(detail, ensure_ascii=False) if detail else ""),
    )
    listing(rows, columns, as_json, "Nothing was audited that fits.")


def model(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Says which model the node runs, and which structures it can find how well. Loads no weights."""
    from vp_model.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(load(ctx).compute.checkpoint)
    structures = [
        {
            "region": item.region,
            "name": item.name,
            "side": item.side,
            "dice": item.dice,
            "experimental": item.experimental,
        }
        for item in checkpoint.structures
    ]
    if as_json:
        print_json({**vars(checkpoint.identity), "folder": checkpoint.folder, "structures": structures})
        return
    facts(
        (
            ("name", checkpoint.identity.name),
            ("version", checkpoint.identity.version),
            ("content hash", checkpoint.identity.content_hash),
            ("folder", str(checkpoint.folder)),
        )
    )
    say()
    table(
        structures,
        (
            Column("region", "Structure"),
            Column("dice", "Dice on validation", lambda dice: "not measured" if dice is None else f"{dice:.2f}", True),
            Column("experimental", "Experimental"),
        ),
    )
