"""Native resolution against conforming to 1 mm isotropic: time and peak memory of m, as in the paper's Figure 4B.

    python -m benchmarks.vision_native [--samples 3] [--volumes 1,2,3,4,5] [--field 0.4] [--preset paper] [--threads 1]
                                       [--device cpu] [--training] [--recompute 0] [--reference isotropic,own]
                                       [--json FILE] [--arithmetic] [--working]

A sample is a field of view and, for each of n volumes, an acquisition with its spacings, drawn from the paper's Table 2
(`vp_train/synthesis/scan_geometries.json`), filled with Gaussian noise. The same sample goes through m natively and
conformed: every volume on the same grid of 1 mm (the resampling itself is not counted). Inference is one condition;
training is one step with soft Dice, forward and backward, where `--recompute` is the number of finest levels whose
activations are computed again. On a CPU each measurement is a fresh process; on a GPU (`--device cuda`) rounds are
repeated, and the peak is that of all allocated there. The ratio is that of the sums over samples; in parentheses stands
the mean of each sample's ratio, in which a sample counts as much whatever its size.

`--reference` says where volumes of different geometries meet (`VisionConfig.reference`); several are measured on the
same samples. Conformed volumes have one geometry, so that it does not matter there. `--arithmetic` counts what there is
to multiply, which takes seconds at the full field of view.

`--preset bundled` is the network of the bundled checkpoint. With `--working` native volumes are brought to the working
spacing of its configuration first, as they are whenever it runs, and that is counted; conformed ones stay at 1 mm.

A CPU cannot do the paper's field of view for five volumes in training: `--field` scales it along each axis. Spacings
are as they are, so that the ratios are those of the full field but for what borders cost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import OUT_OF_MEMORY, Cost, in_a_process, measured_on

if TYPE_CHECKING:
    import torch

    from vp_model.geometry import Placed
    from vp_model.vision.config import VisionConfig
    from vp_model.vision.network import VisionNetwork

Grid = tuple[tuple[int, int, int], tuple[float, float, float]]
"""Shape, and spacing in mm."""
CONFORMED = "1 mm"
BUNDLED = "bundled"
CPU_COLUMNS = (("cpu", "wall", "peak"), ("cpu", "peak"))
"""Of a `Cost`, what the table gives of inference and of training."""
GPU_COLUMNS = (("wall", "peak"), ("wall", "peak"))
CPU_HEADER = (
    "| n | reference | voxels, 1 mm : native | CPU seconds | seconds | peak, GB | training: CPU seconds | "
    "training: peak, GB |",
    "|---|---|---|---|---|---|---|---|",
)
GPU_HEADER = (
    "| n | reference | voxels, 1 mm : native | seconds | peak, GB | training: seconds | training: peak, GB |",
    "|---|---|---|---|---|---|---|",
)


def draw(chance: np.random.Generator, samples: int, count: int, field: float) -> list[list[Grid]]:
    """Grids of the `count` volumes of each sample. Acquisitions come in shuffled rounds of the table, so that few
    samples have them as often as many do: nine samples, each as often as any other.
    """
    from vp_train.synthesis.scan_geometries import load_scan_geometries

    table = load_scan_geometries()
    deviation = table.deviation_mm
    rows = list(table.rows.values())
    rounds = -(-samples * count // len(rows))
    kinds = iter([rows[index] for _ in range(rounds) for index in chance.permutation(len(rows))])
    found = []
    for _ in range(samples):
        view = [field * (extent + chance.uniform(-deviation, deviation)) for extent in table.field_of_view_mm]
        grids = []
        for _ in range(count):
            kind = next(kinds)
            plane = chance.uniform(*kind.in_plane)
            thick = plane if kind.slices is None else chance.uniform(*kind.slices)
            grids.append(_grid(view, [max(value, table.finest_mm) for value in (plane, plane, thick)]))
        found.append(grids)
    return found


def conformed(grids: list[Grid]) -> list[Grid]:
    """The field of view of a sample at 1 mm, as often as it has volumes."""
    views = [[size * step for size, step in zip(shape, spacing, strict=True)] for shape, spacing in grids]
    return [_grid([float(extent) for extent in np.mean(views, axis=0)], [1, 1, 1])] * len(grids)


def _grid(view: list[float], spacing: list[float]) -> Grid:
    w, h, d = (max(round(extent / step), 1) for extent, step in zip(view, spacing, strict=True))
    x, y, z = (float(step) for step in spacing)
    return (w, h, d), (x, y, z)


def multiplications(grids: list[Grid], config: VisionConfig) -> float:
    """Of one pass of m with one condition: those of the convolutions and of the interactions' linear layers."""
    from vp_model.geometry import pooled_grid, reference_grid, same_geometry

    placed = [(shape, np.diag([*spacing, 1.0])) for shape, spacing in grids]
    for (shape, spacing), (_, world) in zip(grids, placed, strict=True):
        world[:3, 3] = [-(size - 1) * step / 2 for size, step in zip(shape, spacing, strict=True)]
    size, n, total = config.interaction_size, len(grids), 0.0
    for level, width in enumerate(config.channels):
        deepest = level == config.levels - 1
        voxels = sum(float(np.prod(shape)) for shape, _ in placed)
        inputs = config.channels[level - 1] if level else 1
        total += voxels * 27 * inputs * width
        total += 0 if deepest else voxels * 27 * (config.channels[level + 1] + width) * width
        if level >= config.interaction_from:
            own = config.reference == "own" and not same_geometry(placed)
            shape = (
                placed[0][0] if same_geometry(placed) else reference_grid(placed, config.reference == "isotropic")[0]
            )
            met = voxels if own else float(np.prod(shape)) * n
            asking = 6 * size**2 + (2 * n * size if n > 1 else 0)
            others = (n if own else 1) * (2 if n > 1 else 1) * size**2
            met = met * (asking + others) + (voxels if own else met) * width * size
            total += (met + voxels * (width**2 + width * size)) * (1 if deepest else 2)
        placed = [pooled_grid(shape, world) for shape, world in placed]
    return total


def arithmetic(count: int, samples: list[list[Grid]], config: VisionConfig, references: list[str]) -> str:
    """One line of the table of multiplications: how many times more the conformed volumes take."""
    cells = [str(count)]
    voxels = [
        [sum(float(np.prod(shape)) for shape, _ in grids) for grids in form]
        for form in (map(conformed, samples), samples)
    ]
    pairs = [voxels]
    for reference in references:
        there = replace(config, reference=reference)  # type: ignore[arg-type]
        pairs.append([[multiplications(grids, there) for grids in form] for form in (map(conformed, samples), samples)])
    for iso, native in pairs:
        ratios = np.array(iso) / np.array(native)
        cells.append(f"**{sum(iso) / sum(native):.2f}×** ({ratios.mean():.1f})")
    return "| " + " | ".join(cells) + " |"


def measure(task: dict[str, Any]) -> Cost:
    import torch

    from vp_model.geometry import Placed
    from vp_model.vision.network import VisionNetwork
    from vp_model.vision.prepare import reduce_to

    device = task["device"]
    if device == "cpu":
        torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    config = configured(task["preset"], task["reference"])
    network = VisionNetwork(config).eval().to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.recomputed_levels = task["recompute"]
    volumes = []
    for shape, spacing in task["grids"]:
        world = np.diag([*spacing, 1.0])
        world[:3, 3] = [-(size - 1) * step / 2 for size, step in zip(shape, spacing, strict=True)]
        volumes.append(Placed(torch.randn(1, 1, *shape, device=device), world))
    phi = torch.rand(1, len(volumes), config.condition_size, device=device)
    working = task["working_mm"]

    def work() -> None:
        seen = volumes if working is None else [reduce_to(one.features, one.world, working) for one in volumes]
        passes(network, seen, phi)[1 if task["training"] else 0]()

    return measured_on(device, work)


def configured(name: str, reference: str) -> VisionConfig:
    """The configuration of a preset, or of the bundled checkpoint, which keeps its own meeting place."""
    from vp_model.checkpoint import open_checkpoint
    from vp_model.vision.config import config_from_dict, preset

    if name == BUNDLED:
        return config_from_dict(open_checkpoint().vision)
    return replace(preset(name), reference=reference)  # type: ignore[arg-type]


def passes(
    network: VisionNetwork, volumes: list[Placed], phi: torch.Tensor
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Inference, and a step of training with soft Dice."""
    import torch

    def infer() -> None:
        with torch.inference_mode():
            network(volumes, phi)

    def learn() -> None:
        network.zero_grad(set_to_none=True)
        losses = []
        for logits in network(volumes, phi):
            found = torch.sigmoid(logits.float())
            target = (found.detach() > 0.5).float()
            losses.append(1 - 2 * (found * target).sum() / (found.sum() + target.sum() + 1))
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]

    return infer, learn


def compare(
    samples: list[list[Grid]], options: dict[str, Any], references: list[str], training: bool
) -> dict[str, list[Cost]]:
    """Costs of every sample, natively by reference, and conformed."""
    costs: dict[str, list[Cost]] = {mode: [] for mode in (*references, CONFORMED)}
    for grids in samples:
        for mode, found in costs.items():
            chosen = (references[0], conformed(grids)) if mode == CONFORMED else (mode, grids)
            reference, shapes = chosen
            working = None if mode == CONFORMED else options.get("working_mm")
            task = {**options, "reference": reference, "grids": shapes, "training": training, "working_mm": working}
            found.append(in_a_process(measure, task) if options["device"] == "cpu" else measure(task))
    return costs


def row(
    count: int,
    reference: str,
    voxels: float,
    inference: dict[str, list[Cost]],
    training: dict[str, list[Cost]] | None,
    columns: Sequence[Sequence[str]] = CPU_COLUMNS,
) -> str:
    """One line of the table: means of seconds and peaks, native / conformed, and their ratios."""
    cells = [str(count), reference, f"{voxels:.1f}"]
    for costs, attributes in zip((inference, training), columns, strict=True):
        for attribute in attributes:
            cells.append("–" if costs is None else compared(costs[reference], costs[CONFORMED], attribute))
    return "| " + " | ".join(cells) + " |"


def compared(native: Sequence[Cost], iso: Sequence[Cost], attribute: str) -> str:
    """Means and ratios of what was measured on both sides; how many samples were too large for one of them."""
    pairs = np.array([[getattr(cost, attribute) for cost in both] for both in zip(native, iso, strict=True)])
    measured = np.isfinite(pairs).all(axis=1)
    left_out = f", {int((~measured).sum())} {OUT_OF_MEMORY}" if not measured.all() else ""
    if not measured.any():
        return OUT_OF_MEMORY
    native_mean, iso_mean = pairs[measured].mean(axis=0)
    mean = (pairs[measured, 1] / pairs[measured, 0]).mean()
    return f"{native_mean:.2f} / {iso_mean:.2f}: **{iso_mean / native_mean:.1f}×** ({mean:.1f}{left_out})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--volumes", default="1,2,3")
    parser.add_argument("--field", type=float, default=0.4)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--reference", default="isotropic", help="of isotropic, axis and own, with commas between")
    parser.add_argument("--recompute", type=int, default=0)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--arithmetic", action="store_true", help="count multiplications, and measure nothing")
    parser.add_argument("--working", action="store_true", help="native volumes at the preset's working spacing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the numbers too")
    chosen = parser.parse_args(arguments)
    options = {name: getattr(chosen, name) for name in ("preset", "threads", "device", "recompute")}
    references = chosen.reference.split(",")
    config = configured(chosen.preset, references[0])
    options["working_mm"] = config.working_spacing_mm if chosen.working else None
    if chosen.arithmetic:
        print(f"| n | voxels | {' | '.join(f'multiplications, {reference}' for reference in references)} |")
        print("|---" * (2 + len(references)) + "|")
        for count in map(int, chosen.volumes.split(",")):
            samples = draw(np.random.default_rng((chosen.seed, count)), chosen.samples, count, chosen.field)
            print(arithmetic(count, samples, config, references), flush=True)
        return
    print(f"{chosen.preset}, {chosen.samples} samples, field of view × {chosen.field:g}: native / 1 mm: ratio\n")
    on_cpu = chosen.device == "cpu"
    print("\n".join(CPU_HEADER if on_cpu else GPU_HEADER))
    numbers: dict[str, Any] = {}
    for count in map(int, chosen.volumes.split(",")):
        chance = np.random.default_rng((chosen.seed, count))
        samples = draw(chance, chosen.samples, count, chosen.field)
        native, iso = (
            sum(float(np.prod(shape)) for grids in samples for shape, _ in form(grids)) for form in (list, conformed)
        )
        inference = compare(samples, options, references, False)
        training = compare(samples, options, references, True) if chosen.training else None
        for reference in references:
            columns = CPU_COLUMNS if on_cpu else GPU_COLUMNS
            print(row(count, reference, iso / native, inference, training, columns), flush=True)
        numbers[str(count)] = {
            name: {mode: [vars(cost) for cost in found] for mode, found in costs.items()}
            for name, costs in (("inference", inference), ("training", training))
            if costs
        }
    if chosen.json:
        chosen.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
