"""Images out: cropped around a region, without it, or nothing but it."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_image
from vp_train.tasks.scene import Example, lines, segment_lines

DEFAULT_MARGIN = 10
"""mm, where the prompt names none."""
MARGINS = (2, 3, 4, 5, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50)


def image_cropping(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = context.region(chance)
    margin = chance.choice((chance.choice(MARGINS), chance.randrange(1, 60)))
    view = context.view(scene, chance)
    asked = context.ask("image cropping", {"roi": region.term, "margin": str(margin)}, chance, scene, view)
    if view.scene is None:
        return missing_image("image cropping", asked, scene)
    used = margin if "margin" in asked.slots else DEFAULT_MARGIN
    names = view.scene.names
    code = [*segment_lines(region, names), *(f"save(crop({name}, roi, {used}))" for name in names)]
    return Example("image cropping", asked.prompt, scene, lines('task("image cropping")', code), asked.context)


def tissue_removal(context: Context, chance: random.Random) -> Example:
    return _removed(context, chance, "tissue removal", "remove")


def tissue_isolation(context: Context, chance: random.Random) -> Example:
    return _removed(context, chance, "tissue isolation", "isolate")


def _removed(context: Context, chance: random.Random, templates: str, operation: str) -> Example:
    scene = context.scene(chance)
    region = context.region(chance)
    view = context.view(scene, chance)
    asked = context.ask(templates, context.named(region), chance, scene, view)
    if view.scene is None:
        return missing_image("tissue removal", asked, scene)
    names = view.scene.names
    code = [*segment_lines(region, names), *(f"save({operation}({name}, roi))" for name in names)]
    return Example("tissue removal", asked.prompt, scene, lines('task("tissue removal")', code), asked.context)


def skull_stripping(context: Context, chance: random.Random) -> Example:
    """Nothing but the brain, asked for by the name of the procedure."""
    scene = context.scene(chance)
    view = context.view(scene, chance)
    asked = context.ask("skull stripping", {}, chance, scene, view)
    if view.scene is None:
        return missing_image("skull stripping", asked, scene)
    names = view.scene.names
    arguments = ", ".join(f"{name}<MOD>" for name in names)
    code = [f'roi = segment("brain", {arguments})', *(f"save(isolate({name}, roi))" for name in names)]
    return Example("skull stripping", asked.prompt, scene, lines('task("tissue removal")', code), asked.context)
