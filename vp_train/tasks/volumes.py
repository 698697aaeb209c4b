"""Volume analysis, change, asymmetry, comparison, and one region in percent of another."""

from __future__ import annotations

import random
import re

from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_session
from vp_train.tasks.scene import Example, Region, Scene, lines, sample_region, segment_lines, sides_of

WHOLES = ("brain", "cerebral white matter", "cerebral cortex")


def volume_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    regions = [sample_region(context.structures, chance) for _ in range(chance.choice((1, 1, 1, 1, 2, 3)))]
    regions = list({region.structure.name: region for region in regions}.values())
    code: list[str] = []
    for number, region in enumerate(regions, 1):
        variable = "roi" if len(regions) == 1 else f"roi_{number}"
        code += [*segment_lines(region, scene.names, variable), f"show({variable})"]
        code += per_visit(scene, variable, [f'report("volume", volume({name}))' for name in _parts(region, variable)])
    prompt = context.prompt("volume analysis", {"roi": context.listed(regions, chance)}, chance)
    return Example("volume analysis", prompt, scene, lines('task("volume analysis")', code))


def volume_change(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    prompt = context.prompt("volume change", {"roi": region.term}, chance)
    if not scene.longitudinal:
        return missing_session("volume change", prompt, scene)
    code = [
        *segment_lines(region, scene.names),
        "show(roi)",
        "before = volume(at(roi, earliest(roi)))",
        "after = volume(at(roi, latest(roi)))",
        'report("volume", before)',
        'report("volume", after)',
        'report("volume change", after - before)',
        'report("relative volume change", percent_change(before, after))',
        'report("annual volume change", per_year(after - before))',
    ]
    return Example("volume change", prompt, scene, lines('task("volume change")', code))


def volume_asymmetry(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    paired = [structure for structure in context.structures if structure.paired]
    region = sample_region(paired, chance, side="")
    term = chance.choice((region.structure.name, chance.choice(region.structure.terms)))
    prompt = context.prompt("volume asymmetry", {"bilateral": term}, chance)
    code = [
        *segment_lines(region, scene.names),
        "show(roi)",
        *per_visit(
            scene,
            "roi",
            [
                'report("volume", volume(left))',
                'report("volume", volume(right))',
                'report("volume asymmetry", asymmetry(volume(left), volume(right)))',
            ],
        ),
    ]
    return Example("volume comparison", prompt, scene, lines('task("volume comparison")', code))


def volume_comparison(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    first, second = two_regions(context, chance)
    prompt = context.prompt("volume comparison", {"roi": first.term, "other": second.term}, chance)
    code = [
        *segment_lines(first, scene.names, "first"),
        *segment_lines(second, scene.names, "second"),
        "show(first)",
        "show(second)",
        *per_visit(
            scene,
            "first",
            [
                'report("volume", volume(first))',
                'report("volume", volume(second))',
                'report("volume ratio", ratio(volume(first), volume(second)))',
            ],
        ),
    ]
    return Example("volume comparison", prompt, scene, lines('task("volume comparison")', code))


def relative_volume_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    wholes = [structure for structure in context.structures if structure.name in WHOLES]
    whole = sample_region(wholes, chance, side="")
    part = sample_region([s for s in context.structures if s.name != whole.structure.name], chance)
    prompt = context.prompt("relative volume analysis", {"roi": part.term, "whole": whole.term}, chance)
    code = [
        *segment_lines(part, scene.names, "part"),
        *segment_lines(whole, scene.names, "whole"),
        "show(part)",
        "show(whole)",
        *per_visit(
            scene,
            "part",
            [
                'report("volume", volume(part))',
                'report("volume", volume(whole))',
                'report("percent of region", percent_of(volume(part), volume(whole)))',
            ],
        ),
    ]
    return Example("relative volume analysis", prompt, scene, lines('task("relative volume analysis")', code))


def two_regions(context: Context, chance: random.Random) -> tuple[Region, Region]:
    """Two regions that a prompt compares: of two structures."""
    first = sample_region(context.structures, chance)
    others = [structure for structure in context.structures if structure.name != first.structure.name]
    return first, sample_region(others, chance)


def per_visit(scene: Scene, variable: str, statements: list[str]) -> list[str]:
    """The statements, for each session where there are several."""
    if not scene.longitudinal:
        return statements
    inside = [re.sub(r"\((\w+)\)(?=[),])", r"(at(\1, when))", statement) for statement in statements]
    return [f"for when in visits({variable}):", *(f"    {statement}" for statement in inside)]


def _parts(region: Region, variable: str) -> tuple[str, ...]:
    """Variables to report: both sides and their sum where no side was asked for."""
    return (*sides_of(variable), variable) if len(region.sided_names) == 2 else (variable,)
