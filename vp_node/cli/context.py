"""What commands work with: configuration, index, the model's identity, and what is named by a part of its id."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.errors import USAGE, CommandError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from vp_node.config import Config
    from vp_node.database.models import Run, Study

CONFIG_FILE = "config.toml"
SHORTEST_PART = 4
"""Characters of an id that are asked for at least: fewer are rather a slip than a name."""


def current_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


ByOption = Annotated[
    str, typer.Option("--by", metavar="NAME", default_factory=current_user, help="Who does it, for the audit.")
]


@dataclass(frozen=True)
class OpenNode:
    """A node's configuration and index."""

    config: Config
    sessions: sessionmaker[Session]

    @property
    def data_folder(self) -> Path:
        return self.config.node.data_folder


def config_path(ctx: typer.Context) -> Path:
    """`--config`, else the variable VP_NODE_CONFIG (both by the callback of the application), else ./config.toml.

    Raises:
        CommandError: there is none of them.
    """
    given: Path | None = ctx.obj
    if given is not None:
        return given
    if Path(CONFIG_FILE).is_file():
        return Path(CONFIG_FILE)
    raise CommandError(
        f"No configuration: there is no {CONFIG_FILE} in this folder. Name one with `vp-node --config FILE …` or the "
        "variable VP_NODE_CONFIG, or write one with `vp-node init`.",
        USAGE,
    )


def load(ctx: typer.Context) -> Config:
    from vp_node.config import load_config

    return load_config(config_path(ctx))


@contextmanager
def opened(ctx: typer.Context) -> Iterator[OpenNode]:
    """The node of the configuration, with its tables brought up to date."""
    config = load(ctx)
    node, engine = open_node(config)
    try:
        yield node
    finally:
        engine.dispose()


def open_node(config: Config) -> tuple[OpenNode, Any]:
    from vp_node.database.engine import create_database_engine, session_factory, upgrade

    config.node.data_folder.mkdir(parents=True, exist_ok=True)
    engine = create_database_engine(config.database_url)
    upgrade(engine)
    return OpenNode(config, session_factory(engine)), engine


def model_hash(config: Config) -> str:
    """Content hash of the checkpoint that runs are asked of. Reads no weights into memory.

    Raises:
        CheckpointError
    """
    from vp_model.checkpoint import open_checkpoint

    return open_checkpoint(config.compute.checkpoint).identity.content_hash


def find_study(session: Session, part: str) -> Study:
    """The study whose UID is, begins with or ends with `part`.

    Raises:
        CommandError: there is none, or several.
    """
    from sqlalchemy import or_, select

    from vp_node.database.models import Study

    uid = Study.study_instance_uid
    exact = session.scalars(select(Study).where(uid == part)).one_or_none()
    if exact is not None:
        return exact
    _long_enough(part, "study")
    query = select(Study).where(or_(uid.startswith(part, autoescape=True), uid.endswith(part, autoescape=True)))
    found = session.scalars(query.order_by(Study.id).limit(4)).all()
    return _only(found, [study.study_instance_uid for study in found], part, "study", "studies")


def find_run(session: Session, part: str) -> Run:
    """The run whose id begins with `part`.

    Raises:
        CommandError: there is none, or several.
    """
    from sqlalchemy import select

    from vp_node.database.models import Run

    exact = session.get(Run, part)
    if exact is not None:
        return exact
    _long_enough(part, "run")
    query = select(Run).where(Run.id.startswith(part.lower(), autoescape=True)).order_by(Run.created_at).limit(4)
    found = session.scalars(query).all()
    return _only(found, [run.id for run in found], part, "run", "runs")


def _long_enough(part: str, what: str) -> None:
    if len(part) < SHORTEST_PART:
        raise CommandError(f"{part!r} is too short to name a {what}: give {SHORTEST_PART} characters of its id.")


def _only(found: Any, names: list[str], part: str, what: str, listing: str) -> Any:
    if not found:
        raise CommandError(f"No {what} here is named {part!r}. See `vp-node {listing}`.")
    if len(found) > 1:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise CommandError(f"{part!r} names more than one {what}: {shown}. Give more characters.")
    return found[0]
