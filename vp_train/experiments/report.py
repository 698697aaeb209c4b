"""What an experiment found: a table with the paper's beside it, as JSON, Markdown and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vp_train.experiments.statistics import Summary


@dataclass(frozen=True)
class Bars:
    """Bars of a plot: `groups[series]` holds a summary for each of `labels`, or None where there is none."""

    labels: tuple[str, ...]
    groups: Mapping[str, Sequence[Summary | None]]
    unit: str


@dataclass(frozen=True)
class Curve:
    """Lines of a plot: `lines[series]` holds x and y."""

    across: str
    up: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Report:
    """Result of an experiment.

    Attributes:
        name, title: its command, and what it asks.
        paper: what the paper found, in a sentence, with the place.
        columns, rows: the table.
        notes: what was done, at which scale, and what the numbers do not say.
        settings: what it ran with.
        values: everything measured, for machines.
        seconds: how long it took; `cpu_seconds`, how long it computed, whatever else the machine did.
    """

    name: str
    title: str
    paper: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    values: Mapping[str, Any]
    bars: Bars | None = None
    curve: Curve | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", f"Paper: {self.paper}", ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += [""] + [f"- {note}" for note in self.notes]
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        lines += ["", f"`vp-train experiment {self.name}`: {settings}; {self.cpu_seconds / 60:.1f} minutes of CPU "]
        lines[-1] += f"in {self.seconds / 60:.1f} minutes."
        lines.append("")
        return "\n".join(lines)


def write_report(report: Report, out: Path) -> None:
    """`<name>.json`, `<name>.md` and, where there are bars or a curve, `<name>.png`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False, default=str)
    (out / f"{report.name}.json").write_text(text + "\n", encoding="utf-8")
    (out / f"{report.name}.md").write_text(report.markdown(), encoding="utf-8")
    if report.bars is not None:
        draw_bars(report.bars, report.title, out / f"{report.name}.png")
    elif report.curve is not None:
        draw_curve(report.curve, report.title, out / f"{report.name}.png")


def draw_bars(bars: Bars, title: str, path: Path) -> None:
    """Grouped bars with the confidence interval of each mean."""
    figure = Figure(figsize=(max(6.0, 0.5 * len(bars.labels) * max(len(bars.groups), 1)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / max(len(bars.groups), 1)
    for index, (series, summaries) in enumerate(bars.groups.items()):
        for place, summary in enumerate(summaries):
            if summary is None:
                continue
            error = [[max(summary.mean - summary.low, 0.0)], [max(summary.high - summary.mean, 0.0)]]
            axes.bar(
                place + (index - (len(bars.groups) - 1) / 2) * width,
                summary.mean,
                width,
                yerr=error,
                color=f"C{index}",
                label=series if place == 0 else None,
                capsize=2,
            )
    axes.set_xticks(range(len(bars.labels)), bars.labels, rotation=0 if len(bars.labels) < 6 else 60, ha="center")
    axes.set_ylabel(bars.unit)
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def draw_curve(curve: Curve, title: str, path: Path) -> None:
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for series, (x, y) in curve.lines.items():
        axes.plot(x, y, label=series)
    axes.set(xlabel=curve.across, ylabel=curve.up)
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings on one level, for a report."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        result.update(flat(value) if isinstance(value, Mapping) else {key: value})
    return result
