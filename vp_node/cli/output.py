"""What commands print: tables for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")

PIPE_WIDTH = 240
"""Columns where nobody looks: nothing is cut off for the next program."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True)
class Column:
    """A column of a table: a key of the rows, its heading, and how a value is shown."""

    key: str
    title: str
    show: Callable[[Any], str] | None = None
    right: bool = False


def listing(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], as_json: bool, empty: str) -> None:
    """Prints rows: as JSON with all their keys, or as a table of some columns.

    Args:
        empty: what to tell a person where there are no rows.
    """
    if as_json:
        print_json(rows)
    elif rows:
        table(rows, columns)
    else:
        say(empty)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], title: str = "") -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        # Text takes what a peer sent as it is: no markup, no control characters for the terminal.
        drawn.add_row(*(Text(printable(_shown(column, row.get(column.key)))) for column in columns))
    console().print(drawn)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Prints names and values below each other; what is empty is left out."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(show_header=False, box=None, pad_edge=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], ()):
            drawn.add_row(name, Text(printable(plain(value))))
    console().print(drawn)


def say(text: str = "") -> None:
    """Prints a line as it is."""
    typer.echo(printable(text))


def note(text: str) -> None:
    """Prints a line for people on standard error, where it disturbs no program that reads the output."""
    typer.echo(printable(text), err=True)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=_to_json))


def plain(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    return str(value)


def printable(text: str) -> str:
    """Without characters that could steer a terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def short(identifier: Any) -> str:
    """The beginning of a run's id: enough to name it."""
    return str(identifier or "")[:8]


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def with_progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yields the items; where somebody looks, a bar on standard error shows how far it is."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, console=Console(stderr=True), transient=True)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Shows on standard error, where somebody looks, that something of unknown length goes on.

    Yields a function that changes the words.
    """
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield status.update


def _ignore(_: str) -> None:
    pass


def _shown(column: Column, value: Any) -> str:
    return column.show(value) if column.show is not None else plain(value)


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
