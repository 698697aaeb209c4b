"""m on a GPU: number types and layouts of memory, native resolution, conditions, slabs, agreement with the CPU.

Parts of `benchmarks.gpu`. Each gives the lines of its tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import vision_native
from benchmarks.measuring import Cost, measured_on
from benchmarks.vision_native import CONFORMED, GPU_COLUMNS, GPU_HEADER, conformed, draw, passes, row
from benchmarks.vision_peak import operations_of, peak_of_products
from benchmarks.vision_prompts import asked_about
from vp_model.checkpoint import CONDITIONS_FILE, open_checkpoint
from vp_model.geometry import Placed
from vp_model.vision.config import config_from_dict, preset
from vp_model.vision.mirrored import load_conditions
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import prepare
from vp_model.vision.streamed import Memory, look_streamed
from vp_model.vision.weights import load_vision

Numbers = Literal["float32", "tf32", "bfloat16"]
NUMBERS: tuple[Numbers, ...] = ("float32", "tf32", "bfloat16")
"""`tf32`: single precision whose products have ten bits; `bfloat16`: autocast."""
Shape = tuple[int, int, int]
SHAPES: dict[str, Shape] = {"paper": (96, 112, 96), "compact": (58, 71, 64), "slim": (58, 71, 64)}
"""Voxels: 10 cm at 1 mm, a whole head at 3 mm."""
LARGE_SHAPE: Shape = (192, 234, 160)
SMALL_SHAPE: Shape = (24, 28, 20)
PRODUCT = 8192
CONDITIONS = (1, 3, 10)
LIMITS_GB = (4.0, 1.0)
SAMPLES = 9


@contextmanager
def computing(numbers: Numbers, device: str) -> Iterator[None]:
    """Computes with a number type, and leaves torch's settings as they were."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = numbers == "tf32"
    mixed: AbstractContextManager[Any] = nullcontext()
    if numbers == "bfloat16":
        mixed = torch.autocast(device, torch.bfloat16)
    try:
        with mixed:
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def built(name: str, device: str, layout: torch.memory_format = torch.channels_last_3d) -> VisionNetwork:
    """A preset with weights drawn at random, the same each time."""
    torch.manual_seed(0)
    network = VisionNetwork(preset(name)).eval().to(device)
    return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def one_volume(shape: Shape, device: str) -> Placed:
    torch.manual_seed(1)
    return Placed(torch.rand(1, 1, *shape, device=device), np.eye(4))


def ways(device: str, small: bool) -> Iterator[str]:
    """Time, share of the measured peak and memory of a pass and of a step of training, by number type and layout."""
    peaks = {}
    for numbers in NUMBERS:
        with computing(numbers, device):
            dtype = torch.bfloat16 if numbers == "bfloat16" else torch.float32
            peaks[numbers] = peak_of_products(256 if small else PRODUCT, dtype, device, 5)
    products = ", ".join(f"{numbers} {peak / 1e12:.0f}" for numbers, peak in peaks.items())
    yield f"Matrix product of {PRODUCT}², 10¹²/s: {products}. One volume, one condition.\n"
    yield (
        "| preset | layout | numbers | operations, 10⁹ | ms | 10¹²/s | share | peak, GB | voxels as in fp32 "
        "| step of training, ms | its peak, GB |"
    )
    yield "|---" * 11 + "|"
    for name, shape in SHAPES.items():
        volume = one_volume(SMALL_SHAPE if small else shape, device)
        exact = None
        for layout in (torch.channels_last_3d, torch.contiguous_format):
            network = built(name, device, layout)
            phi = torch.rand(1, 1, network.config.condition_size, device=device)
            infer, learn = passes(network, [volume], phi)
            operations = operations_of(network, [volume.shape])
            for numbers in NUMBERS:
                with computing(numbers, device):
                    with torch.inference_mode():
                        mask = network([volume], phi)[0] > 0
                    seen = measured_on(device, infer)
                    learnt = measured_on(device, learn)
                network.zero_grad(set_to_none=True)
                exact = mask if exact is None else exact
                rate = operations / seen.wall
                kind = "channels last" if layout == torch.channels_last_3d else "contiguous"
                yield (
                    f"| {name} | {kind} | {numbers} | {operations / 1e9:.0f} | {seen.wall * 1e3:.2f} "
                    f"| {rate / 1e12:.1f} | {rate / peaks[numbers]:.0%} | {seen.peak:.2f} "
                    f"| {float((mask == exact).float().mean()):.2%} | {learnt.wall * 1e3:.1f} | {learnt.peak:.2f} |"
                )


def native(device: str, small: bool, seconds: float) -> Iterator[str]:
    """Native resolution against 1 mm at the full field of view, as many of the samples as the time allows."""
    references = ["isotropic", "own"]
    field = 0.12 if small else 1.0
    options = {"preset": "paper", "threads": 1, "device": device, "recompute": 0}
    yield f"`paper`, field of view × {field:g}, torch's own number type (convolutions in TF32).\n"
    yield GPU_HEADER[0].replace("| n |", "| n | samples |", 1)
    yield GPU_HEADER[1] + "---|"
    counts = range(1, 6)
    for count in counts:
        samples = draw(np.random.default_rng((0, count)), SAMPLES, count, field)
        costs: list[dict[str, list[Cost]]] = [{mode: [] for mode in (*references, CONFORMED)} for _ in range(2)]
        voxels = [0.0, 0.0]
        end = time.perf_counter() + seconds * count / sum(counts)
        taken = 0
        for grids in samples[: 1 if small else SAMPLES]:
            begun = time.perf_counter()
            for training, found in enumerate(costs):
                one = vision_native.compare([grids], options, references, bool(training))
                for mode, measured in one.items():
                    found[mode] += measured
            for side, form in enumerate((grids, conformed(grids))):
                voxels[side] += sum(float(np.prod(shape)) for shape, _ in form)
            taken += 1
            if 2 * time.perf_counter() - begun > end:  # another one would not end in time
                break
        for reference in references:
            line = row(count, reference, voxels[1] / voxels[0], costs[0], costs[1], GPU_COLUMNS)
            yield line.replace(f"| {count} |", f"| {count} | {taken} |", 1)


def conditions(device: str, small: bool) -> Iterator[str]:
    """What further conditions on the same volume cost."""
    heads = " | ".join(f"{count} condition(s), ms" for count in CONDITIONS)
    yield f"| preset | numbers | before φ, ms | {heads} | peak, GB |"
    yield "|---" * (4 + len(CONDITIONS)) + "|"
    for name, shape in SHAPES.items():
        network = built(name, device)
        volume = one_volume(SMALL_SHAPE if small else shape, device)
        for numbers in ("tf32", "bfloat16"):
            with computing(numbers, device), torch.inference_mode():  # type: ignore[arg-type]
                cells = [measured_on(device, lambda: network.shared([volume]))]  # noqa: B023
                shared = network.shared([volume])
                for count in CONDITIONS:
                    phi = torch.rand(count, 1, network.config.condition_size, device=device)
                    cells.append(measured_on(device, lambda: network.finish(shared, phi)))  # noqa: B023
            times = " | ".join(f"{cell.wall * 1e3:.2f}" for cell in cells)
            yield f"| {name} | {numbers} | {times} | {cells[-1].peak:.2f} |"


def slabs(device: str, small: bool) -> Iterator[str]:
    """A large volume as a whole and slab by slab."""
    network = built("paper", device)
    shape = SMALL_SHAPE if small else LARGE_SHAPE
    volume = one_volume(shape, device)
    phi = torch.rand(1, 1, network.config.condition_size, device=device)
    yield f"`paper`, {' × '.join(map(str, shape))} voxels, one condition.\n"
    yield "| memory for features, GB | numbers | ms | peak, GB | largest difference of logits |"
    yield "|---|---|---|---|---|"
    for numbers in ("tf32", "bfloat16"):
        with computing(numbers, device), torch.inference_mode():  # type: ignore[arg-type]
            whole = network([volume], phi)[0]
            cost = measured_on(device, lambda: network([volume], phi))
            yield f"| all | {numbers} | {cost.wall * 1e3:.1f} | {cost.peak:.2f} | – |"
            for limit in LIMITS_GB:
                # What was kept counts as long as it is held, so that each round needs a memory of its own.
                def look(limit: float = limit) -> list[torch.Tensor]:
                    return look_streamed(network, [volume], Memory(int(limit * 1e9))).logits(phi)

                apart = float((look()[0] - whole).abs().max())
                cost = measured_on(device, look)
                yield f"| {limit:g} | {numbers} | {cost.wall * 1e3:.1f} | {cost.peak:.2f} | {apart:.4f} |"
            del whole


def agreement(device: str, scan: Any) -> Iterator[str]:
    """The bundled weights on the GPU against the CPU: probabilities of all structures at m's own spacing."""
    checkpoint = open_checkpoint()
    network = load_vision(config_from_dict(checkpoint.vision), checkpoint.folder)
    trained = load_conditions(checkpoint.folder / CONDITIONS_FILE)
    phi = torch.stack([trained[region] for region in checkpoint.regions if region in trained])[:, None]
    volume = asked_about(scan)
    image = prepare(volume, network.config.working_spacing_mm).image
    with torch.inference_mode():
        expected = torch.sigmoid(network([image], phi)[0])
    network.to(device)
    there, asked = Placed(image.features.to(device), image.world), phi.to(device)
    name = "a phantom" if scan is None else "a scan"
    yield f"Weights {checkpoint.identity.name}, {name}, {len(phi)} structures, against float32 on the CPU.\n"
    yield "| numbers | largest difference of probability | mean Dice of masks | lowest | ms |"
    yield "|---|---|---|---|---|"
    for numbers in NUMBERS:
        with computing(numbers, device), torch.inference_mode():
            found = torch.sigmoid(network([there], asked)[0].float()).cpu()
            cost = measured_on(device, lambda: network([there], asked))
        dice = _dice(found > 0.5, expected > 0.5)
        largest = float((found - expected).abs().max())
        mean, lowest = (np.mean(dice), min(dice)) if dice else (float("nan"), float("nan"))
        yield f"| {numbers} | {largest:.5f} | {mean:.4f} | {lowest:.4f} | {cost.wall * 1e3:.2f} |"


def _dice(found: torch.Tensor, expected: torch.Tensor) -> Sequence[float]:
    """Of the structures that have ten voxels at least."""
    sizes = expected.flatten(1).sum(dim=1)
    both = (found & expected).flatten(1).sum(dim=1)
    total = sizes + found.flatten(1).sum(dim=1)
    return [2 * float(b) / float(t) for b, t, size in zip(both, total, sizes, strict=True) if size >= 10]
