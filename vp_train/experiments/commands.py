"""`vp-train experiment NAME`: one command for each of the paper's experiments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vp_train.experiments.report import Report

DataOption = Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")]
OutOption = Annotated[Path, typer.Option(help="Folder for NAME.json, NAME.md and NAME.png.")]
ScaleOption = Annotated[str, typer.Option(help="`small` for a CPU, `full` as in the paper.")]
ScansOption = Annotated[Path | None, typer.Option(help="Folder of real scans with references; never trained on.")]
CheckpointOption = Annotated[Path | None, typer.Option(help="Checkpoint folder; the bundled one where not given.")]
OtherOption = Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of another tool's label maps; repeatable.")]
PreparedOption = Annotated[Path | None, typer.Option(help="Folder that `vp-train data prepare` filled.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads.")]


@dataclass(frozen=True)
class Given:
    """What the command line gives an experiment."""

    settings: dict[str, Any]
    data: Path
    out: Path
    scans: Path | None
    checkpoint: Path | None
    others: dict[str, Path]
    prepared: Path | None

    def subjects(self) -> tuple[list[Any], list[Any]]:
        """(training, held out)"""
        from vp_train.datasets.maps import load_subjects, split

        return split(load_subjects(self.data, self.out / "cache"))


def _interaction(given: Given) -> Report:
    from vp_train.experiments.interaction import run

    return run(given.settings, *given.subjects())


def _specialists(given: Given) -> Report:
    from vp_train.experiments.specialists import run

    return run(given.settings, *given.subjects())


def _lesions(given: Given) -> Report:
    from vp_train.experiments.lesions import run

    return run(given.settings, *given.subjects(), given.scans)


def _anatomy(given: Given) -> Report:
    from vp_train.experiments.anatomy import run

    if given.scans is None:
        raise typer.BadParameter("Name the folder of real scans with --scans.")
    return run(given.settings, given.scans, given.checkpoint, given.others)


def _quantities(given: Given) -> Report:
    from vp_train.experiments.quantities import run

    return run(given.settings, given.subjects()[1], given.checkpoint)


def _zero_shot(given: Given) -> Report:
    from vp_train.experiments.zero_shot import run

    return run(given.settings, given.scans, given.prepared, given.checkpoint)


def _longitudinal(given: Given) -> Report:
    from vp_train.experiments.longitudinal import run

    return run(given.settings, given.subjects()[1], given.checkpoint)


EXPERIMENTS: dict[str, Callable[[Given], Report]] = {
    "whole-brain": _anatomy,
    "zero-shot": _zero_shot,
    "longitudinal": _longitudinal,
    "end-to-end": _quantities,
    "specialists": _specialists,
    "interaction": _interaction,
    "lesion-synthesis": _lesions,
}


def settings_of(name: str, scale: str) -> dict[str, Any]:
    """Settings of an experiment at a scale.

    Raises:
        typer.BadParameter: there is no such scale or experiment.
    """
    scales = json.loads(files("vp_train.experiments").joinpath("settings.json").read_text(encoding="utf-8"))
    if scale not in scales:
        raise typer.BadParameter(f"There is no scale {scale!r}; there are: {', '.join(scales)}.")
    if name not in EXPERIMENTS:
        raise typer.BadParameter(f"There is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}, all.")
    found: dict[str, Any] = scales[scale][name]
    return found


def experiment(
    name: Annotated[str, typer.Argument(help="An experiment, or `all`.")],
    data: DataOption,
    out: OutOption,
    scale: ScaleOption = "small",
    scans: ScansOption = None,
    checkpoint: CheckpointOption = None,
    other: OtherOption = None,
    prepared: PreparedOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Runs an experiment and writes its table."""
    import torch

    from vp_train.experiments.report import write_report

    if threads is not None:
        torch.set_num_threads(threads)
    others = {}
    for entry in other or []:
        tool, separator, folder = entry.partition("=")
        if not separator:
            raise typer.BadParameter(f"--other is NAME=FOLDER, not {entry!r}.")
        others[tool] = Path(folder)
    for chosen in EXPERIMENTS if name == "all" else (name,):
        given = Given(settings_of(chosen, scale), data, out, scans, checkpoint, others, prepared)
        started = time.monotonic()
        report = EXPERIMENTS[chosen](given)
        report = replace(report, settings={"scale": scale, **report.settings}, seconds=time.monotonic() - started)
        write_report(report, out)
        typer.echo(report.markdown())
    if name == "all":
        texts = [(out / f"{chosen}.md").read_text(encoding="utf-8") for chosen in EXPERIMENTS]
        (out / "all.md").write_text("\n".join(texts), encoding="utf-8")
