"""What the benchmarks of m share: a task in a process of its own, or on a GPU, with its times and its peak of memory; a
phantom.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

GIGABYTE = 1e9
LAYERS = ((1.0, 700.0), (0.9, 60.0), (0.85, 500.0), (0.3, 150.0))
"""Scalp, skull, brain and ventricles: radius as a share of the head's, intensity."""
HEAD_MM = (152.0, 190.0, 180.0)
ROUNDS_SECONDS = 0.3
"""Of rounds on a GPU, whose number lies between one and `MOST_ROUNDS`."""
MOST_ROUNDS = 7
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Cost:
    """Wall-clock and CPU seconds of the work, and the peak of the process's memory above what it held before, in GB."""

    wall: float
    cpu: float
    peak: float
    note: str = ""


def measured(work: Callable[[], Any]) -> Cost:
    """What some work costs in this process.

    The peak of a process never falls: one process measures one thing.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Cost(wall, cpu, (after - before) * 1024 / GIGABYTE)


def measured_on(device: str, work: Callable[[], Any]) -> Cost:
    """As `measured`; on a GPU the medians of several rounds after one that warms up, seconds between events of the GPU,
    and the peak of all that torch has allocated there. What does not fit leaves a note in place of numbers.
    """
    import torch

    if device == "cpu":
        return measured(work)
    walls: list[float] = []
    cpus: list[float] = []
    fits = True
    try:
        torch.cuda.reset_peak_memory_stats()
        warming = _round_on_gpu(work)[0]
        for _ in range(min(max(int(ROUNDS_SECONDS / warming), 1), MOST_ROUNDS)):
            wall, cpu = _round_on_gpu(work)
            walls.append(wall)
            cpus.append(cpu)
    except torch.OutOfMemoryError:
        fits = False
    if not fits:  # once the error, which holds the tensors of its frames, is gone
        torch.cuda.empty_cache()
        return Cost(float("nan"), float("nan"), float("nan"), OUT_OF_MEMORY)
    peak = torch.cuda.max_memory_allocated() / GIGABYTE
    return Cost(statistics.median(walls), statistics.median(cpus), peak)


def _round_on_gpu(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the GPU, and of the process's CPU."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    cpu = time.process_time()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000, time.process_time() - cpu


def in_a_process(function: Callable[[dict[str, Any]], Cost], task: dict[str, Any]) -> Cost:
    """What a function measures in a fresh process, which a server forks once torch is imported. A process that
    the system kills for its memory leaves a note in place of numbers.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "vp_model.vision.inference"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, task))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = OUT_OF_MEMORY
    process.join()
    if isinstance(answer, Cost):
        return answer
    if answer != OUT_OF_MEMORY:
        raise RuntimeError(f"The measured process failed: {answer}")
    return Cost(float("nan"), float("nan"), float("nan"), answer)


def _child(sender: Connection, function: Callable[[dict[str, Any]], Cost], task: dict[str, Any]) -> None:
    try:
        sender.send(function(task))
    except (MemoryError, RuntimeError) as error:
        text = f"{type(error).__name__}: {error}"
        sender.send(OUT_OF_MEMORY if "memory" in text.lower() else text)


def phantom(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A head of nested ellipsoids with noise, (w, h, d), in the middle of its grid, and its world matrix."""
    chance = np.random.default_rng(0)
    image = np.empty(shape, dtype=np.float32)
    across, front, up = (
        ((np.arange(size, dtype=np.float32) - size / 2) * step / (extent / 2)) ** 2
        for size, step, extent in zip(shape, spacing, HEAD_MM, strict=True)
    )
    for index in range(shape[0]):  # plane by plane: the phantom itself must not make the peak
        distance = across[index] + front[:, None] + up[None]
        plane = np.zeros(shape[1:], dtype=np.float32)
        for radius, value in LAYERS:
            plane[distance < radius**2] = value
        image[index] = np.abs(plane + chance.standard_normal(shape[1:], dtype=np.float32) * 20)
    world = np.diag([*spacing, 1.0])
    world[:3, 3] = [-size * step / 2 for size, step in zip(shape, spacing, strict=True)]
    return image, world
