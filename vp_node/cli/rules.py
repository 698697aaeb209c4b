"""Commands on corrections of what volumes are: `rules list`, `add`, `remove`."""

from __future__ import annotations

from typing import Annotated

import typer

from vp_node.cli.context import ByOption, opened
from vp_node.cli.errors import USAGE, CommandError
from vp_node.cli.output import Column, JsonOption, listing, say

PANEL = "Studies"
rule_commands = typer.Typer(help="Correct what volumes are, where headers say it wrongly.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(rule_commands, name="rules", rich_help_panel=PANEL)


@rule_commands.command("list")
def list_rules(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Lists the rules in the order in which they are asked; the first that fits corrects a volume."""
    from sqlalchemy import select

    from vp_node.database.models import VolumeRule

    with opened(ctx) as node, node.sessions() as session:
        rows = [
            {
                **row.definition,
                "position": row.position,
                "by": row.created_by,
                "when": _when(row.definition),
                "then": _then(row.definition),
            }
            for row in session.scalars(select(VolumeRule).order_by(VolumeRule.position, VolumeRule.id))
        ]
    columns = (
        Column("name", "Rule"),
        Column("position", "Position", right=True),
        Column("when", "When"),
        Column("then", "Then"),
        Column("by", "By"),
    )
    listing(rows, columns, as_json, "There is no rule.")


@rule_commands.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for the rule.")],
    by: ByOption,
    series_description: Annotated[str, typer.Option(help="Pattern with *, ? and […], whatever the case.")] = "",
    protocol: Annotated[str, typer.Option(help="Pattern on the protocol name.")] = "",
    manufacturer: Annotated[str, typer.Option(help="Pattern.")] = "",
    model: Annotated[str, typer.Option(help="Pattern on the scanner's model name.")] = "",
    station: Annotated[str, typer.Option(help="Pattern on the station name.")] = "",
    sequence_name: Annotated[str, typer.Option(help="Pattern.")] = "",
    modality: Annotated[str, typer.Option(help="MR or CT.")] = "",
    is_kind: Annotated[str, typer.Option(help="Only volumes that are taken for this kind.")] = "",
    kind: Annotated[str, typer.Option(help="What such a volume is: T1, FLAIR, …")] = "",
    contrast: Annotated[str, typer.Option(help="pre, post or unknown.")] = "",
    head: Annotated[str, typer.Option(help="yes or no: whether such a volume shows the head.")] = "",
    set_aside: Annotated[str, typer.Option(help="Why such a volume is not to be used.")] = "",
    position: Annotated[int, typer.Option(min=0, help="Lower is asked first.")] = 100,
) -> None:
    """Adds a rule. It corrects the studies that are closed from now on; `study understand` corrects one that is here.

    Example: vp-node rules add mprage --series-description "*mpr*" --is-kind unknown --kind T1 --by "Dr. Example"
    """
    from pydantic import ValidationError
    from sqlalchemy import select

    from vp_node.database.models import VolumeRule
    from vp_node.operations.audit import record
    from vp_node.studies.corrections import VolumeRule as Definition

    said = {
        "name": name,
        "series_description": series_description,
        "protocol": protocol,
        "manufacturer": manufacturer,
        "model": model,
        "station": station,
        "sequence_name": sequence_name,
        "modality": modality,
        "is_kind": is_kind,
        "kind": kind,
        "contrast": contrast,
        "head": head,
        "set_aside": set_aside,
    }
    try:
        definition = Definition.model_validate(said)
    except ValidationError as error:
        reasons = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise CommandError(f"The rule cannot be added: {reasons}.", USAGE) from error
    with opened(ctx) as node, node.sessions.begin() as session:
        if session.scalars(select(VolumeRule).where(VolumeRule.name == name)).first() is not None:
            raise CommandError(f"A rule named {name!r} is there already. Remove it first, or take another name.")
        session.add(VolumeRule(name=name, definition=definition.model_dump(), position=position, created_by=by[:64]))
        record(session, by, "rule added", name, **{key: value for key, value in said.items() if value})
    say(f"The rule {name!r} corrects the studies that are closed from now on.")


@rule_commands.command("remove")
def remove(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Its name.")], by: ByOption) -> None:
    """Removes a rule; what it has corrected stays as it is."""
    from sqlalchemy import select

    from vp_node.database.models import VolumeRule
    from vp_node.operations.audit import record

    with opened(ctx) as node, node.sessions.begin() as session:
        rule = session.scalars(select(VolumeRule).where(VolumeRule.name == name)).first()
        if rule is None:
            raise CommandError(f"No rule is named {name!r}. See `vp-node rules list`.")
        session.delete(rule)
        record(session, by, "rule removed", name)
    say(f"The rule {name!r} is removed.")


def _when(definition: dict[str, str]) -> str:
    from vp_node.studies.corrections import PATTERNS

    said = [f"{name} like {definition[name]!r}" for name in PATTERNS if definition.get(name)]
    said += [f"{name} {definition[name]}" for name in ("modality", "is_kind") if definition.get(name)]
    return " and ".join(said)


def _then(definition: dict[str, str]) -> str:
    return ", ".join(
        f"{name} {definition[name]}" for name in ("kind", "contrast", "head", "set_aside") if definition.get(name)
    )
