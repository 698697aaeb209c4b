"""Training of small networks within an experiment: the same steps as the checkpoint's, other networks and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vp_model.vision.config import VisionConfig, config_from_dict
from vp_model.vision.network import VisionNetwork
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import Image, Scene, corrupt, draw_grid, draw_scene, render
from vp_train.training.condition import ConditionTable
from vp_train.training.loss import soft_dice, whole_map_loss

SMALLEST_VOXELS = 8.0
THICKER = 2.0


@dataclass(frozen=True)
class Fit:
    """How a network of an experiment is trained.

    Attributes:
        network: configuration of m; `steps` of `rate` with a cosine fall; `spacing_mm` of the images.
        images: most images of one head that a step shows; `corrupted`: share of steps with one that shows nothing.
        voxelwise: weight of the cross-entropy over all structures; 0 leaves Dice alone (C.6).
    """

    network: VisionConfig
    steps: int
    rate: float
    spacing_mm: float
    images: int = 1
    corrupted: float = 0.0
    voxelwise: float = 1.0
    seed: int = 1


def read_fit(values: Mapping[str, Any], **changes: Any) -> Fit:
    """From the settings of an experiment; `changes` go to the network's configuration."""
    held = dict(values)
    return Fit(config_from_dict({**held.pop("network"), **changes}), **held)


def draw_images(
    subject: Subject,
    chance: Chance,
    spacing_mm: float,
    count: int,
    kind: str | None = None,
    prepared: Callable[[Scene, Chance], Scene] = lambda scene, chance: scene,
) -> list[Image]:
    """Images of one head: the first isotropic, others with one thick axis, as several sequences of a visit are."""
    labels = load_labels()
    scene = prepared(draw_scene(subject, labels, chance), chance)
    images = []
    for number in range(count):
        spacing = [spacing_mm] * 3
        spacing[chance.integer(3)] *= 1.0 if number == 0 else THICKER
        images.append(render(scene, labels, *draw_grid(subject, spacing, None, chance), chance, kind))
    return images


def fit(
    settings: Fit,
    subjects: Sequence[Subject],
    targets: Sequence[str] | None = None,
    kind: str | None = None,
    prepared: Callable[[Scene, Chance], Scene] = lambda scene, chance: scene,
) -> tuple[VisionNetwork, ConditionTable]:
    """A network trained on synthetic images.

    Args:
        targets: what it learns; every structure, the brain and the lesion where None. One alone is a specialist, and
            learns from soft Dice alone, as the paper's do.
        kind: sequence type of the images; drawn where None.
        prepared: what is done to each scene before it is rendered.
    """
    torch.manual_seed(settings.seed)
    labels = load_labels()
    names = tuple(targets or labels.targets)
    places = [labels.targets.index(name) for name in names]
    network = VisionNetwork(settings.network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    table = ConditionTable(names, settings.network.condition_size)
    parameters = [*network.parameters(), *table.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=settings.steps, pct_start=0.1)
    weights = torch.ones(len(names))
    for step in range(settings.steps):
        chance = Chance.seeded(settings.seed * 1_000_003 + step)
        subject = subjects[chance.integer(len(subjects))]
        count = 1 + chance.integer(settings.images)
        images = draw_images(subject, chance, settings.spacing_mm, count, kind, prepared)
        if count > 1 and chance.happens(settings.corrupted):
            spoiled = chance.integer(count)
            images[spoiled] = corrupt(images[spoiled], chance)
        losses = []
        for logits, image in zip(network([item.placed for item in images], table(count)), images, strict=True):
            wanted = image.targets[places]
            if len(names) == 1 or not settings.voxelwise:
                present = (wanted.flatten(1).sum(dim=1) > 1.0).to(wanted.dtype)
                dice = (soft_dice(logits, wanted) * present).sum() / present.sum().clamp(min=1)
                losses.append(1 - dice)
            else:
                losses.append(whole_map_loss(logits, wanted, settings.voxelwise, weights)[0])
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    return network.eval(), table.eval()


def dice_by_target(logits: torch.Tensor, targets: torch.Tensor, names: Sequence[str]) -> dict[str, float]:
    """Dice of each target that fills at least `SMALLEST_VOXELS`: logits and targets (k, w, h, d)."""
    found, wanted = (logits > 0).flatten(1).float(), (targets > 0.5).flatten(1).float()
    size = wanted.sum(dim=1)
    values = 2 * (found * wanted).sum(dim=1) / (found.sum(dim=1) + size).clamp(min=1)
    kept = (size >= SMALLEST_VOXELS).tolist()
    return {name: float(value) for name, value, there in zip(names, values, kept, strict=True) if there}
