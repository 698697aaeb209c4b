"""Commands that prepare a node: `init`, `config check`, `config show`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import CONFIG_FILE, config_path, load, open_node
from vp_node.cli.errors import USAGE, CommandError
from vp_node.cli.output import JsonOption, note, print_json, say

if TYPE_CHECKING:
    from vp_node.config import Config

EXAMPLE = "config.example.toml"
"""A copy of the file at the top of the repository, so that an installed package has it; a test compares them."""

PANEL = "Set up and serve"

config_commands = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(init)
    app.add_typer(config_commands, name="config", rich_help_panel=PANEL)


def init(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="Where the node lives; by default this folder.")] = None,
) -> None:
    """Writes a configuration with every setting explained, and makes the data folder and the database."""
    given: Path | None = ctx.obj
    path = folder / CONFIG_FILE if folder is not None else given or Path(CONFIG_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = (resources.files("vp_node.cli") / EXAMPLE).read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        say(f"Wrote {path}.")
    except FileExistsError:
        say(f"{path} is there already and was left as it is.")
    from vp_node.config import load_config

    config = load_config(path)
    _, engine = open_node(config)
    engine.dispose()
    say(f"Data folder: {config.node.data_folder}")
    say(f"Database: {_without_password(config.database_url)}")
    say()
    say("Next:")
    say(f"  1. Name the PACS under [[peers]] in {path}, then: vp-node --config {path} config check")
    say(f"  2. Try the connection: vp-node --config {path} echo NAME")
    say(f"  3. Add a standing prompt: vp-node --config {path} prompts examples, then prompts add FILE")
    say(f"  4. Start the node: vp-node --config {path} serve")
    say(f"  Let the PACS send to {config.dicom.ae_titles[0]}, port {config.dicom.port}.")


@config_commands.command()
def check(ctx: typer.Context) -> None:
    """Reads the configuration and says what is wrong with it: the key, the line, what would be right."""
    path = config_path(ctx)
    config = load(ctx)
    _check_checkpoint(config)
    say(f"{path} is good: {len(config.peers)} peer(s), listening on port {config.dicom.port}.")
    if not config.dicom.accept_unknown_peers and not any(peer.may_send for peer in config.peers):
        note("Nobody may send studies: add a [[peers]] with may_send = true.")
    if not any(peer.receives_results for peer in config.peers):
        note("Nobody receives results: add a [[peers]] with receives_results = true.")


@config_commands.command()
def show(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Shows every setting as it is in effect, defaults included, without passwords."""
    config = load(ctx)
    values = config.model_dump(mode="json")
    values["database"] = {
        "url": _without_password(config.database_url),
        "workflow_url": _without_password(config.workflow_database_url),
    }
    if as_json:
        print_json(values)
        return
    for key, value in _flat(values):
        say(f"{key} = {value}")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [item for key, inner in value.items() for item in _flat(inner, f"{prefix}.{key}" if prefix else key)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [item for place, inner in enumerate(value) for item in _flat(inner, f"{prefix}[{place}]")]
    return [(prefix, value)]


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise CommandError("A URL under [database] is no SQLAlchemy URL, e.g. postgresql+psycopg://…", USAGE) from None


def _check_checkpoint(config: Config) -> None:
    if config.compute.checkpoint is None:
        return
    from vp_model.checkpoint import CheckpointError, open_checkpoint

    try:
        open_checkpoint(config.compute.checkpoint)
    except CheckpointError as error:
        raise CommandError(f"compute.checkpoint: {error}", USAGE) from error
