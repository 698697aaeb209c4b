"""Training examples: one head in one to three synthetic images, determined by the recipe's seed and the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import Image, corrupt, draw_grid, draw_scene, render
from vp_train.training.recipe import Recipe, Scale

SEED_STRIDE = 1_000_003
THICKER = (1.5, 2.0, 2.5, 3.0)
"""How much thicker than the plane's spacing a slice may be; at 2 mm this is 3 to 6 mm."""


def draw_example(subjects: Sequence[Subject], recipe: Recipe, step: int) -> tuple[list[Image], Scale]:
    """The images of a step and their scale; the same for the same recipe and step."""
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
    images = []
    for _ in range(count):
        spacing = [scale.spacing] * 3
        if chance.happens(recipe.thick):
            spacing[chance.integer(3)] *= THICKER[chance.integer(len(THICKER))]
        shape, world = draw_grid(subject, spacing, scale.crop, chance)
        images.append(render(scene, labels, shape, world, chance))
    if count > 1 and chance.happens(recipe.corrupted):
        spoiled = chance.integer(count)
        images[spoiled] = corrupt(images[spoiled], chance)
    return images, scale
