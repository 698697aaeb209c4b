"""Segmentation: the region as masks."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example, lines, sample_region, segment_lines


def segmentation(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    regions = [sample_region(context.structures, chance) for _ in range(chance.choice((1, 1, 1, 1, 2, 3)))]
    regions = list({region.structure.name: region for region in regions}.values())
    code: list[str] = []
    for number, region in enumerate(regions, 1):
        variable = "roi" if len(regions) == 1 else f"roi_{number}"
        code += [*segment_lines(region, scene.names, variable), f"show({variable})"]
    prompt = context.prompt("segmentation", {"roi": context.listed(regions, chance)}, chance)
    return Example("segmentation", prompt, scene, lines('task("segmentation")', code))
