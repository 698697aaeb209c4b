"""Time from a fresh interpreter to the first answer, by phase, and what a second prompt costs after it.

    python -m benchmarks.first_answer [--scan FILE] [--prompt TEXT] [--rounds 3] [--json FILE]

Beside wall-clock seconds stand the process's CPU seconds, which other work on the machine changes little. Each round is
a new process, so that imports are paid for as a user pays for them (files may be in the system's cache:
the first round is left out). Without a scan a phantom of 176 × 224 × 176 voxels of 1 mm is asked about.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PHASES = (
    "interpreter",
    "import torch",
    "import the rest",
    "load the weights",
    "plan (α alone)",
    "read the scan",
    "first answer",
    "same prompt again",
    "other prompt",
)
OTHER_PROMPT = "what is the volume of the right thalamus?"


def child(scan: str, prompt: str, born: float) -> dict[str, tuple[float, float]]:
    """Runs the phases in this process: wall and CPU seconds of each.

    Args:
        born: wall-clock time at which the parent started this process.
    """
    seconds = {PHASES[0]: (time.time() - born, time.process_time())}

    def clock() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def lap(name: str, begun: tuple[float, float]) -> tuple[float, float]:
        now = clock()
        seconds[name] = now[0] - begun[0], now[1] - begun[1]
        return now

    begun = clock()
    import torch  # the phases are what is measured: imports stand where they happen

    begun = lap(PHASES[1], begun)
    from vp_model.agent import Agent
    from vp_model.outcome import InputVolume
    from vp_model.volume import Volume, read_nifti

    begun = lap(PHASES[2], begun)
    agent = Agent.load()
    begun = lap(PHASES[3], begun)
    plan = agent.plan(prompt, [InputVolume("v1", "T1", "2024-03-01", 0)])
    begun = lap(PHASES[4], begun)
    if scan:
        volume = read_nifti(Path(scan), kind="T1").named("v1")
    else:
        voxels, world = phantom()
        volume = Volume(torch.from_numpy(voxels)[None], world, name="v1", kind="T1")
    begun = lap(PHASES[5], begun)
    answer = agent.run(prompt, [volume])
    begun = lap(PHASES[6], begun)
    agent.run(prompt, [volume])
    begun = lap(PHASES[7], begun)
    agent.run(OTHER_PROMPT, [volume])
    lap(PHASES[8], begun)
    if plan.status != "answered" or answer.status != "answered":
        raise RuntimeError(f"The prompt was not answered: {answer.reason}")
    return seconds


def phantom() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A head of nested ellipsoids with noise, (w, h, d), and its world matrix."""
    shape = (176, 224, 176)
    axes = np.meshgrid(*[np.arange(size, dtype=np.float32) - size / 2 for size in shape], indexing="ij", sparse=True)
    chance = np.random.default_rng(0)
    image = np.zeros(shape, dtype=np.float32)
    for radii, value in (((82, 104, 84), 700.0), ((74, 94, 76), 60.0), ((70, 88, 70), 500.0), ((20, 34, 22), 150.0)):
        distance = sum(((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)), np.zeros(1))
        image[distance < 1] = value
    image += chance.normal(0, 20, shape).astype(np.float32)
    world = np.eye(4)
    world[:3, 3] = [-size / 2 for size in shape]
    return np.abs(image), world


def measure(scan: str, prompt: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each phase."""
    samples = []
    for _ in range(rounds + 1):
        command = [sys.executable, "-m", "benchmarks.first_answer", "--child", str(time.time()), "--prompt", prompt]
        done = subprocess.run([*command, "--scan", scan], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"The measured process failed:\n{done.stderr[-2000:]}")
        samples.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        phase: (
            statistics.median(sample[phase][0] for sample in samples[1:]),
            statistics.median(sample[phase][1] for sample in samples[1:]),
        )
        for phase in PHASES
    }


def table(seconds: dict[str, tuple[float, float]]) -> str:
    rows = ["| phase | seconds | CPU seconds | CPU since start |", "|---|---|---|---|"]
    total = 0.0
    for phase in PHASES:
        wall, busy = seconds[phase]
        if phase == "plan (α alone)":  # not on the way: a run plans for itself
            rows.append(f"| ({phase}) | {wall:.2f} | {busy:.2f} | |")
            continue
        total += busy
        rows.append(f"| {phase} | {wall:.2f} | {busy:.2f} | {total:.2f} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", default="", help="NIfTI file of a T1; default: a phantom")
    parser.add_argument("--prompt", default="segment the left hippocampus")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the numbers too")
    parser.add_argument("--child", type=float, default=0.0, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        print(json.dumps(child(chosen.scan, chosen.prompt, chosen.child)))
        return
    seconds = measure(chosen.scan, chosen.prompt, chosen.rounds)
    print(f"{chosen.prompt!r} on {'a scan' if chosen.scan else 'a phantom'}, median of {chosen.rounds} processes\n")
    print(table(seconds))
    if chosen.json:
        chosen.json.write_text(json.dumps(seconds, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
