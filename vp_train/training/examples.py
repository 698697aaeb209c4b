"""Training examples: one head in one to three synthetic images, determined by the recipe's seed and the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.scene import Image, Scene, corrupt, draw_grid, draw_scene, render
from vp_train.training.recipe import LesionDrawing, Recipe, Scale

SEED_STRIDE = 1_000_003
THICKER = (1.5, 2.0, 2.5, 3.0)
"""How much thicker than the plane's spacing a slice may be; at 2 mm this is 3 to 6 mm."""


def draw_example(
    subjects: Sequence[Subject], recipe: Recipe, step: int, anatomies: Mapping[str, Anatomy] | None = None
) -> tuple[list[Image], Scale]:
    """The images of a step and their scale; the same for the same recipe and step.

    Args:
        anatomies: by the subjects' names; needed where the recipe draws lesions.
    """
    chance = Chance.seeded(recipe.seed * SEED_STRIDE + step)
    labels = load_labels()
    weights = torch.tensor([scale.weight for scale in recipe.mix])
    scale = recipe.mix[int(torch.multinomial(weights, 1, generator=chance.generator))]
    count = 1
    if chance.happens(recipe.several):
        scale = max(recipe.mix, key=lambda entry: entry.spacing)
        count = 2 + chance.integer(2)
    subject = subjects[chance.integer(len(subjects))]
    scene = draw_scene(subject, labels, chance)
    contrasts: Mapping[str, float] = {}
    if recipe.lesions is not None and chance.happens(recipe.lesions.share):
        scene = with_lesions(scene, recipe.lesions, anatomies or {}, chance)
        contrasts = recipe.lesions.contrasts
    images = []
    for _ in range(count):
        spacing = [scale.spacing] * 3
        if chance.happens(recipe.thick):
            spacing[chance.integer(3)] *= THICKER[chance.integer(len(THICKER))]
        shape, world = draw_grid(subject, spacing, scale.crop, chance)
        images.append(render(scene, labels, shape, world, chance, draw_kind(contrasts, chance), recipe.pathologies))
    if count > 1 and chance.happens(recipe.corrupted):
        spoiled = chance.integer(count)
        images[spoiled] = corrupt(images[spoiled], chance)
    return images, scale


def with_lesions(scene: Scene, drawing: LesionDrawing, anatomies: Mapping[str, Anatomy], chance: Chance) -> Scene:
    """The scene with one or several lesions in its label map.

    Raises:
        KeyError: the subject's anatomy is not known.
    """
    weights = {name: drawing.kinds.get(name, kind.weight) for name, kind in load_kinds().items()}
    names = [name for name, weight in weights.items() if weight > 0]
    chosen = [names[chance.choice([weights[name] for name in names])] for _ in range(1 + chance.choice(drawing.counts))]
    found: tuple[SyntheticLesion, ...] = ()
    for name in chosen:
        found += draw_lesions(scene.subject, anatomies[scene.subject.name], chance, 1, (name,), avoid=found)
    return replace(scene, synthetic=found)


def draw_kind(contrasts: Mapping[str, float], chance: Chance) -> str | None:
    """A sequence type, or None for any."""
    names = list(contrasts)
    rest = max(0.0, 1.0 - sum(contrasts.values()))
    index = chance.choice([*contrasts.values(), rest]) if names else 0
    return names[index] if index < len(names) else None
