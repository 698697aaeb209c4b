"""Native resolution against conforming to 1 mm isotropic: time and peak memory of m, as in the paper's Figure 4B.

    python -m benchmarks.vision_native [--samples 3] [--volumes 1,2,3,4,5] [--field 0.4] [--preset paper] [--threads 1]
                                       [--device cpu] [--training] [--reference isotropic] [--json FILE]

A sample is a field of view and, for each of n volumes, an acquisition with its spacings, drawn from the paper's Table 2
(`vp_train/synthesis/scan_geometries.json`), filled with Gaussian noise. The same sample goes through m natively and
conformed: every volume resampled to 1 mm (the resampling itself is not counted). Inference is one condition; training
is the backward pass of one step with soft Dice. Each measurement of memory is a fresh process; ratios are of the sums
over samples.

`--reference axis` lets volumes meet on a grid with the smallest spacing of each axis in place of the paper's, which has
the smallest spacing of all.

A CPU cannot do the paper's field of view for five volumes in training (an 80 GB GPU could not either): `--field` scales
it along each axis. Spacings are as they are, so that the ratios are those of the full field but for what borders cost.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Cost, in_a_process, measured

Grid = tuple[tuple[int, int, int], tuple[float, float, float]]
"""Shape, and spacing in mm."""
MODES = ("native", "1 mm")


def draw(chance: np.random.Generator, count: int, field: float) -> list[Grid]:
    """Grids of the volumes of one sample."""
    from vp_train.synthesis.scan_geometries import load_scan_geometries

    table = load_scan_geometries()
    deviation = table.deviation_mm
    view = [field * (extent + chance.uniform(-deviation, deviation)) for extent in table.field_of_view_mm]
    rows = list(table.rows.values())
    grids = []
    for _ in range(count):
        kind = rows[chance.integers(len(rows))]
        plane = chance.uniform(*kind.in_plane)
        thick = plane if kind.slices is None else chance.uniform(*kind.slices)
        grids.append(_grid(view, [max(value, table.finest_mm) for value in (plane, plane, thick)]))
    return grids


def conformed(grids: list[Grid]) -> list[Grid]:
    """The same fields of view at 1 mm."""
    return [
        _grid([size * step for size, step in zip(shape, spacing, strict=True)], [1, 1, 1]) for shape, spacing in grids
    ]


def _grid(view: list[float], spacing: list[float]) -> Grid:
    w, h, d = (max(round(extent / step), 1) for extent, step in zip(view, spacing, strict=True))
    x, y, z = (float(step) for step in spacing)
    return (w, h, d), (x, y, z)


def measure(task: dict[str, Any]) -> Cost:
    import torch

    from vp_model.geometry import Placed
    from vp_model.vision.config import preset
    from vp_model.vision.network import VisionNetwork

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    config = replace(preset(task["preset"]), reference=task["reference"])
    network = VisionNetwork(config).eval().to(task["device"])
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    volumes = []
    for shape, spacing in task["grids"]:
        world = np.diag([*spacing, 1.0])
        world[:3, 3] = [-(size - 1) * step / 2 for size, step in zip(shape, spacing, strict=True)]
        volumes.append(Placed(torch.randn(1, 1, *shape).to(task["device"]), world))
    phi = torch.rand(1, len(volumes), config.condition_size, device=task["device"])

    def infer() -> None:
        with torch.inference_mode():
            network(volumes, phi)

    def learn() -> None:
        losses = []
        for logits in network(volumes, phi):
            found = torch.sigmoid(logits)
            target = (found.detach() > 0.5).float()
            losses.append(1 - 2 * (found * target).sum() / (found.sum() + target.sum() + 1))
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]

    return measured(learn if task["training"] else infer)


def compare(samples: list[list[Grid]], options: dict[str, Any], training: bool) -> dict[str, list[Cost]]:
    """Costs of every sample, by mode."""
    costs: dict[str, list[Cost]] = {mode: [] for mode in MODES}
    for grids in samples:
        for mode in MODES:
            chosen = grids if mode == "native" else conformed(grids)
            costs[mode].append(in_a_process(measure, {**options, "grids": chosen, "training": training}))
    return costs


def row(count: int, voxels: float, inference: dict[str, list[Cost]], training: dict[str, list[Cost]] | None) -> str:
    """One line of the table: seconds and peaks, native and conformed, and their ratios."""
    cells = [str(count), f"{voxels:.1f}"]
    for costs, attributes in ((inference, ("cpu", "wall", "peak")), (training, ("cpu", "peak"))):
        for attribute in attributes:
            if costs is None:
                cells.append("–")
                continue
            native, iso = (sum(getattr(cost, attribute) for cost in costs[mode]) for mode in MODES)
            each = len(costs["native"])
            cells.append(f"{native / each:.2f} / {iso / each:.2f}: **{iso / native:.1f}×**")
    return "| " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--volumes", default="1,2,3")
    parser.add_argument("--field", type=float, default=0.4)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--reference", default="isotropic", choices=("isotropic", "axis"))
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the numbers too")
    chosen = parser.parse_args(arguments)
    options = {name: getattr(chosen, name) for name in ("preset", "threads", "device", "reference")}
    print(
        f"{chosen.preset}, {chosen.reference}, {chosen.samples} samples, field of view × {chosen.field:g}: "
        "native / 1 mm: ratio\n"
    )
    print(
        "| n | voxels, 1 mm : native | CPU seconds | seconds | peak, GB | training: CPU seconds | training: peak, GB |"
    )
    print("|---|---|---|---|---|---|---|")
    numbers: dict[str, Any] = {}
    for count in map(int, chosen.volumes.split(",")):
        chance = np.random.default_rng((chosen.seed, count))
        samples = [draw(chance, count, chosen.field) for _ in range(chosen.samples)]
        native, iso = (
            sum(float(np.prod(shape)) for grids in samples for shape, _ in form(grids)) for form in (list, conformed)
        )
        inference = compare(samples, options, False)
        training = compare(samples, options, True) if chosen.training else None
        print(row(count, iso / native, inference, training), flush=True)
        numbers[str(count)] = {
            name: {mode: [vars(cost) for cost in costs[mode]] for mode in MODES}
            for name, costs in (("inference", inference), ("training", training))
            if costs
        }
    if chosen.json:
        chosen.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
