"""Training examples: one head in one to three synthetic images, determined by the recipe's seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.parcels import load_parcels
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.scene import Image, corrupt, draw_field, draw_grid, draw_scene, render
from vp_train.training.recipe import LesionDrawing, Recipe, Scale

SEED_STRIDE = 1_000_003
THICKER = (1.5, 2.0, 3.0, 4.0)
"""How much thicker than the plane's spacing a slice may be; at 1.5 mm this is 2 to 6 mm."""
THICKEST_MM = 8.0

LesionSource = Callable[[Subject, int], tuple[SyntheticLesion, ...]]
"""Lesions of a subject, of a seed."""


@dataclass(frozen=True, eq=False)
class Example:
    """What a step learns from.

    Attributes:
        images: of one head, whose targets are in the order of `names`.
        names: of the targets that are asked for, some of `Recipe.targets`.
    """

    images: list[Image]
    scale: Scale
    names: tuple[str, ...]


def draw_example(
    subjects: Sequence[Subject], recipe: Recipe, step: int, lesions: LesionSource | None = None
) -> Example:
    """The example of a step; the same for the same recipe and step, and on the same device.

    Args:
        subjects: on the device that draws.
        lesions: needed where the recipe draws lesions.

    Raises:
        ValueError: the recipe draws lesions, and there is no source of them.
    """
    chance = Chance.seeded(recipe.seed * SEED_STRIDE + step, subjects[0].labels.device)
    labels = load_labels()
    weights = torch.tensor([scale.weight for scale in recipe.mix])
    scale = recipe.mix[int(torch.multinomial(weights, 1, generator=chance.generator))]
    count = 1
    if chance.happens(recipe.several):
        scale = scale if recipe.several_anywhere else max(recipe.mix, key=lambda entry: entry.spacing)
        count = 2 + chance.integer(2)
    subject = subjects[chance.integer(len(subjects))]
    scene = draw_scene(subject, labels, chance)
    contrasts: Mapping[str, float] = {}
    if recipe.lesions is not None and chance.happens(recipe.lesions.share):
        if lesions is None:
            raise ValueError("This recipe draws lesions, which needs the subjects' anatomies.")
        scene = replace(scene, synthetic=lesions(subject, chance.seed()))
        contrasts = recipe.lesions.contrasts
    regions: tuple[str, ...] = ()
    if recipe.regions:
        names = load_parcels().names
        drawn = torch.randperm(len(names), generator=chance.generator)[: recipe.regions]
        regions = tuple(names[index] for index in sorted(drawn.tolist()))
    images = []
    for _ in range(count):
        spacing = [scale.spacing] * 3
        if chance.happens(recipe.thick):
            thicker = scale.spacing * THICKER[chance.integer(len(THICKER))]
            spacing[chance.integer(3)] = max(min(thicker, THICKEST_MM), scale.spacing)
        if scale.field_mm is None:
            grid = draw_grid(subject, spacing, scale.crop, chance)
        else:
            grid = draw_field(subject, scale.field_mm, spacing, chance)
        kind = draw_kind(contrasts, chance)
        images.append(render(scene, labels, *grid, chance, kind, recipe.pathologies, regions, recipe.part_mm))
    if count > 1 and chance.happens(recipe.corrupted):
        spoiled = chance.integer(count)
        images[spoiled] = corrupt(images[spoiled], chance)
    return Example(images, scale, (*labels.targets, *regions, *recipe.pathologies))


def draw_focal(
    subject: Subject, anatomy: Anatomy, drawing: LesionDrawing, chance: Chance
) -> tuple[SyntheticLesion, ...]:
    """Lesions of one or several kinds, which do not touch each other."""
    weights = {name: drawing.kinds.get(name, kind.weight) for name, kind in load_kinds().items()}
    names = [name for name, weight in weights.items() if weight > 0]
    chosen = [names[chance.choice([weights[name] for name in names])] for _ in range(1 + chance.choice(drawing.counts))]
    found: tuple[SyntheticLesion, ...] = ()
    for name in chosen:
        found += draw_lesions(subject, anatomy, chance, 1, (name,), avoid=found)
    return found


def lesions_from(anatomies: Mapping[str, Anatomy], drawing: LesionDrawing) -> LesionSource:
    """Draws where it is called, on the CPU.

    Args:
        anatomies: by the subjects' names, on the CPU.
    """

    def draw(subject: Subject, seed: int) -> tuple[SyntheticLesion, ...]:
        return draw_focal(subject.to("cpu"), anatomies[subject.name], drawing, Chance.seeded(seed))

    return draw


def draw_kind(contrasts: Mapping[str, float], chance: Chance) -> str | None:
    """A sequence type, or None for any."""
    names = list(contrasts)
    rest = max(0.0, 1.0 - sum(contrasts.values()))
    index = chance.choice([*contrasts.values(), rest]) if names else 0
    return names[index] if index < len(names) else None
