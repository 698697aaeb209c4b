"""Commands that run the node and tell how it is: `serve`, `worker`, `status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import typer

from vp_node.cli.context import load, opened
from vp_node.cli.errors import FAILURE
from vp_node.cli.output import Column, JsonOption, facts, print_json, say, table

PANEL = "Set up and serve"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(serve)
    app.command(rich_help_panel=PANEL)(worker)
    app.command(rich_help_panel=PANEL)(status)


def serve(ctx: typer.Context) -> None:
    """Runs the whole node: listens, settles studies, runs prompts, delivers results. Ends on SIGTERM or Ctrl-C."""
    from vp_node import service

    service.serve(load(ctx))


def worker(ctx: typer.Context) -> None:
    """Runs prompts and delivers results beside a `serve`, on the same database and data folder."""
    from vp_node import service

    service.worker(load(ctx))


def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Says how the node is: workers, disk, queues, problems. Exit code 1 where something is wrong."""
    from vp_node.operations.health import health

    now = datetime.now(UTC)
    with opened(ctx) as node, node.sessions() as session:
        found = health(node.config, session, now)
    workers = [{**asdict(item), "alive": item.is_alive(now)} for item in found.workers]
    if as_json:
        print_json({**asdict(found), "ok": found.ok, "workers": workers})
    else:
        if workers:
            table(
                workers,
                (
                    Column("worker", "Worker"),
                    Column("alive", "Alive"),
                    Column("process", "Process", right=True),
                    Column("port", "Port", right=True),
                    Column("at", "Last heard"),
                    Column("model", "Model"),
                ),
            )
        facts(
            (
                ("studies arriving", str(found.receiving)),
                ("runs waiting", str(found.waiting)),
                ("runs computing", str(found.running)),
                ("runs failed", str(found.failed)),
                ("deliveries waiting", str(found.pending_deliveries)),
                ("deliveries given up", str(found.dead_deliveries)),
                ("disk free", f"{found.free_disk_gb:.1f} GB"),
            )
        )
        say("All is well." if found.ok else "\n".join(found.problems))
    if not found.ok:
        raise typer.Exit(FAILURE)
