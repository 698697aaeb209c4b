"""Segmentation: the region as masks."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_image
from vp_train.tasks.scene import Example, lines, segment_lines

COUNTS = (1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4)
"""How many regions a prompt asks for."""


def segmentation(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    regions = context.regions(chance.choice(COUNTS), chance)
    view = context.view(scene, chance)
    lesions = any(region.structure.kind == "pathology" for region in regions)
    avoid = ("where",) if lesions else ()  # where a lesion is, is a question of its own
    asked = context.ask("segmentation", context.listing(regions, chance), chance, scene, view, avoid)
    if view.scene is None:
        return missing_image("segmentation", asked, scene)
    code: list[str] = []
    for number, region in enumerate(regions, 1):
        variable = "roi" if len(regions) == 1 else f"roi_{number}"
        code += [*segment_lines(region, view.scene.names, variable), f"show({variable})"]
    return Example("segmentation", asked.prompt, scene, lines('task("segmentation")', code), asked.context)
