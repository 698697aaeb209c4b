"""`vp-train experiment NAME`: one command for each of the paper's experiments, and `report`, which writes their tables
into a document.
"""

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

DataOption = Annotated[Path | None, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")]
OutOption = Annotated[Path, typer.Option(help="Folder for NAME.json, NAME.md and NAME.png.")]
ScaleOption = Annotated[str, typer.Option(help="`small` for a CPU, `full` as in the paper.")]
ScansOption = Annotated[Path | None, typer.Option(help="Folder of real scans with references; never trained on.")]
CheckpointOption = Annotated[Path | None, typer.Option(help="Checkpoint folder; the bundled one where not given.")]
OtherOption = Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of another tool's label maps; repeatable.")]
PreparedOption = Annotated[Path | None, typer.Option(help="Folder that `vp-train data prepare` filled.")]
DocumentOption = Annotated[
    Path | None, typer.Option(help="Document whose results are written anew from all reports in `--out`.")
]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads.")]
AgainOption = Annotated[
    bool, typer.Option("--again", help="With `all`: those too that are done with the same settings.")
]


@dataclass(frozen=True)
class Given:
    """What the command line gives an experiment."""

    settings: dict[str, Any]
    data: Path | None
    out: Path
    scans: Path | None
    checkpoint: Path | None
    others: dict[str, Path]
    prepared: Path | None

    def asked(self, scale: str) -> dict[str, Any]:
        """All that decides the result but the weights, as JSON holds it."""
        from vp_train.experiments.progress import listing

        folders = {"data": self.data, "scans": self.scans, "prepared": self.prepared, **self.others}
        return {
            "scale": scale,
            "settings": self.settings,
            "folders": {name: listing(folder) for name, folder in folders.items()},
        }

    def subjects(self) -> tuple[list[Any], list[Any]]:
        """(training, held out)

        Raises:
            typer.BadParameter: no folder of label maps was named.
        """
        from vp_train.datasets.maps import load_subjects, split

        if self.data is None:
            raise typer.BadParameter("Name the folder of label maps with --data.")
        return split(load_subjects(self.data, self.out / "cache"))

    def anatomies(self, subjects: list[Any]) -> list[Any]:
        """Where the voxels of each subject's label map lie."""
        from vp_train.synthesis.lesions.anatomy import load_anatomies

        if self.data is None:
            raise typer.BadParameter("Name the folder of label maps with --data.")
        return load_anatomies(self.data, subjects, self.out / "cache")


def _native(given: Given) -> Report:
    from vp_train.experiments.native import run

    return run(given.settings)


def _interaction(given: Given) -> Report:
    from vp_train.experiments.interaction import run

    return run(given.settings, *given.subjects())


def _specialists(given: Given) -> Report:
    from vp_train.experiments.specialists import run

    return run(given.settings, *given.subjects())


def _lesions(given: Given) -> Report:
    from vp_train.experiments.lesions import run

    subjects, held_out = given.subjects()
    anatomies = given.anatomies([*subjects, *held_out])
    return run(given.settings, subjects, held_out, anatomies, given.scans)


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


def _characterisation(given: Given) -> Report:
    from vp_train.experiments.characterisation.experiment import run

    subjects, held_out = given.subjects()
    return run(given.settings, subjects, held_out, given.anatomies([*subjects, *held_out]))


def _lesions_in_words(given: Given) -> Report:
    from vp_train.experiments.characterisation.measured import run

    held_out = given.subjects()[1]
    return run(given.settings, held_out, given.anatomies(held_out), given.checkpoint)


def _language(given: Given) -> Report:
    from vp_train.experiments.language import run

    return run(given.settings, given.checkpoint)


def _refusals(given: Given) -> Report:
    from vp_train.experiments.refusals import run

    return run(given.settings, given.checkpoint)


EXPERIMENTS: dict[str, Callable[[Given], Report]] = {
    "whole-brain": _anatomy,
    "zero-shot": _zero_shot,
    "longitudinal": _longitudinal,
    "end-to-end": _quantities,
    "specialists": _specialists,
    "native-resolution": _native,
    "interaction": _interaction,
    "lesion-synthesis": _lesions,
    "characterisation": _characterisation,
    "lesions-in-words": _lesions_in_words,
    "language": _language,
    "refusals": _refusals,
}
"""In the order in which their tables are shown."""


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
    name: Annotated[str, typer.Argument(help="An experiment, `all`, or `report` to write the document alone.")],
    out: OutOption,
    data: DataOption = None,
    scale: ScaleOption = "small",
    scans: ScansOption = None,
    checkpoint: CheckpointOption = None,
    other: OtherOption = None,
    prepared: PreparedOption = None,
    document: DocumentOption = None,
    threads: ThreadsOption = None,
    again: AgainOption = False,
) -> None:
    """Runs an experiment and writes its table; `all` goes on after an interruption with those that are not done."""
    if name != "report":
        given = Given({}, data, out, scans, checkpoint, _folders(other or []), prepared)
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        if name == "all":
            failed = _run_all(scale, given, again)
        else:
            failed = {}
            _run(name, scale, replace(given, settings=settings_of(name, scale)))
    else:
        failed = {}
    if document is not None:
        from vp_train.experiments.document import document as write_document

        missing = write_document(out, tuple(EXPERIMENTS), document)
        typer.echo(f"Wrote {document}." + (f" Without a report: {', '.join(missing)}." if missing else ""))
    elif name == "report":
        raise typer.BadParameter("Name the document to write with --document.")
    for lacking, reason in failed.items():
        typer.echo(f"{lacking}: {reason}", err=True)
    if failed:
        raise typer.Exit(1)


def _run_all(scale: str, given: Given, again: bool) -> dict[str, str]:
    """Runs all experiments that are not done, one after the other; one that fails keeps none of the others.

    Returns:
        Why, by the name of each that failed.
    """
    from vp_train.experiments.progress import is_done, note_failure

    failed: dict[str, str] = {}
    for name in EXPERIMENTS:
        held = replace(given, settings=settings_of(name, scale))
        if not again and is_done(name, held.asked(scale), given.out, given.checkpoint):
            typer.echo(f"{name}: done with these settings; --again runs it anew.")
            continue
        try:
            _run(name, scale, held)
        except (FileNotFoundError, typer.BadParameter) as problem:  # data that was not given
            failed[name] = str(problem)
        except Exception as problem:  # noqa: BLE001 (the boundary of an experiment: the others go on)
            failed[name] = f"{type(problem).__name__}: {problem} ({note_failure(name, problem, given.out)})"
    return failed


def _run(name: str, scale: str, given: Given) -> None:
    """Runs one experiment and writes its report."""
    from vp_train.experiments.progress import begin, note_done
    from vp_train.experiments.report import write_report

    begin(name, given.out)
    started, computed = time.monotonic(), time.process_time()
    report = EXPERIMENTS[name](given)
    report = replace(
        report,
        settings={"scale": scale, **report.settings},
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - computed,
    )
    write_report(report, given.out)
    note_done(name, given.asked(scale), given.out)
    typer.echo(report.markdown())


def _folders(entries: list[str]) -> dict[str, Path]:
    found = {}
    for entry in entries:
        tool, separator, folder = entry.partition("=")
        if not separator:
            raise typer.BadParameter(f"--other is NAME=FOLDER, not {entry!r}.")
        found[tool] = Path(folder)
    return found
