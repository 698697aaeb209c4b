"""Images out: cropped around a region, without it, or nothing but it."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example, lines, sample_region, segment_lines

DEFAULT_MARGIN = 10
"""mm, where the prompt names none."""


def image_cropping(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    margin = str(chance.choice((2, 3, 5, 8, 10, 12, 15, 20, 25, 30, chance.randrange(1, 60))))
    template_values = {"roi": region.term, "margin": margin}
    prompt = context.prompt("image cropping", template_values, chance)
    used = margin if f"{margin} m" in prompt else str(DEFAULT_MARGIN)
    code = [*segment_lines(region, scene.names), *(f"save(crop({name}, roi, {used}))" for name in scene.names)]
    return Example("image cropping", prompt, scene, lines('task("image cropping")', code))


def tissue_removal(context: Context, chance: random.Random) -> Example:
    return _removed(context, chance, "tissue removal", "remove")


def tissue_isolation(context: Context, chance: random.Random) -> Example:
    return _removed(context, chance, "tissue isolation", "isolate")


def _removed(context: Context, chance: random.Random, templates: str, operation: str) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    prompt = context.prompt(templates, {"roi": region.term}, chance)
    code = [*segment_lines(region, scene.names), *(f"save({operation}({name}, roi))" for name in scene.names)]
    return Example("tissue removal", prompt, scene, lines('task("tissue removal")', code))
