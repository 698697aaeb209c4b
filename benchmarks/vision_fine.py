"""Small structures: the finest levels decoded only where a coarse look leaves doubt, against the full pass.

    python -m benchmarks.vision_fine [--scan FILE] [--structures 12] [--threads 1] [--shape 96,112,96] [--edge 24]

The first table asks the bundled weights for structures on a scan (or on a phantom), one by one and from nothing each
time, in one view: CPU seconds, Dice of both results, and the share of differing voxels, of the structure's own number,
by its size. The second gives the `paper` preset, whose cost is in its finest levels, a box of `--edge` voxels in the
middle: what a pass costs, and how much logits in the box differ, relative to their spread, for weights drawn at random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import phantom
from vp_model.checkpoint import CONDITIONS_FILE, Checkpoint, open_checkpoint
from vp_model.geometry import Placed
from vp_model.vision.config import config_from_dict, preset
from vp_model.vision.focused import Focus, decoded_in, segment_focused
from vp_model.vision.inference import FeatureCache, segment_volumes
from vp_model.vision.mirrored import load_conditions
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import prepare
from vp_model.vision.streamed import Memory
from vp_model.vision.weights import load_vision
from vp_model.volume import Volume, read_nifti

SIZES_ML = (2.0, 10.0, 50.0)
MEMORY = 6_000_000_000


@dataclass(frozen=True)
class Compared:
    """One structure: its volume, Dice of both results, voxels that differ as a share of its own, CPU seconds."""

    region: str
    volume_ml: float
    dice: float
    differing: float
    full: float
    focused: float


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def compare(checkpoint: Checkpoint, volume: Volume, count: int, focus: Focus) -> list[Compared]:
    """Structures of the checkpoint, evenly chosen, whose full pass finds at least ten voxels."""
    network = load_vision(config_from_dict(checkpoint.vision), checkpoint.folder)
    conditions = load_conditions(checkpoint.folder / CONDITIONS_FILE)
    regions = [region for region in checkpoint.regions if region in conditions]
    voxel_ml = abs(float(np.linalg.det(volume.world[:3, :3]))) / 1000
    results = []
    for region in regions[:: max(len(regions) // count, 1)]:
        phi = conditions[region].expand(1, 1, -1)
        full, dense_seconds = timed(lambda: segment_volumes(network, [volume], phi, FeatureCache())[0][0] > 0.5)  # noqa: B023

        def look_closely() -> torch.Tensor:
            prepared = [prepare(volume, network.config.working_spacing_mm)]
            return segment_focused(network, prepared, phi, focus, Memory(MEMORY))[0] > 0.5  # noqa: B023

        found, seconds = timed(look_closely)
        size, both = int(full.sum()), int((full & found).sum())
        if size < 10:
            continue
        dice = 2 * both / max(size + int(found.sum()), 1)
        apart = int((full ^ found).sum()) / size
        results.append(Compared(region, size * voxel_ml, dice, apart, dense_seconds, seconds))
    return results


def by_size(results: list[Compared]) -> list[str]:
    """A row for each class of sizes."""
    lines = []
    for low, high in zip((0.0, *SIZES_ML), (*SIZES_ML, float("inf")), strict=True):
        members = [item for item in results if low <= item.volume_ml < high]
        if members:
            dice = [item.dice for item in members]
            apart = float(np.mean([item.differing for item in members]))
            full, focused = (float(np.mean([getattr(item, name) for item in members])) for name in ("full", "focused"))
            name = f"{low:g} to {high:g} ml" if np.isfinite(high) else f"over {low:g} ml"
            lines.append(
                f"| {name} | {len(members)} | {np.mean(dice):.4f} | {min(dice):.4f} | {apart:.2%} "
                f"| {full:.2f} | {focused:.2f} |"
            )
    return lines


def paper_preset(shape: tuple[int, int, int], edge: int) -> list[str]:
    """Rows for one and two levels in the box."""
    torch.manual_seed(0)
    config = preset("paper")
    network = VisionNetwork(config).eval()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image, phi = Placed(torch.rand(1, 1, *shape), np.eye(4)), torch.rand(1, 1, config.condition_size)
    low, high = ([size // 2 + sign * edge // 2 for size in shape] for sign in (-1, 1))
    box = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    with torch.inference_mode():
        network([image], phi)
        dense, seconds = timed(lambda: network([image], phi)[0])
        inside = dense[(slice(None), *map(slice, low, high))]
        lines = [f"| full pass | {seconds:.2f} | – |"]
        for levels in (1, 2):
            (found,), taken = timed(
                lambda: decoded_in(network, [image], phi, Focus(levels=levels), Memory(MEMORY), [box])  # noqa: B023
            )
            error = float((found - inside).abs().max() / dense.std())
            lines.append(f"| {levels} level(s) in the box | {taken:.2f} | {error:.1%} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--structures", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", default="96,112,96")
    parser.add_argument("--edge", type=int, default=24)
    parser.add_argument("--levels", type=int, default=2)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.scan:
        volume = read_nifti(chosen.scan, kind="T1")
    else:
        voxels, world = phantom((160, 192, 176), (1.0, 1.0, 1.0))
        volume = Volume(torch.from_numpy(voxels)[None], world, kind="T1")
    results = compare(open_checkpoint(), volume, chosen.structures, Focus(levels=chosen.levels))
    print("| structures | number | Dice, mean | lowest | differing voxels | full pass, CPU s | focused, CPU s |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(by_size(results)))
    w, h, d = map(int, chosen.shape.split(","))
    print(f"\n`paper`, {w} × {h} × {d} voxels, box of {chosen.edge}³\n")
    print("| | CPU seconds | largest difference of logits, of their spread |\n|---|---|---|")
    print("\n".join(paper_preset((w, h, d), chosen.edge)))


if __name__ == "__main__":
    main()
