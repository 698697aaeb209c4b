"""`vp-train data`: what a folder of public data holds, and its preparation for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Public data sets: what a folder holds, and its preparation.")

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the data set, as it was published.")]
LayoutOption = Annotated[str | None, typer.Option(help="Key of a layout; recognised where not given.")]


@app.command()
def layouts() -> None:
    """Lists the data sets whose layout is known."""
    from vp_train.datasets.public.layout import load_layouts

    for layout in load_layouts().values():
        typer.echo(f"{layout.key:16} {layout.name}: {layout.about} [{layout.layout}; {layout.reference}]")


@app.command()
def check(folder: FolderArgument, layout: LayoutOption = None) -> None:
    """Says what was understood of a folder; exit code 1 where something is wrong."""
    from vp_train.datasets.public.check import report
    from vp_train.datasets.public.index import DatasetError, read_dataset

    try:
        lines, problems = report(read_dataset(folder, layout))
    except DatasetError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo("\n".join(lines))
    for problem in problems:
        typer.echo(f"PROBLEM {problem}", err=True)
    raise typer.Exit(1 if problems else 0)


@app.command()
def prepare(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="Folder that training reads; what is done there is kept.")],
    layout: LayoutOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Prepares a data set (RAS, [0, 1], cropped, co-registered); resumes where it was stopped."""
    from vp_train.datasets.public.index import DatasetError, read_dataset
    from vp_train.datasets.public.prepare import prepare_dataset

    try:
        index = read_dataset(folder, layout)
    except DatasetError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    failed = 0
    for outcome in prepare_dataset(index, out, workers):
        failed += outcome.state == "failed"
        typer.echo(f"{outcome.subject}: {outcome.state}" + (f": {outcome.reason}" if outcome.reason else ""))
    raise typer.Exit(1 if failed else 0)
