"""Share of the machine's measured peak that m reaches, in one run: a large matrix product, then the network.

    python -m benchmarks.vision_peak [--device cpu] [--threads 1] [--size 2048] [--shape 96,112,96] [--rounds 3]

Operations of convolutions and linear layers are counted from the shapes that pass through them (two for each
multiplication with its addition); normalisations, activations, pooling and resampling count as nothing, so that the
share says what they cost too. Seconds are CPU seconds of one thread on a CPU, wall-clock seconds on CUDA. bf16 runs the
network under autocast; the agreement of its masks with those of fp32 stands beside it.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from vp_model.geometry import Placed
from vp_model.vision.config import preset
from vp_model.vision.network import VisionNetwork


def seconds_of(work: Callable[[], Any], device: str, rounds: int) -> float:
    """Median seconds of one round, after one that warms up."""
    taken = []
    for number in range(rounds + 1):
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.process_time() if device == "cpu" else time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        now = time.process_time() if device == "cpu" else time.perf_counter()
        if number:
            taken.append(now - start)
    return statistics.median(taken)


def peak_of_products(size: int, dtype: torch.dtype, device: str, rounds: int) -> float:
    """Operations a second of a square matrix product: the faster of torch's libraries, where it has two.

    On a CPU torch multiplies single precision by MKL, which does not use the wide instructions of processors other than
    its maker's; oneDNN, which also computes the convolutions, does.
    """
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    ways = [seconds_of(lambda: left @ right, device, rounds)]
    if device == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
        packed = left.to_mkldnn(), right.to_mkldnn()
        ways.append(seconds_of(lambda: torch.nn.functional.linear(*packed), device, rounds))
    return 2 * size**3 / min(ways)


def operations_of(network: VisionNetwork, shapes: Sequence[tuple[int, int, int]]) -> int:
    """Operations of the convolutions and linear layers in one pass over volumes of 1 mm, for one condition.

    Counted on tensors without numbers, and with gradients, so that each layer sees its level as a whole: slab by slab
    they do not go through `forward`. Nor does the read-out's perceptron.
    """
    counted = copy.deepcopy(network).to("meta")
    perceptron = counted.read_out.hidden
    total = 0

    def count(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv3d | nn.Linear):
            total += 2 * output.numel() * layer.weight[0].numel()

    for layer in counted.modules():
        layer.register_forward_hook(count)
    volumes = [Placed(torch.empty(1, 1, *shape, device="meta"), np.eye(4)) for shape in shapes]
    with torch.inference_mode(False), torch.enable_grad():
        counted(volumes, torch.empty(1, len(volumes), network.config.condition_size, device="meta"))
    if perceptron is not None:
        weights = sum(layer.weight.numel() for layer in perceptron if isinstance(layer, nn.Conv3d))
        total += 2 * sum(math.prod(shape) for shape in shapes) * weights
    return total


def rows(
    name: str, shape: tuple[int, int, int], device: str, peaks: dict[torch.dtype, float], rounds: int
) -> list[str]:
    """The table's rows of a preset, one for each number type."""
    torch.manual_seed(0)
    config = preset(name)
    network = VisionNetwork(config).eval().to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    volume = Placed(torch.rand(1, 1, *shape, device=device), np.eye(4))
    phi = torch.rand(1, 1, config.condition_size, device=device)
    operations = operations_of(network, [shape])
    lines, exact = [], None
    for dtype, peak in peaks.items():
        mixed = nullcontext() if dtype == torch.float32 else torch.autocast(device.split(":")[0], dtype)
        with torch.inference_mode(), mixed:
            taken = seconds_of(lambda: network([volume], phi), device, rounds)
            mask = network([volume], phi)[0] > 0
        exact = mask if exact is None else exact
        same = float((mask == exact).float().mean())
        kind = str(dtype).removeprefix("torch.")
        lines.append(
            f"| {name} | {kind} | {operations / 1e9:.0f} | {taken:.2f} | {operations / taken / 1e9:.0f} "
            f"| {peak / 1e9:.0f} | {operations / taken / peak:.0%} | {same:.2%} |"
        )
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=2048, help="of the matrix product")
    parser.add_argument("--shape", default="96,112,96", help="voxels of 1 mm that m sees")
    parser.add_argument("--presets", default="paper,compact,slim")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    w, h, d = map(int, chosen.shape.split(","))
    peaks = {
        dtype: peak_of_products(chosen.size, dtype, chosen.device, chosen.rounds)
        for dtype in (torch.float32, torch.bfloat16)
    }
    print(f"{chosen.device}, {chosen.threads} thread(s), {w} × {h} × {d} voxels, product of {chosen.size}²\n")
    print("| preset | numbers | operations, 10⁹ | seconds | 10⁹/s | product, 10⁹/s | share | voxels as in fp32 |")
    print("|---|---|---|---|---|---|---|---|")
    for name in chosen.presets.split(","):
        print("\n".join(rows(name, (w, h, d), chosen.device, peaks, chosen.rounds)), flush=True)


if __name__ == "__main__":
    main()
