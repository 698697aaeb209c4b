"""What the first, second, third and tenth prompt about the same volumes cost, and all structures at once.

    python -m benchmarks.vision_prompts [--scan FILE] [--device cpu] [--threads 1] [--rounds 1] [--structures 45]

With the bundled checkpoint, on a scan or on a phantom of 1 mm. Prompts share what does not depend on φ where they are
asked through one `Sight` (`shared`); `apart` is the same prompt with nothing kept. Seconds are of the process's CPU, or
of the clock where m is on a GPU. The peak is that of the process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measuring import phantom
from vp_model.agent import Agent
from vp_model.volume import Volume, read_nifti

NAMED = {1: "first", 2: "second", 3: "third", 10: "tenth"}


def prompts_of(agent: Agent, count: int) -> list[str]:
    """One prompt for each structure that the checkpoint finds."""
    return [f"segment the {structure.region}" for structure in agent.checkpoint.structures][:count]


def ask(
    agent: Agent,
    volume: Volume,
    prompts: list[str],
    shared: bool,
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Seconds of each prompt."""
    sight = agent.sight([volume]) if shared else None
    taken = []
    for prompt in prompts:
        start = clock()
        agent.run(prompt, [volume], sight=sight)
        taken.append(clock() - start)
    return taken


def asked_about(scan: Path | None) -> Volume:
    """A T1 from a file, or the phantom."""
    if scan:
        return read_nifti(scan, kind="T1").named("v1")
    voxels, world = phantom((176, 208, 192), (1.0, 1.0, 1.0))
    return Volume(torch.from_numpy(voxels)[None], world, name="v1", kind="T1")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--structures", type=int, default=45)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    agent = Agent.load(device=chosen.device)
    clock = time.process_time if chosen.device == "cpu" else time.perf_counter
    volume = asked_about(chosen.scan)
    prompts = prompts_of(agent, chosen.structures)
    ask(agent, volume, prompts[:1], False)  # warms up
    shared = [ask(agent, volume, prompts, True, clock) for _ in range(chosen.rounds)]
    apart = [ask(agent, volume, prompts[:3], False, clock) for _ in range(chosen.rounds)]
    seconds = "CPU seconds" if chosen.device == "cpu" else f"seconds, m on {chosen.device}"
    print(f"{' × '.join(map(str, volume.shape))} voxels, {chosen.threads} thread(s), {seconds}\n")
    print("| prompt | shared | apart |\n|---|---|---|")
    for number, name in NAMED.items():
        if number <= len(prompts):
            alone = f"{statistics.median(taken[number - 1] for taken in apart):.2f}" if number <= 3 else "–"
            print(f"| {name} | {statistics.median(taken[number - 1] for taken in shared):.2f} | {alone} |")
    total = statistics.median(sum(taken) for taken in shared)
    print(f"| all {len(prompts)} structures, one prompt each | {total:.1f} | – |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"\nPeak of the process, with torch, transformers and the volume: {peak:.2f} GB")


if __name__ == "__main__":
    main()
