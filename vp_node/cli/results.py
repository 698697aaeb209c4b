"""Commands on what runs made and where it went: `results [show|resend]`, `deliveries [resend]`, `check`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import ByOption, OpenNode, find_run, opened
from vp_node.cli.errors import FAILURE, CommandError
from vp_node.cli.output import Column, JsonOption, facts, listing, print_json, say, short, table, with_progress, working
from vp_node.cli.runs import details

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from vp_model.outcome import Outcome
    from vp_node.database.models import Result, Run
    from vp_node.results.model import Picture

PANEL = "Runs and results"
NAMES = "Id of a run, or its beginning; or the UID of an object, a series or a region that it made."

result_commands = typer.Typer(help="What runs made.", invoke_without_command=True)
delivery_commands = typer.Typer(help="Where results went.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    app.add_typer(result_commands, name="results", rich_help_panel=PANEL)
    app.add_typer(delivery_commands, name="deliveries", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(check)


@result_commands.callback()
def results(
    ctx: typer.Context,
    run: Annotated[str, typer.Option(help="Only of this run (id, or UID of an object or series).")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Lists the objects that runs made, the latest first; `results show RUN` shows one run's answer."""
    if ctx.invoked_subcommand is not None:
        return
    from sqlalchemy import select

    from vp_node.database.models import Result

    query = select(Result).order_by(Result.id.desc()).limit(limit)
    with opened(ctx) as node, node.sessions() as session:
        if run:
            query = query.where(Result.run_id == run_named(session, run, node.data_folder).id)
        rows = [
            {
                "run": result.run_id,
                "prompt": result.run.prompt_version.prompt.name,
                "study": result.run.study.study_instance_uid,
                "role": result.role,
                "form": result.form,
                "sop_instance_uid": result.sop_instance_uid,
                "series_instance_uid": result.series_instance_uid,
                "path": node.data_folder / result.path,
                "findings": list(result.findings),
                "delivered": {delivery.destination: delivery.state for delivery in result.deliveries},
                "created_at": result.created_at,
            }
            for result in session.scalars(query)
        ]
    columns = (
        Column("run", "Run", short),
        Column("prompt", "Prompt"),
        Column("role", "Role"),
        Column("sop_instance_uid", "SOP Instance UID"),
        Column("findings", "Check", lambda found: f"{len(found)} remark(s)" if found else "good"),
        Column("delivered", "Delivered", lambda to: ", ".join(f"{name}: {state}" for name, state in to.items())),
        Column("created_at", "Made"),
    )
    listing(rows, columns, as_json, "No run has made anything.")


@result_commands.command("show")
def show(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=NAMES)],
    output: Annotated[
        Path | None, typer.Option(help="Also write overlay pictures (PNG) and a page (report.html) into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what a run answered: program, measurements, words, the objects and where they are."""
    from vp_model.outcome import OUTCOME_FILE, Outcome

    with opened(ctx) as node:
        with node.sessions() as session:
            found = details(run_named(session, run, node.data_folder))
        folder = node.data_folder / found["outcome_folder"]
        if not found["outcome_folder"] or not (folder / OUTCOME_FILE).is_file():
            raise CommandError(f"Run {found['run']} is {found['state']} and has no answer. {found['reason']}".strip())
        outcome = Outcome.load(folder)
        objects = [{**item, "path": node.data_folder / item["path"]} for item in found["results"]]
        pictures = _pictures(node, found["run"], folder, output) if output is not None else ()
        page = _page(output, found, outcome, pictures) if output is not None else None
    paths = [picture.path for picture in pictures]
    if as_json:
        print_json({**found, "results": objects, "outcome": outcome.summary(), "pictures": paths, "page": page})
        return
    _print_answer(found, outcome, objects)
    for path in paths:
        say(f"Picture: {path}")
    if page is not None:
        say(f"Page: {page}")


@result_commands.command("resend")
def resend_results(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=NAMES)],
    by: ByOption,
    to: Annotated[str, typer.Option(help="A destination; without it, all that the run had.")] = "",
) -> None:
    """Sends all objects of a run again, also to a destination that it did not have before."""
    from vp_node.database.models import RunState
    from vp_node.runs.control import resend
    from vp_node.runs.delivery import fill_outbox

    now = datetime.now(UTC)
    with opened(ctx) as node, node.sessions.begin() as session:
        found = run_named(session, run, node.data_folder)
        if found.state not in (RunState.DONE, RunState.REFUSED, RunState.SENDING):
            raise CommandError(
                f"Run {found.id} is {found.state}: it has nothing that may be sent. {found.reason}".strip()
            )
        before = {delivery.id for result in found.results for delivery in result.deliveries}
        if to:
            fill_outbox(session, node.config, found, (to,), now)
            session.expire_all()
        chosen = [
            delivery
            for result in found.results
            for delivery in result.deliveries
            if delivery.destination == to or not to
        ]
        if to and not chosen:
            raise CommandError(f"{to!r} takes nothing of what run {found.id} made.")
        for delivery in chosen:
            if delivery.id in before:
                resend(session, delivery, by, now)
        if chosen:
            found.state, found.finished_at = RunState.SENDING, None
        count = len(chosen)
    say(f"{count} object(s) are sent again by the running node.")


@delivery_commands.callback()
def deliveries(
    ctx: typer.Context,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up.")] = False,
    run: Annotated[str, typer.Option(help="Only of this run (id, or UID of an object or series).")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Lists the sending of results to destinations; `deliveries resend ID` sends one again."""
    if ctx.invoked_subcommand is not None:
        return
    from sqlalchemy import select

    from vp_node.database.models import Delivery, DeliveryState, Result

    query = select(Delivery).join(Result).order_by(Delivery.id.desc()).limit(limit)
    if dead:
        query = query.where(Delivery.state == DeliveryState.DEAD)
    with opened(ctx) as node, node.sessions() as session:
        if run:
            query = query.where(Result.run_id == run_named(session, run, node.data_folder).id)
        rows = [
            {
                "id": item.id,
                "run": item.result.run_id,
                "role": item.result.role,
                "sop_instance_uid": item.result.sop_instance_uid,
                "destination": item.destination,
                "state": item.state,
                "attempts": item.attempts,
                "next_attempt_at": item.next_attempt_at,
                "sent_at": item.sent_at,
                "committed_at": item.committed_at,
                "last_error": item.last_error,
            }
            for item in session.scalars(query)
        ]
    columns = (
        Column("id", "Id", right=True),
        Column("run", "Run", short),
        Column("role", "Role"),
        Column("destination", "To"),
        Column("state", "State"),
        Column("attempts", "Attempts", right=True),
        Column("sent_at", "Sent"),
        Column("next_attempt_at", "Next attempt"),
        Column("last_error", "Last error"),
    )
    listing(rows, columns, as_json, "Nothing was given up." if dead else "Nothing was sent yet.")


@delivery_commands.command("resend")
def resend_command(
    ctx: typer.Context,
    identifier: Annotated[int, typer.Argument(metavar="ID", help="Id of a delivery, from the listing.")],
    by: ByOption,
) -> None:
    """Sends one object to one destination again, whatever became of it before."""
    from vp_node.database.models import Delivery
    from vp_node.runs.control import resend

    with opened(ctx) as node, node.sessions.begin() as session:
        delivery = session.get(Delivery, identifier)
        if delivery is None:
            raise CommandError(f"No delivery has the id {identifier}. See `vp-node deliveries`.")
        resend(session, delivery, by, datetime.now(UTC))
        destination = delivery.destination
    say(f"Delivery {identifier} to {destination} is sent again by the running node.")


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", exists=True, dir_okay=False, help="SEG and SR files.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Holds result files against the rules that the node holds its own against. Exit code 1 where one is broken.

    Rules of this project alone (IHE AIR, notices, tracking) are warnings for objects that another program made.
    """
    from vp_node.results import check as examine

    rows: list[dict[str, Any]] = [
        {"file": str(path), **asdict(finding)} for path in with_progress(files, "Checking") for finding in examine(path)
    ]
    columns = [
        Column("file", "File"),
        Column("severity", "Severity"),
        Column("rule", "Rule"),
        Column("message", "What"),
    ]
    listing(rows, columns, as_json, f"{len(files)} file(s), no remark.")
    if any(row["severity"] == "error" for row in rows):
        raise typer.Exit(FAILURE)


def _print_answer(found: dict[str, Any], outcome: Outcome, objects: list[dict[str, Any]]) -> None:
    from vp_model.program.narration import readable

    facts(
        (
            ("run", found["run"]),
            ("study", found["study"]),
            ("prompt", found["text"]),
            ("state", found["state"]),
            ("reason", found["reason"]),
            ("task", outcome.task),
        )
    )
    if outcome.transcript.program:
        say("\nProgram")
        say("\n".join(f"    {line}" for line in outcome.transcript.program.splitlines()))
        say("\nIn words")
        say("\n".join(f"    {line}" for line in readable(outcome.transcript).splitlines()))
    if outcome.measurements:
        say()
        columns = (
            Column("label", "Region"),
            Column("name", "Measurement"),
            Column("value", "Value", right=True),
            Column("unit", "Unit"),
            Column("visit", "Visit"),
            Column("experimental", "Experimental"),
        )
        table([vars(item) for item in outcome.measurements], columns)
    for text in outcome.texts:
        say(f"\n{text.text}")
    for warning in outcome.warnings:
        say(f"\nWarning: {warning}")
    if objects:
        say()
        table(
            objects, (Column("role", "Object"), Column("path", "File"), Column("sop_instance_uid", "SOP Instance UID"))
        )
    say("Made by software, for research use, unverified.")


def _pictures(node: OpenNode, run_id: str, outcome: Path, folder: Path) -> tuple[Picture, ...]:
    """Draws each finding on the images that it lies on."""
    from vp_node.database.models import Run
    from vp_node.results.drawing import draw
    from vp_node.runs.choosing import gathered_volumes

    with node.sessions() as session:
        volumes = gathered_volumes(session, session.get_one(Run, run_id), node.data_folder)
    folder.mkdir(parents=True, exist_ok=True)
    with working("Drawing …"):
        return draw(outcome, volumes, folder, short(run_id), node.config.compute)


def _page(folder: Path, found: dict[str, Any], outcome: Outcome, pictures: tuple[Picture, ...]) -> Path:
    from vp_node.results.webpage import webpage

    path = folder / "report.html"
    path.write_text(webpage(found, outcome, pictures), encoding="utf-8")
    return path


def run_named(session: Session, name: str, data_folder: Path) -> Run:
    """A run by the beginning of its id, or by any UID of what it made: of an object, its series, a region in it, or of
    the request that an archive commit itself to it.

    Raises:
        CommandError: there is none, or several.
    """
    from sqlalchemy import or_, select

    from vp_node.database.models import Delivery, Result

    if "." not in name:
        return find_run(session, name)
    found = session.scalars(
        select(Result).where(or_(Result.sop_instance_uid == name, Result.series_instance_uid == name)).limit(1)
    ).first()
    if found is None:
        found = session.scalars(
            select(Result).join(Delivery).where(Delivery.transaction_uid == name).order_by(Result.id.desc()).limit(1)
        ).first()
    if found is None:
        found = _with_region(session, name, data_folder)
    if found is not None:
        return found.run
    raise CommandError(
        f"No object, series, region or storage commitment of a run here has the UID {name!r}. See `vp-node results`."
    )


def _with_region(session: Session, uid: str, data_folder: Path) -> Result | None:
    """The latest report in which a tracking or observation UID stands: a region keeps its UID from run to run.

    Reports are read one after the other, the latest first; the index does not hold what stands in them.
    """
    from pydicom import dcmread
    from sqlalchemy import select

    from vp_node.database.models import Result

    for result in session.scalars(select(Result).where(Result.role == "sr").order_by(Result.id.desc())):
        path = data_folder / result.path
        if path.is_file() and any(item.value == uid for item in dcmread(path).iterall() if item.keyword == "UID"):
            return result
    return None
