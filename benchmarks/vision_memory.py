"""m on large volumes within a memory: what it takes, and that the result is that of everything in memory.

    python -m benchmarks.vision_memory [--full] [--presets paper,compact,slim] [--memory-gb 1,6] [--threads 1]

Quick by default: a phantom of 256 × 256 × 200 voxels. `--full` takes 512 × 512 × 400 (0.45 × 0.45 × 0.6 mm), the size
that a thin-slice CT has; the `paper` preset then computes for minutes. Peaks are those of a fresh process for each row,
without its imports and the volume itself (`volume` in the table): preparation, network, and the mask of one structure
on the volume's own grid.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.measuring import Cost, in_a_process, measured, phantom

QUICK = ((256, 256, 200), (0.9, 0.9, 1.2))
FULL = ((512, 512, 400), (0.45, 0.45, 0.6))


def measure(task: dict[str, Any]) -> Cost:
    import torch

    from vp_model.vision.config import preset
    from vp_model.vision.inference import FeatureCache, segment_volumes
    from vp_model.vision.network import VisionNetwork
    from vp_model.vision.streamed import StreamedLook
    from vp_model.volume import Volume

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    config = preset(task["preset"])
    network = VisionNetwork(config).eval()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    voxels, world = phantom(tuple(task["shape"]), tuple(task["spacing"]))
    volume = Volume(torch.from_numpy(voxels)[None], world, kind="T1")
    phi = torch.rand(task["conditions"], 1, config.condition_size)
    cache = FeatureCache(memory_bytes=int(task["memory_gb"] * 1e9))
    cost = measured(lambda: segment_volumes(network, [volume], phi, cache))
    seen = cache.look(network, [volume])
    size = " × ".join(str(extent) for extent in seen.prepared[0].image.shape)
    return Cost(
        cost.wall, cost.cpu, cost.peak, f"{size}, {'slabs' if isinstance(seen.look, StreamedLook) else 'whole'}"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--presets", default="paper,compact,slim")
    parser.add_argument("--memory-gb", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--conditions", type=int, default=1)
    chosen = parser.parse_args(arguments)
    shape, spacing = FULL if chosen.full else QUICK
    size = shape[0] * shape[1] * shape[2] * 4 / 1e9
    print(f"{' × '.join(map(str, shape))} voxels of {' × '.join(map(str, spacing))} mm; volume: {size:.2f} GB\n")
    print("| preset | memory for features, GB | m works on | peak above the volume, GB | seconds | CPU seconds |")
    print("|---|---|---|---|---|---|")
    limits = [float(part) for part in (chosen.memory_gb or ("6,3" if chosen.full else "100,1")).split(",")]
    for name in chosen.presets.split(","):
        for limit in limits if name == "paper" else limits[:1]:
            task = {"preset": name, "shape": shape, "spacing": spacing, "memory_gb": limit}
            cost = in_a_process(measure, {**task, "threads": chosen.threads, "conditions": chosen.conditions})
            print(
                f"| {name} | {limit:g} | {cost.note} | {cost.peak:.2f} | {cost.wall:.0f} | {cost.cpu:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
