"""Native resolution against conforming to 1 mm (4.2 "Native Resolution Efficiency", C.4, Fig. 4B): the numbers of
`benchmarks.vision_native`, which draws geometries from the paper's Table 2 and measures each in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vp_train.experiments.report import Bars, Report
from vp_train.experiments.statistics import Summary, summarise

PAPER = (
    "2 × faster in inference, 2.4 × less memory; 2.2 × less memory in training, over all numbers of volumes (Fig. 4B)."
)
MEASURES = (("inference", "cpu"), ("inference", "peak"), ("training", "peak"))
PAPERS_REFERENCE, CONFORMED = "isotropic", "1 mm"


def run(settings: Mapping[str, Any]) -> Report:
    """Measure, and report how many times more the conformed volumes cost.

    Raises:
        FileNotFoundError: the benchmarks are not there: they are part of the repository, not of the installed package.
        subprocess.CalledProcessError: the measurement failed; its own words stand on the standard error stream.
    """
    if find_spec("benchmarks") is None:
        raise FileNotFoundError(
            "The benchmarks are not on the path: run `python -m vp_train.cli experiment …` in a checkout."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "native.json"
        command = [sys.executable, "-m", "benchmarks.vision_native", "--training", "--json", str(path)]
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(path.read_text(encoding="utf-8"))
    return report(found, settings)


def report(found: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> Report:
    """From the benchmark's numbers: the costs of each sample, by number of volumes, mode (`inference`, `training`) and
    geometry.

    Args:
        settings: of the benchmark; `reference` says where volumes met natively (`VisionConfig.reference`).
    """
    native = str(settings.get("reference", PAPERS_REFERENCE))
    every: dict[tuple[str, str], list[float]] = {measure: [] for measure in MEASURES}
    bars: dict[str, list[Summary | None]] = {f"{mode}, {_unit(what)}": [] for mode, what in MEASURES}
    rows = []
    for count, modes in found.items():
        cells = [count]
        for mode, what in MEASURES:
            ratios = _ratios(modes[mode][native], modes[mode][CONFORMED], what)
            every[mode, what] += ratios
            summary = summarise(ratios)
            bars[f"{mode}, {_unit(what)}"].append(summary)
            means = " / ".join(f"{_mean(modes[mode][form], what):.2f}" for form in (native, CONFORMED))
            cells.append(f"{means}: {summary.plain()}")
        rows.append(tuple(cells))
    rows.append(("**all**", *(summarise(every[measure]).plain() for measure in MEASURES)))
    notes = (
        "Native / conformed to 1 mm isotropic, and how many times more the latter costs: mean ± deviation over samples "
        "[95 % interval]. One condition; training is the backward pass of one step.",
        "Geometries from the paper's Table 2; the field of view is scaled along each axis to what this machine holds.",
    )
    return Report(
        "native-resolution",
        "Native resolution against 1 mm isotropic (Fig. 4B)",
        PAPER,
        ("volumes", *(f"{mode}: {_unit(what)}" for mode, what in MEASURES)),
        tuple(rows),
        notes,
        dict(settings),
        {"costs": found},
        Bars(tuple(found), bars, "1 mm / native"),
    )


def _ratios(native: Sequence[Mapping[str, float]], conformed: Sequence[Mapping[str, float]], what: str) -> list[float]:
    pairs = zip(native, conformed, strict=True)
    return [float(iso[what]) / max(float(own[what]), 1e-9) for own, iso in pairs]


def _mean(costs: Sequence[Mapping[str, float]], what: str) -> float:
    return sum(float(cost[what]) for cost in costs) / len(costs)


def _unit(what: str) -> str:
    return {"cpu": "CPU seconds", "peak": "peak, GB"}[what]
