"""Commands on what arrived: `studies`, `series`, `volumes`, `inspect`, `study complete`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import ByOption, find_study, opened
from vp_node.cli.errors import USAGE, CommandError
from vp_node.cli.output import Column, JsonOption, listing, print_json, say, table, working

if TYPE_CHECKING:
    from vp_node.studies.model import SourceVolume

PANEL = "Studies"

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Study Instance UID, or enough of its beginning or end.")
]
study_commands = typer.Typer(help="Act on one study.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(studies)
    app.command(rich_help_panel=PANEL)(series)
    app.command(rich_help_panel=PANEL)(volumes)
    app.command(rich_help_panel=PANEL)(inspect)
    app.add_typer(study_commands, name="study", rich_help_panel=PANEL)


def studies(
    ctx: typer.Context,
    state: Annotated[str, typer.Option(help="Only in this state: receiving, complete, held, discarded…")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Lists the studies that the node holds, the latest received first."""
    from sqlalchemy import func, select

    from vp_node.database.models import Instance, Run, Series, Study, StudyState

    if state and state not in list(StudyState):
        raise CommandError(f"No study is ever {state!r}. States: {', '.join(StudyState)}.", USAGE)
    instances = (
        select(func.count(Instance.id))
        .join(Series)
        .where(Series.study_id == Study.id)
        .correlate(Study)
        .scalar_subquery()
    )
    in_series = select(func.count(Series.id)).where(Series.study_id == Study.id).correlate(Study).scalar_subquery()
    runs = select(func.count(Run.id)).where(Run.study_id == Study.id).correlate(Study).scalar_subquery()
    query = select(Study, in_series, instances, runs).order_by(Study.last_received_at.desc(), Study.id.desc())
    if state:
        query = query.where(Study.state == state)
    with opened(ctx) as node, node.sessions() as session:
        rows = [
            {
                "study": study.study_instance_uid,
                "patient": study.patient.key[:8],
                "date": study.study_date,
                "description": study.description,
                "state": study.state,
                "revision": study.revision,
                "flags": list(study.flags),
                "closed_reason": study.closed_reason,
                "from": study.calling_ae_title,
                "to": study.called_ae_title,
                "series": series_count,
                "instances": instance_count,
                "runs": run_count,
                "received_at": study.last_received_at,
            }
            for study, series_count, instance_count, run_count in session.execute(query.limit(limit))
        ]
    columns = (
        Column("study", "Study"),
        Column("date", "Date"),
        Column("description", "Description"),
        Column("state", "State"),
        Column("revision", "Rev.", right=True),
        Column("from", "From"),
        Column("series", "Series", right=True),
        Column("instances", "Instances", right=True),
        Column("runs", "Runs", right=True),
        Column("received_at", "Received"),
    )
    listing(rows, columns, as_json, "No study has arrived.")


def series(ctx: typer.Context, study: StudyArgument, as_json: JsonOption = False) -> None:
    """Lists the series of a study."""
    from sqlalchemy import func, select

    from vp_node.database.models import Instance, Series, Volume

    with opened(ctx) as node, node.sessions() as session:
        found = find_study(session, study)
        counted = select(Series, func.count(Instance.id), func.count(Instance.id).filter(Instance.own_result.is_(True)))
        counted = counted.outerjoin(Instance).where(Series.study_id == found.id).group_by(Series.id)
        in_volumes = dict(
            session.execute(
                select(Volume.series_instance_uid, func.count(Volume.id))
                .where(Volume.study_id == found.id, Volume.revision == found.revision)
                .group_by(Volume.series_instance_uid)
            )
            .tuples()
            .all()
        )
        rows = [
            {
                "series": item.series_instance_uid,
                "number": item.number,
                "modality": item.modality,
                "description": item.description,
                "protocol": item.protocol,
                "body_part": item.body_part,
                "station": item.station,
                "instances": total,
                "volumes": in_volumes.get(item.series_instance_uid, 0),
                "own_result": bool(own) and own == total,
                "received_at": item.last_received_at,
            }
            for item, total, own in session.execute(counted.order_by(Series.number, Series.id))
        ]
    columns = (
        Column("number", "No.", right=True),
        Column("modality", "Modality"),
        Column("description", "Description"),
        Column("protocol", "Protocol"),
        Column("instances", "Instances", right=True),
        Column("volumes", "Volumes", right=True),
        Column("own_result", "Own result"),
        Column("series", "Series"),
    )
    listing(rows, columns, as_json, "The study holds no series.")


def volumes(
    ctx: typer.Context,
    study: StudyArgument,
    prompt: Annotated[str, typer.Option(help="What this prompt would take; by default what any prompt would.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Lists the volumes of a study: which would be taken and why, which not, and what was set aside."""
    from sqlalchemy import select

    from vp_node.database.models import SetAsideSeries
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.repository import current_version, find_prompt
    from vp_node.runs.choosing import choose_for, choose_for_prompt
    from vp_node.studies.volume_set import SeriesSelection

    with opened(ctx) as node, node.sessions() as session:
        found = find_study(session, study)
        if prompt:
            definition = PromptDefinition.from_json(current_version(find_prompt(session, prompt)).definition)
            choice = choose_for_prompt(session, found, definition, node.data_folder, node.config.priors)
        else:
            choice = choose_for(session, found, SeriesSelection(), node.data_folder)
        aside = session.scalars(
            select(SetAsideSeries)
            .where(SetAsideSeries.study_id == found.id, SetAsideSeries.revision == found.revision)
            .order_by(SetAsideSeries.id)
        ).all()
        set_aside = [
            {
                "study": found.study_instance_uid,
                "series": item.series_instance_uid,
                "reason": item.reason,
                "instances": len(item.sop_instance_uids),
            }
            for item in aside
        ]
        state, revision = found.state, found.revision
    names = {item.volume.identifier: item.name for item in choice.volume_set.chosen}
    rows = [
        {
            **describe(item.volume),
            "name": names.get(item.volume.identifier, ""),
            "taken": item.taken,
            "reason": item.reason,
        }
        for item in choice.volume_set.choices
    ]
    if as_json:
        print_json({"state": state, "revision": revision, "volumes": rows, "set_aside": set_aside})
        return
    if not rows and not set_aside:
        say(f"The study is {state}; its volumes are known a moment after it is complete.")
        return
    _print_volumes(rows, with_choice=True)
    _print_set_aside(set_aside)


def inspect(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder of DICOM files.")],
    as_json: JsonOption = False,
) -> None:
    """Says what the node would make of a folder of DICOM files. Needs no configuration and stores nothing."""
    from vp_node.studies.inspect import inspect_folder

    with working("Reading headers …"):
        found = inspect_folder(folder)
    if as_json:
        print_json(found)
        return
    if not found["volumes"] and not found["set_aside"]:
        say(f"{folder} holds no file.")
        return
    _print_volumes(found["volumes"], with_choice=False)
    _print_set_aside(found["set_aside"])


@study_commands.command()
def complete(ctx: typer.Context, study: StudyArgument, by: ByOption) -> None:
    """Closes a study that is still arriving, is held or was discarded: a person says that it is whole."""
    from datetime import UTC, datetime

    from vp_node.database.models import StudyState
    from vp_node.intake.completeness import complete_by_hand

    with opened(ctx) as node, node.sessions.begin() as session:
        found = find_study(session, study)
        if found.state not in (StudyState.RECEIVING, StudyState.HELD, StudyState.DISCARDED):
            raise CommandError(f"The study is {found.state}: there is nothing to complete.")
        whole = complete_by_hand(session, found, node.config.completeness, datetime.now(UTC), by)
        uid, state, revision = found.study_instance_uid, found.state, found.revision
    if not whole:
        raise CommandError(f"The study is {state}: it holds nothing but results of this node.")
    say(f"{uid} is complete, revision {revision}. A running node understands it and asks its prompts in a moment.")


@study_commands.command()
def understand(ctx: typer.Context, study: StudyArgument, by: ByOption) -> None:
    """Looks at a complete study again, with the rules as they are now (`vp-node rules`).

    Where a rule changes what it holds, its standing prompts are asked anew; otherwise nothing else happens.
    """
    from vp_node.database.models import StudyState
    from vp_node.operations.audit import record

    with opened(ctx) as node, node.sessions.begin() as session:
        found = find_study(session, study)
        if found.state != StudyState.COMPLETE:
            raise CommandError(f"The study is {found.state}: only a complete one can be looked at again.")
        found.revision += 1
        record(session, by, "study to be understood again", found.study_instance_uid, revision=found.revision)
        uid, revision = found.study_instance_uid, found.revision
    say(f"{uid}: a running node looks at it again in a moment, as revision {revision}.")


def describe(volume: SourceVolume) -> dict[str, Any]:
    """A volume as plain values, under the names that `inspect` uses."""
    from vp_node.studies.volume_set import orientation_of

    return {
        "study": volume.study_instance_uid,
        "series": volume.series_instance_uid,
        "series_number": volume.series_number,
        "series_description": volume.series_description,
        "visit": volume.visit,
        "modality": volume.modality,
        "kind": volume.kind,
        "contrast": volume.contrast,
        "evidence": list(volume.evidence),
        "shape": list(volume.shape),
        "spacing": [round(value, 6) for value in volume.spacing],
        "world": [[round(value, 9) for value in row] for row in volume.world.tolist()],
        "head": volume.head,
        "plane": orientation_of(volume),
        "flags": list(volume.flags),
        "splits": [list(split) for split in volume.splits],
        "missing_slices": list(volume.missing_slices),
        "identifier": volume.identifier,
    }


def _print_volumes(rows: list[dict[str, Any]], *, with_choice: bool) -> None:
    shown = [
        {
            **row,
            "size": "×".join(str(value) for value in row["shape"]),
            "voxel": "×".join(f"{value:.2f}" for value in row["spacing"]),
            "told_apart": "; ".join(f"{name} {value}" for name, value in row["splits"]),
        }
        for row in rows
    ]
    columns = [
        Column("series_number", "Series", right=True),
        Column("series_description", "Description"),
        Column("visit", "Visit"),
        Column("kind", "Kind"),
        Column("contrast", "Contrast"),
        Column("size", "Voxels"),
        Column("voxel", "mm"),
        Column("told_apart", "Told apart by"),
        Column("flags", "Flags"),
    ]
    if with_choice:
        columns = [Column("name", "As"), *columns, Column("reason", "Why taken or not")]
    table(shown, columns, f"{len(rows)} volume(s)")


def _print_set_aside(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    say()
    columns = [Column("series", "Series"), Column("instances", "Instances", right=True), Column("reason", "Why")]
    if any(row.get("file") for row in rows):
        columns.insert(0, Column("file", "File"))
    table(rows, columns, f"{len(rows)} set aside")
