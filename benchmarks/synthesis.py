"""Synthesis: studies and images a second, and the share of time that a step of training waits for them.

.venv/bin/python -m benchmarks.synthesis [--data LABEL_MAPS] [--studies 8] [--finest 1 2 4] [--steps 4]
                                       [--devices cpu cuda]

Studies are whole ones (sessions, lesions, sparsification, one target for each image) of a head in `--data`, or of a
made-up one where there is none. The first study of a setting warms up and is not counted. Seconds are those of the CPU
that the process used (of the clock, on CUDA), so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vp_model.vision.config import preset
from vp_model.vision.network import VisionNetwork
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject, read_subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy, anatomy_of, load_anatomies
from vp_train.synthesis.planning import StudySettings, plan_study
from vp_train.synthesis.scene import draw_grid, draw_scene, render
from vp_train.synthesis.study import SyntheticStudy, render_study
from vp_train.training.loss import segmentation_loss

REGIONS = ("left hippocampus", "right thalamus", "lateral ventricle", "brain")
PRESET = "compact"
MADE_UP_MM = (150, 180, 150)


@dataclass(frozen=True)
class Person:
    subject: Subject
    anatomy: Anatomy

    def on(self, device: torch.device) -> Person:
        return Person(replace(self.subject, labels=self.subject.labels.to(device)), self.anatomy.to(device))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of label maps")
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--finest", type=float, nargs="+", default=[1.0, 2.0, 4.0], help="mm")
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], help="those of them that are there")
    parser.add_argument("--steps", type=int, default=4, help="of training at the coarsest of these; 0 for none")
    chosen = parser.parse_args(arguments)
    person = load_person(chosen.data)
    devices = [torch.device(name) for name in chosen.devices if name == "cpu" or torch.cuda.is_available()]
    print(f"Subject {person.subject.name}, {torch.get_num_threads()} threads.\n")
    print(
        "| device | finest, mm | images a study | voxels a study | planning, s | rendering, s | studies/s | images/s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for device in devices:
        for finest in chosen.finest:
            print(study_row(person.on(device), finest, chosen.studies, device), flush=True)
    print("\n| device | one image, mm | images/s |\n|---|---|---|")
    for device in devices:
        for spacing in chosen.finest:
            rate = images_a_second(person.on(device), spacing, chosen.studies, device)
            print(f"| {device} | {spacing:g} | {rate:.1f} |", flush=True)
    if chosen.steps:
        print("\n| device | finest, mm | synthesis, s/step | network, s/step | waiting for synthesis |")
        print("|---|---|---|---|---|")
        for device in devices:
            print(waiting_row(person.on(device), max(chosen.finest), chosen.steps, device), flush=True)


def default_data() -> Path:
    shared = os.environ.get("VP_SHARED_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    return Path(shared) / "brains"


def load_person(folder: Path) -> Person:
    """The first label map of a folder, or a made-up head."""
    paths = sorted(folder.glob("synthseg_*_seg.nii.gz")) if folder.is_dir() else []
    if not paths:
        subject = made_up_head()
        return Person(subject, anatomy_of(subject))
    subject = read_subject(paths[0], load_labels())
    return Person(subject, load_anatomies(folder, [subject])[0])


def made_up_head() -> Subject:
    """Nested ellipsoids of the size of a head: skin, fluid, cortex, white matter, ventricles, hippocampi, thalami."""
    labels = load_labels()
    shape = [side + 60 for side in MADE_UP_MM]
    x, y, z = np.meshgrid(*[np.arange(side) - side / 2 + 0.5 for side in shape], indexing="ij")
    voxels = np.zeros(shape, dtype=np.uint8)
    parts = {
        "skin": ((0, 0, 0), (88, 105, 88)),
        "cerebrospinal fluid": ((0, 0, 0), (78, 93, 78)),
        "cerebral cortex": ((0, 0, 0), (74, 89, 74)),
        "cerebral white matter": ((0, 0, 0), (70, 85, 70)),
        "lateral ventricle": ((0, 0, 15), (20, 40, 10)),
        "thalamus": ((0, -5, 0), (20, 16, 9)),
        "hippocampus": ((0, -10, -25), (35, 12, 6)),
    }
    for name, (centre, radii) in parts.items():
        inside = sum(((c - m) / r) ** 2 for c, m, r in zip((x, y, z), centre, radii, strict=True)) <= 1
        sides = (f"left {name}", f"right {name}") if f"left {name}" in labels.names else (name, name)
        voxels[inside & (x < 0)] = labels.index(sides[0])
        voxels[inside & (x > 0)] = labels.index(sides[1])
    low = [(side - 2 * radius) // 2 for side, radius in zip(shape, (74, 89, 74), strict=True)]
    high = [(side + 2 * radius) // 2 for side, radius in zip(shape, (74, 89, 74), strict=True)]
    return Subject("made_up", torch.from_numpy(voxels), (low[0], low[1], low[2]), (high[0], high[1], high[2]))


def draw(person: Person, finest: float, seed: int, device: torch.device) -> tuple[SyntheticStudy, float, float]:
    """A study, and the seconds of its plan and of its images with one target each."""
    start = now(device)
    settings = StudySettings(finest_mm=finest)
    plan = plan_study(person.subject, load_labels(), Chance.seeded(seed, device), settings, person.anatomy)
    planned = now(device)
    study = render_study(plan, REGIONS[:1])
    for volume in range(len(study.images)):
        study.target(volume, REGIONS[0])
    return study, planned - start, now(device) - planned


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def study_row(person: Person, finest: float, count: int, device: torch.device) -> str:
    draw(person, finest, 0, device)
    images = voxels = 0
    planning = rendering = 0.0
    for seed in range(1, count + 1):
        study, plan_seconds, image_seconds = draw(person, finest, seed, device)
        images += len(study.images)
        voxels += sum(image.placed.features.numel() for image in study.images)
        planning, rendering = planning + plan_seconds, rendering + image_seconds
    total = planning + rendering
    return (
        f"| {device} | {finest:g} | {images / count:.1f} | {voxels / count / 1e6:.2f} M | {planning / count:.2f} | "
        f"{rendering / count:.2f} | {count / total:.2f} | {images / total:.1f} |"
    )


def images_a_second(person: Person, spacing: float, count: int, device: torch.device) -> float:
    """Images with the targets of all structures, as the training of the vision network alone draws them."""
    labels = load_labels()
    seconds = 0.0
    for seed in range(count + 1):
        start = now(device)
        chance = Chance.seeded(seed, device)
        scene = draw_scene(person.subject, labels, chance)
        render(scene, labels, *draw_grid(person.subject, [spacing] * 3, None, chance), chance)
        seconds += (now(device) - start) * (seed > 0)
    return count / seconds


def waiting_row(person: Person, finest: float, steps: int, device: torch.device) -> str:
    """Steps of the network on whole studies, the next one drawn in a thread meanwhile, as training does: the share of
    the clock that a step waits for its study.
    """
    network = VisionNetwork(preset(PRESET)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    drawn = waited = learned = 0.0

    def timed(seed: int) -> SyntheticStudy:
        nonlocal drawn
        start = time.perf_counter()
        study = draw(person, finest, seed, device)[0]
        drawn += time.perf_counter() - start
        return study

    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(timed, 0)
        for step in range(steps + 1):
            if step == 1:  # the first step warms up
                drawn = waited = learned = 0.0
            start = time.perf_counter()
            study = upcoming.result()
            upcoming = pool.submit(timed, step + 1)
            arrived = time.perf_counter()
            learn(network, optimizer, study, device)
            waited, learned = waited + arrived - start, learned + time.perf_counter() - arrived
    share = waited / (waited + learned)
    return f"| {device} | {finest:g} | {drawn / steps:.2f} | {learned / steps:.2f} | {share:.0%} |"


def learn(
    network: VisionNetwork, optimizer: torch.optim.Optimizer, study: SyntheticStudy, device: torch.device
) -> None:
    images = [image.placed for image in study.images]
    phi = torch.zeros(len(REGIONS), len(images), network.config.condition_size, device=device)
    losses = [
        segmentation_loss(logits, torch.stack([study.target(volume, region) for region in REGIONS]), 0.0)[0]
        for volume, logits in enumerate(network(images, phi))
    ]
    optimizer.zero_grad(set_to_none=True)
    torch.stack(losses).mean().backward()
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
