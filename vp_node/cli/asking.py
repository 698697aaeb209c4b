"""Commands that ask for runs: `ask` once, `reprocess` again."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import ByOption, OpenNode, find_study, model_hash, opened
from vp_node.cli.errors import FAILURE, REFUSED, USAGE, CommandError
from vp_node.cli.output import Column, JsonOption, listing, note, print_json, say, short, table, working
from vp_node.cli.runs import RUN_COLUMNS, summary

if TYPE_CHECKING:
    from datetime import date

    from vp_node.runs.reprocessing import Reprocess

PANEL = "Prompts"
POLL_SECONDS = 0.5

DATE_FORMATS = ["%Y-%m-%d"]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(ask)
    app.command(rich_help_panel=PANEL)(reprocess)


def ask(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="PROMPT", help="What is asked, in plain language.")],
    studies: Annotated[list[str], typer.Argument(metavar="STUDY…", help="UIDs of studies, or parts of them.")],
    by: ByOption,
    destination: Annotated[
        list[str] | None, typer.Option(help="Where results go: a peer, or `sender` (may be repeated).")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only volumes of this kind, e.g. T1 (may be repeated).")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="How many of the patient's latest visits to look at.")] = 1,
    priority: Annotated[int, typer.Option(min=0, max=1000, help="Lower goes first.")] = 10,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the runs have ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Asks a prompt once, of named studies. Asking the same again gives the run that is there already.

    With --wait the exit code is 0 if every run was answered, 3 if one was refused, 1 if one failed.
    """
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.repository import ad_hoc_prompt, check_destinations
    from vp_node.runs.planning import request_run

    definition = PromptDefinition.from_json(
        {
            "name": "ask",
            "owner": by[:64],
            "text": text,
            "selection": {"kinds": kind or [], "sessions": sessions},
            "priority": priority,
            "destinations": destination or [],
        }
    )
    with opened(ctx) as node:
        check_destinations(definition, node.config)
        model = model_hash(node.config)
        with node.sessions.begin() as session:
            version = ad_hoc_prompt(session, definition, by)
            now = datetime.now(UTC)
            planned = []
            for part in dict.fromkeys(studies):
                study = find_study(session, part)
                planned.append(
                    request_run(
                        session,
                        study,
                        version,
                        by,
                        node.data_folder,
                        model,
                        now,
                        at_once=True,
                        priors=node.config.priors,
                    )
                )
            rows = [{**summary(item.run), "created": item.created} for item in planned]
        if wait:
            rows = _wait_for(node, rows)
    for row in rows:
        if not row["created"] and not as_json:
            note(f"Run {row['run']} was asked for before: this is that run.")
    listing(rows, RUN_COLUMNS, as_json, "")
    if wait:
        _exit_as(rows)


def reprocess(
    ctx: typer.Context,
    by: ByOption,
    study: Annotated[list[str] | None, typer.Option(help="Only this study (may be repeated).")] = None,
    from_date: Annotated[
        datetime | None, typer.Option("--from", formats=DATE_FORMATS, help="Only studies of this date and later.")
    ] = None,
    to_date: Annotated[
        datetime | None, typer.Option("--to", formats=DATE_FORMATS, help="Only studies of this date and earlier.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Only this prompt (may be repeated).")] = None,
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only what failed.")] = False,
    model_version: Annotated[
        str, typer.Option("--model", help="Only what this model made: its content hash or its beginning.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Runs prompts again on stored studies, where prompt, model or images changed or a run failed.

    Says what it would do and asks first.
    """
    from vp_node.runs.reprocessing import Selectors, plan_reprocess
    from vp_node.runs.reprocessing import reprocess as do

    if as_json and not (dry_run or yes):
        raise CommandError("With --json nobody can be asked: add --dry-run or --yes.", USAGE)
    with opened(ctx) as node:
        model = model_hash(node.config)
        with node.sessions() as session, working("Looking what would change …"):
            selectors = Selectors(
                study_instance_uids=tuple(find_study(session, part).study_instance_uid for part in study or ()),
                from_date=_day(from_date),
                to_date=_day(to_date),
                prompts=tuple(prompt or ()),
                failed_only=failed_only,
                model_hash=model_version.lower(),
            )
            plan = plan_reprocess(session, selectors, node.data_folder, model, node.config.priors)
            rows = [_row(item) for item in plan]
        to_do = {(row["study"], row["version_id"]) for row in rows if row["action"] != "nothing"}
        if not as_json:
            _print_plan(rows)
        if dry_run or not to_do:
            if as_json:
                print_json({"plan": rows, "queued": []})
            return
        if not yes and not typer.confirm(f"Queue {len(to_do)} run(s)?"):
            say("Nothing was done.")
            return
        # Nothing may be asked while a transaction is open: what was shown is planned again, and only that is done.
        with node.sessions.begin() as session:
            again = plan_reprocess(session, selectors, node.data_folder, model, node.config.priors)
            shown = [item for item in again if (item.study.study_instance_uid, item.version.id) in to_do]
            queued = [
                run.id for run in do(session, shown, by, node.data_folder, model, datetime.now(UTC), node.config.priors)
            ]
    if as_json:
        print_json({"plan": rows, "queued": queued})
    else:
        say(f"{len(queued)} run(s) are queued. See `vp-node runs`.")


def _row(item: Reprocess) -> dict[str, Any]:
    return {
        "study": item.study.study_instance_uid,
        "date": item.study.study_date,
        "prompt": item.version.prompt.name,
        "version": item.version.number,
        "version_id": item.version.id,
        "previous": item.previous.id if item.previous else None,
        "action": item.action,
        "reason": item.reason,
    }


def _print_plan(rows: list[dict[str, Any]]) -> None:
    if not rows:
        say("Nothing fits: no complete study has a run or a prompt like that.")
        return
    columns = (
        Column("study", "Study"),
        Column("date", "Date"),
        Column("prompt", "Prompt"),
        Column("version", "Ver.", right=True),
        Column("action", "Would"),
        Column("reason", "Because"),
        Column("previous", "Earlier run", short),
    )
    table(rows, columns)
    count = {action: sum(row["action"] == action for row in rows) for action in ("run", "retry", "nothing")}
    say(f"{count['run']} to run, {count['retry']} to retry, {count['nothing']} to leave as they are.")


def _day(value: datetime | None) -> date | None:
    return value.date() if value is not None else None


def _wait_for(node: OpenNode, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Waits until runs have ended; says what they do meanwhile where somebody looks."""
    from sqlalchemy import select

    from vp_node.database.models import FINAL_RUN_STATES, Run

    created = {row["run"]: row["created"] for row in rows}
    with working("Waiting …") as update:
        while True:
            with node.sessions() as session:
                runs = session.scalars(select(Run).where(Run.id.in_(created)).order_by(Run.created_at, Run.id)).all()
                rows = [{**summary(run), "created": created[run.id]} for run in runs]
            if all(row["state"] in FINAL_RUN_STATES for row in rows):
                return rows
            update(", ".join(f"run {short(row['run'])} {row['state']}" for row in rows))
            time.sleep(POLL_SECONDS)


def _exit_as(rows: list[dict[str, Any]]) -> None:
    states = {row["state"] for row in rows}
    if states <= {"done"}:
        return
    raise typer.Exit(REFUSED if states <= {"done", "refused"} else FAILURE)
