"""What the benchmarks of m share: a task in a process of its own with its times and its peak of memory; a phantom."""

from __future__ import annotations

import multiprocessing
import resource
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


@dataclass(frozen=True)
class Cost:
    """Wall-clock and CPU seconds of the work, and the peak of the process's memory above what it held before, in GB."""

    wall: float
    cpu: float
    peak: float
    note: str = ""


def measured(work: Callable[[], Any]) -> Cost:
    """What some work costs in this process. On CUDA the peak is that of the GPU's memory.

    The peak of a process never falls: one process measures one thing.
    """
    import torch

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cuda = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if cuda:
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = torch.cuda.max_memory_allocated() / GIGABYTE if cuda else (after - before) * 1024 / GIGABYTE
    return Cost(wall, cpu, peak)


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
        answer = "out of memory"
    process.join()
    if isinstance(answer, Cost):
        return answer
    if answer != "out of memory":
        raise RuntimeError(f"The measured process failed: {answer}")
    return Cost(float("nan"), float("nan"), float("nan"), answer)


def _child(sender: Connection, function: Callable[[dict[str, Any]], Cost], task: dict[str, Any]) -> None:
    try:
        sender.send(function(task))
    except (MemoryError, RuntimeError) as error:
        text = f"{type(error).__name__}: {error}"
        sender.send("out of memory" if "memory" in text.lower() else text)


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
