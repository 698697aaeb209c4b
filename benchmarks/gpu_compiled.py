"""m on a GPU as it is, as a graph that is replayed, and compiled.

    python -m benchmarks.gpu_compiled [--device cuda] [--small]

A replayed graph has no gaps between its kernels: the difference is what launching costs. Compiling comes last, since
its first pass for a shape takes long: each line is printed as soon as it is known.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.gpu_vision import SHAPES, SMALL_SHAPE, Numbers, built, computing, one_volume
from benchmarks.measuring import measured_on
from benchmarks.vision_native import passes


def as_a_graph(name: str, numbers: Numbers, small: bool, device: str) -> str:
    network = built(name, device)
    volume = one_volume(SMALL_SHAPE if small else SHAPES[name], device)
    phi = torch.rand(1, 1, network.config.condition_size, device=device)
    infer, _ = passes(network, [volume], phi)
    with computing(numbers, device):
        plain = measured_on(device, infer)
        if device == "cpu":
            return f"| {name} | {numbers} | {plain.wall * 1e3:.2f} | {plain.cpu * 1e3:.2f} | – |"
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            infer()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            infer()
        replayed = measured_on(device, graph.replay)
    times = " | ".join(f"{cost * 1e3:.2f}" for cost in (plain.wall, plain.cpu, replayed.wall))
    return f"| {name} | {numbers} | {times} |"


def compiled(name: str, numbers: Numbers, small: bool, device: str) -> str:
    """The pass for this one shape, compiled as a single graph of tensors: what m works out about its grids is constant
    then.
    """
    network = built(name, device)
    volume = one_volume(SMALL_SHAPE if small else SHAPES[name], device)
    phi = torch.rand(1, 1, network.config.condition_size, device=device)

    def finest(features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return network([volume.with_features(features)], condition)[0]

    with computing(numbers, device), torch.no_grad():
        plain = measured_on(device, lambda: finest(volume.features, phi))
        begun = time.perf_counter()
        fast = torch.compile(make_fx(finest)(volume.features, phi), dynamic=False)
        fast(volume.features, phi)
        if device != "cpu":
            torch.cuda.synchronize()
        first = time.perf_counter() - begun
        after = measured_on(device, lambda: fast(volume.features, phi))
    times = f"{plain.wall * 1e3:.2f} | {plain.peak:.2f} | {first:.1f} | {after.wall * 1e3:.2f} | {after.peak:.2f}"
    return f"| {name} | {numbers} | {times} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args(arguments)
    print("| preset | numbers | ms | CPU ms to launch | ms, as a graph |\n|---|---|---|---|---|", flush=True)
    failed = False
    for name in SHAPES:
        for numbers in ("tf32", "bfloat16"):
            failed |= not told(as_a_graph, name, numbers, chosen)  # type: ignore[arg-type]
    print("\n| preset | numbers | ms | peak, GB | first compiled pass, s | ms, compiled | peak, GB |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in ("slim", "paper"):
        failed |= not told(compiled, name, "bfloat16", chosen)
    return int(failed)


def told(work: Callable[..., str], name: str, numbers: Numbers, chosen: argparse.Namespace) -> bool:
    """Prints the line that the work gives, or why there is none."""
    try:
        print(work(name, numbers, chosen.small, chosen.device), flush=True)
    except (RuntimeError, AssertionError):
        traceback.print_exc(file=sys.stdout)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
