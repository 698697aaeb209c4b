"""Volume analysis, change, asymmetry, comparison, and one region in percent of another."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from vp_train.prompts.naming import plural, written
from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_image, no_change
from vp_train.tasks.scene import Example, Region, Scene, lines, sample_region, segment_lines, sides_of
from vp_train.tasks.segmentation import COUNTS

WHOLES = ("brain", "cerebral white matter", "cerebral cortex", "intracranial cavity", "cerebrum")
EACH, EVERY = 0.12, "[{please} {measure} the ]{roi}"
"""Share of prompts about several regions that name the measure with each, and what stands around these."""
SEVERAL_FOR_CHANGE = 0.85
"""Share of studies with several sessions where a prompt asks for a change; the rest must be refused."""


def volume_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    regions = context.regions(chance.choice(COUNTS), chance)
    view = context.view(scene, chance)
    each = len(regions) > 1 and chance.random() < EACH
    values = _each(context, regions, chance) if each else context.listing(regions, chance)
    asked = context.ask("volume analysis", values, chance, scene, view, request=EVERY if each else "")
    if view.scene is None:
        return missing_image("volume analysis", asked, scene)
    code: list[str] = []
    for number, region in enumerate(regions, 1):
        variable = "roi" if len(regions) == 1 else f"roi_{number}"
        code += [*segment_lines(region, view.scene.names, variable), f"show({variable})"]
        reports = [f'report("volume", volume({name}))' for name in _parts(region, variable)]
        code += per_visit(view.scene, variable, reports)
    return Example("volume analysis", asked.prompt, scene, lines('task("volume analysis")', code), asked.context)


def _each(context: Context, regions: Sequence[Region], chance: random.Random) -> dict[str, str]:
    """Regions with a measure of their own each: "volume of the thalamus, volume of the caudate"."""
    form = chance.choice(("{measure} of the {roi}", "{roi} {measure}", "{roi}: {measure}", "{measure} {roi}"))
    measure = context.slot("volume", chance)
    terms = [form.replace("{measure}", measure).replace("{roi}", region.term) for region in regions]
    return {"roi": chance.choice(("; ", ", ", " and ", ". ", " plus ", ", and ")).join(terms)}


def volume_change(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance, SEVERAL_FOR_CHANGE)
    region = context.region(chance)
    view = context.view(scene, chance)
    asked = context.ask("volume change", context.named(region), chance, scene, view)
    refused = no_change("volume change", asked, scene, view)
    if refused is not None or view.scene is None:
        return refused or missing_image("volume change", asked, scene)
    code = [
        *segment_lines(region, view.scene.names),
        "show(roi)",
        "before = volume(at(roi, earliest(roi)))",
        "after = volume(at(roi, latest(roi)))",
        'report("volume", before)',
        'report("volume", after)',
        'report("volume change", after - before)',
        'report("relative volume change", percent_change(before, after))',
        'report("annual volume change", per_year(after - before))',
    ]
    return Example("volume change", asked.prompt, scene, lines('task("volume change")', code), asked.context)


def volume_asymmetry(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    paired = [structure for structure in context.structures if structure.paired]
    region = sample_region(paired, chance, side="")
    bilateral = written(region.structure, "", chance, plain=True)
    if chance.random() < 0.3:
        bilateral = plural(bilateral, region.structure)
    view = context.view(scene, chance)
    asked = context.ask("volume asymmetry", {"bilateral": bilateral}, chance, scene, view)
    if view.scene is None:
        return missing_image("volume comparison", asked, scene)
    reports = [
        'report("volume", volume(left))',
        'report("volume", volume(right))',
        'report("volume asymmetry", asymmetry(volume(left), volume(right)))',
    ]
    code = [*segment_lines(region, view.scene.names), "show(roi)", *per_visit(view.scene, "roi", reports)]
    return Example("volume comparison", asked.prompt, scene, lines('task("volume comparison")', code), asked.context)


def volume_comparison(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    first, second = context.regions(2, chance)
    view = context.view(scene, chance)
    values = {"roi": first.term, "other": second.term}
    asked = context.ask("volume comparison", values, chance, scene, view)
    if view.scene is None:
        return missing_image("volume comparison", asked, scene)
    reports = [
        'report("volume", volume(first))',
        'report("volume", volume(second))',
        'report("volume ratio", ratio(volume(first), volume(second)))',
    ]
    code = [
        *segment_lines(first, view.scene.names, "first"),
        *segment_lines(second, view.scene.names, "second"),
        "show(first)",
        "show(second)",
        *per_visit(view.scene, "first", reports),
    ]
    return Example("volume comparison", asked.prompt, scene, lines('task("volume comparison")', code), asked.context)


def relative_volume_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    wholes = [structure for structure in context.structures if structure.name in WHOLES]
    whole = sample_region(wholes, chance, "", context.held_out, listed=True)
    parts = [structure for structure in context.structures if structure.name != whole.structure.name]
    part = sample_region(parts, chance, None, context.held_out, listed=True)
    if part.side and whole.structure.paired:
        whole = sample_region([whole.structure], chance, "", context.held_out, explicit=True, listed=True)
    view = context.view(scene, chance)
    values = {"roi": part.term, "whole": whole.term}
    asked = context.ask("relative volume analysis", values, chance, scene, view)
    if view.scene is None:
        return missing_image("relative volume analysis", asked, scene)
    reports = [
        'report("volume", volume(part))',
        'report("volume", volume(whole))',
        'report("percent of region", percent_of(volume(part), volume(whole)))',
    ]
    code = [
        *segment_lines(part, view.scene.names, "part"),
        *segment_lines(whole, view.scene.names, "whole"),
        "show(part)",
        "show(whole)",
        *per_visit(view.scene, "part", reports),
    ]
    program = lines('task("relative volume analysis")', code)
    return Example("relative volume analysis", asked.prompt, scene, program, asked.context)


def per_visit(scene: Scene, variable: str, statements: list[str]) -> list[str]:
    """The statements, for each session where there are several."""
    if not scene.longitudinal:
        return statements
    inside = [re.sub(r"\((\w+)\)(?=[),])", r"(at(\1, when))", statement) for statement in statements]
    return [f"for when in visits({variable}):", *(f"    {statement}" for statement in inside)]


def _parts(region: Region, variable: str) -> tuple[str, ...]:
    """Variables to report: both sides and their sum where no side was asked for."""
    return (*sides_of(variable), variable) if len(region.sided_names) == 2 else (variable,)
