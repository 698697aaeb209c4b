"""Training and validation curves as a picture (`curve.csv`, `validation.csv` → `curves.png`)."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def read_columns(path: Path) -> dict[str, list[float]]:
    """A CSV of numbers: column → values."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def plot_curves(folder: Path) -> Path | None:
    """Soft Dice on synthetic images and Dice on real scans against minutes; None where nothing was noted yet."""
    figure = Figure(figsize=(10, 4))
    FigureCanvasAgg(figure)
    drawn = False
    panels = (("curve.csv", "soft_dice", "synthetic, training"), ("validation.csv", "mean_dice", "real T1, validation"))
    for place, (name, value, title) in enumerate(panels, start=1):
        if not (folder / name).exists():
            continue
        columns = read_columns(folder / name)
        axes = figure.add_subplot(1, 2, place)
        for spacing in sorted(set(columns.get("spacing_mm", []))):
            chosen = [i for i, at in enumerate(columns["spacing_mm"]) if at == spacing]
            minutes = [columns["seconds"][i] / 60 for i in chosen]
            axes.plot(minutes, [columns[value][i] for i in chosen], label=f"{spacing:g} mm")
            drawn = True
        axes.set(title=title, xlabel="minutes", ylabel="mean Dice", ylim=(0, 1))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    if not drawn:
        return None
    figure.tight_layout()
    figure.savefig(folder / "curves.png", dpi=80)
    return folder / "curves.png"
