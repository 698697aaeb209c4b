"""Commands on runs: `runs`, `run show`, `run cancel`, `run retry`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import ByOption, find_run, find_study, opened
from vp_node.cli.errors import USAGE, CommandError
from vp_node.cli.output import Column, JsonOption, facts, listing, print_json, say, short, table

if TYPE_CHECKING:
    from vp_node.database.models import Run

PANEL = "Runs and results"

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or enough of its beginning.")]
run_commands = typer.Typer(help="Look at and act on one run.", no_args_is_help=True)

RUN_COLUMNS = (
    Column("run", "Run", short),
    Column("prompt", "Prompt"),
    Column("version", "Ver.", right=True),
    Column("study", "Study"),
    Column("revision", "Rev.", right=True),
    Column("state", "State"),
    Column("task", "Task"),
    Column("requested_by", "Asked by"),
    Column("created_at", "Asked"),
    Column("finished_at", "Ended"),
    Column("reason", "Reason"),
)


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(runs)
    app.add_typer(run_commands, name="run", rich_help_panel=PANEL)


def runs(
    ctx: typer.Context,
    state: Annotated[str, typer.Option(help="Only in this state: queued, inferring, done, refused, failed…")] = "",
    study: Annotated[str, typer.Option(help="Only of this study.")] = "",
    prompt: Annotated[str, typer.Option(help="Only of this prompt.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Lists runs, the latest first."""
    from sqlalchemy import select

    from vp_node.database.models import Prompt, PromptVersion, Run, RunState
    from vp_node.prompts.repository import find_prompt

    if state and state not in list(RunState):
        raise CommandError(f"No run is ever {state!r}. States: {', '.join(RunState)}.", USAGE)
    query = select(Run).order_by(Run.created_at.desc(), Run.id)
    with opened(ctx) as node, node.sessions() as session:
        if state:
            query = query.where(Run.state == state)
        if study:
            query = query.where(Run.study_id == find_study(session, study).id)
        if prompt:
            query = query.join(PromptVersion).join(Prompt).where(Prompt.id == find_prompt(session, prompt).id)
        rows = [summary(run) for run in session.scalars(query.limit(limit))]
    listing(rows, RUN_COLUMNS, as_json, "No run was asked for.")


@run_commands.command("show")
def show_run(ctx: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Shows a run: its prompt, the volumes it took and why, its program, its results and where they went."""
    with opened(ctx) as node, node.sessions() as session:
        found = find_run(session, run)
        data = details(found)
    if as_json:
        print_json(data)
        return
    facts(
        (
            ("run", data["run"]),
            ("prompt", f"{data['prompt']} (version {data['version']})"),
            ("asks", data["text"]),
            ("owner", data["owner"]),
            ("asked by", data["requested_by"]),
            ("study", f"{data['study']} (revision {data['revision']})"),
            ("state", data["state"]),
            ("reason", data["reason"]),
            ("attempt", str(data["attempt"])),
            ("priority", str(data["priority"])),
            ("not before", data["not_before"]),
            ("asked", data["created_at"]),
            ("begun", data["started_at"]),
            ("ended", data["finished_at"]),
            ("model", data["model_hash"][:12]),
            ("follows", data["supersedes"]),
            ("task", data["task"]),
        )
    )
    if data["choices"]:
        say()
        print_choices(data["choices"])
    if data["program"]:
        say("\nProgram")
        say("\n".join(f"    {line}" for line in data["program"].splitlines()))
    if data["results"]:
        say()
        table(
            data["results"],
            (
                Column("role", "Result"),
                Column("sop_instance_uid", "SOP Instance UID"),
                Column("findings", "Check", lambda found: f"{len(found)} remark(s)" if found else "good"),
                Column("deliveries", "Delivered", _where),
            ),
        )


@run_commands.command("cancel")
def cancel(ctx: typer.Context, run: RunArgument, by: ByOption) -> None:
    """Ends a run that has not ended; one that computes is stopped within a second."""
    from vp_node.runs.control import cancel_run

    with opened(ctx) as node, node.sessions.begin() as session:
        found = find_run(session, run)
        cancel_run(session, found, by, datetime.now(UTC))
        identifier = found.id
    say(f"Run {identifier} is cancelled.")


@run_commands.command("retry")
def retry(ctx: typer.Context, run: RunArgument, by: ByOption) -> None:
    """Queues a failed or cancelled run again; of one that ended well, sends the deliveries that were given up."""
    from vp_node.database.models import DeliveryState, RunState
    from vp_node.runs.control import retry_deliveries, retry_run

    now = datetime.now(UTC)
    with opened(ctx) as node, node.sessions.begin() as session:
        found = find_run(session, run)
        identifier = found.id
        dead = any(item.state == DeliveryState.DEAD for result in found.results for item in result.deliveries)
        if dead and found.state not in (RunState.FAILED, RunState.CANCELLED):
            count = retry_deliveries(session, found, by, now)
            said = f"{count} deliveries of run {identifier} are tried again."
        else:
            retry_run(session, found, by, now)
            said = f"Run {identifier} is queued again (attempt {found.attempt})."
    say(said)


def summary(run: Run) -> dict[str, Any]:
    """A run in a listing."""
    return {
        "run": run.id,
        "study": run.study.study_instance_uid,
        "revision": run.revision,
        "prompt": run.prompt_version.prompt.name,
        "version": run.prompt_version.number,
        "text": run.prompt_version.text,
        "state": run.state,
        "reason": run.reason,
        "task": run.task,
        "requested_by": run.requested_by,
        "priority": run.priority,
        "attempt": run.attempt,
        "model_hash": run.model_hash,
        "not_before": run.not_before,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def details(run: Run) -> dict[str, Any]:
    """Everything about a run."""
    return {
        **summary(run),
        "owner": run.prompt_version.prompt.owner,
        "input_digest": run.input_digest,
        "supersedes": run.supersedes_run_id,
        "choices": list(run.choices),
        "program": run.program,
        "outcome_folder": run.outcome_folder,
        "results": [
            {
                "role": result.role,
                "sop_class_uid": result.sop_class_uid,
                "sop_instance_uid": result.sop_instance_uid,
                "series_instance_uid": result.series_instance_uid,
                "path": result.path,
                "findings": list(result.findings),
                "deliveries": [
                    {
                        "id": delivery.id,
                        "destination": delivery.destination,
                        "state": delivery.state,
                        "attempts": delivery.attempts,
                        "last_error": delivery.last_error,
                    }
                    for delivery in result.deliveries
                ],
            }
            for result in run.results
        ],
    }


def print_choices(choices: list[dict[str, Any]]) -> None:
    """The volumes that a prompt looked at, the taken ones first."""
    table(
        sorted(choices, key=lambda choice: not choice["taken"]),
        (
            Column("name", "As"),
            Column("series_number", "Series", right=True),
            Column("kind", "Kind"),
            Column("visit", "Visit"),
            Column("reason", "Why taken or not"),
        ),
    )


def _where(deliveries: list[dict[str, Any]]) -> str:
    return ", ".join(f"{item['destination']}: {item['state']}" for item in deliveries) or "not yet"
