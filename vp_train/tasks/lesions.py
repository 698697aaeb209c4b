"""How many lesions, where they lie, what share of them is where, how bright a part is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from vp_train.tasks.characterisation import AROUND_MM
from vp_train.tasks.context import SPOKEN, Context
from vp_train.tasks.refusals import missing_image
from vp_train.tasks.scene import Example, lines, matching, sample_region, segment_lines
from vp_train.tasks.selections import sample_share
from vp_train.tasks.volumes import per_visit

MOSTLY = 4
"""How many times more of a load one side holds than the other, where it lies on that side alone for a reader."""


def lesion_count(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = context.lesions(chance)
    while region.selection is not None and region.selection.kind == "largest":
        region = context.lesions(chance)
    view = context.view(scene, chance)
    asked = context.ask("lesion count", context.named(region), chance, scene, view)
    if view.scene is None:
        return missing_image("lesion count", asked, scene)
    reports = ['report("count", count(components(roi)))', 'report("volume", volume(roi))']
    code = [*segment_lines(region, view.scene.names), "show(roi)", *per_visit(view.scene, "roi", reports)]
    return Example("lesion count", asked.prompt, scene, lines('task("volume analysis")', code), asked.context)


def lesion_share(context: Context, chance: random.Random) -> Example:
    """What part of a lesion load is periventricular, on the left, in large lesions…"""
    scene = context.scene(chance)
    whole = context.lesions(chance, 0)
    words, selection = sample_share([s.name for s in context.structures], chance, context.held_out)
    view = context.view(scene, chance)
    asked = context.ask("lesion share", {"roi": whole.term, "place": words}, chance, scene, view)
    if view.scene is None:
        return missing_image("lesion share", asked, scene)
    arguments = ", ".join(f"{name}<MOD>" for name in view.scene.names)
    reports = [
        'report("volume", volume(part))',
        'report("volume", volume(part_all))',
        'report("percent of region", percent_of(volume(part), volume(part_all)))',
    ]
    code = [
        *selection.lines(whole.structure.name, arguments, "part"),
        "show(part_all)",
        "show(part)",
        *per_visit(view.scene, "part", reports),
    ]
    program = lines('task("relative volume analysis")', code)
    return Example("lesion share", asked.prompt, scene, program, asked.context)


def bright_share(context: Context, chance: random.Random) -> Example:
    """What percentage of a region is hyperintense or hypointense: beyond two standard deviations of what is around."""
    scene = context.scene(chance)
    region = context.lesions(chance, 0) if context.pathologies and chance.random() < 0.4 else context.region(chance)
    bright = chance.random() < 0.6
    kind = context.kind(scene, chance)
    values = {
        **context.named(region),
        "bright": context.slot("brightly" if bright else "darkly", chance),
        "kind": chance.choice(SPOKEN[kind]),
    }
    asked = context.ask("bright share", values, chance, scene)
    volumes = scene.of_session(-1)
    images = matching(volumes, kind) if "kind" in asked.slots else volumes[:1]
    if not images:
        return missing_image("bright share", asked, scene)
    image = images[0].name
    sign, operation = ("+", "brighter_than") if bright else ("-", "darker_than")
    code = [
        *segment_lines(region, [volume.name for volume in volumes]),
        f"around = surrounding(roi, {AROUND_MM})",
        f"spread = sd_intensity(around, {image}) * 2",
        f"limit = mean_intensity(around, {image}) {sign} spread",
        f"part = {operation}(roi, {image}, limit)",
        "show(roi)",
        "show(part)",
        'report("volume", volume(part))',
        'report("volume", volume(roi))',
        'report("percent of region", percent_of(volume(part), volume(roi)))',
    ]
    program = lines('task("relative volume analysis")', code)
    return Example("bright share", asked.prompt, scene, program, asked.context)


def brightness_to_surroundings(context: Context, chance: random.Random) -> Example:
    """How bright a region is relative to the tissue around it, in numbers."""
    scene = context.scene(chance)
    region = context.region(chance)
    kind = context.kind(scene, chance)
    values = {**context.named(region), "kind": chance.choice(SPOKEN[kind])}
    asked = context.ask("brightness to surroundings", values, chance, scene)
    volumes = scene.of_session(-1)
    images = matching(volumes, kind) if "kind" in asked.slots else volumes[:1]
    if not images:
        return missing_image("brightness to surroundings", asked, scene)
    image = images[0].name
    code = [
        *segment_lines(region, [volume.name for volume in volumes]),
        "show(roi)",
        f"around = surrounding(roi, {AROUND_MM})",
        f"one = mean_intensity(roi, {image})",
        f"two = mean_intensity(around, {image})",
        'report("mean intensity", one)',
        'report("mean intensity", two)',
        'report("intensity difference", one - two)',
        'report("relative intensity", percent_of(one, two))',
    ]
    program = lines('task("intensity comparison")', code)
    return Example("brightness to surroundings", asked.prompt, scene, program, asked.context)


def hemisphere(context: Context, chance: random.Random) -> Example:
    """On which side lesions lie."""
    return _placed(context, chance, "hemisphere", hemisphere_lines)


def location(context: Context, chance: random.Random) -> Example:
    """Where lesions lie: in which lobe, or in which deeper part of the brain."""
    return _placed(context, chance, "location", lambda _: ["answer(lobe_of(roi), roi)"])


def vascular_territory(context: Context, chance: random.Random) -> Example:
    return _placed(context, chance, "vascular territory", lambda _: ["answer(territory_of(roi), roi)"])


def _placed(
    context: Context, chance: random.Random, templates: str, answered: Callable[[Sequence[str]], list[str]]
) -> Example:
    """Lesions of the last session and where they lie.

    Args:
        answered: names of volumes → the lines that answer.
    """
    scene = context.scene(chance)
    region = context.lesions(chance, 0)
    names = [volume.name for volume in scene.of_session(-1)]
    asked = context.ask(templates, context.named(region), chance, scene)
    code = [*segment_lines(region, names), "show(roi)", *answered(names)]
    return Example("location", asked.prompt, scene, lines('task("location")', code), asked.context)


def hemisphere_lines(names: Sequence[str]) -> list[str]:
    """Lines that say in which hemisphere `roi` lies, by its volume in the white matter of each."""
    arguments = ", ".join(f"{name}<MOD>" for name in names)
    return [
        f'left = segment("left cerebral white matter", {arguments})',
        f'right = segment("right cerebral white matter", {arguments})',
        "one = intersection(roi, left)",
        "two = intersection(roi, right)",
        "here = volume(one)",
        "there = volume(two)",
        'report("percent of region", percent_of(here, volume(roi)))',
        'report("percent of region", percent_of(there, volume(roi)))',
        f"if here > there * {MOSTLY}:",
        '    answer("left hemisphere", roi)',
        f"if there > here * {MOSTLY}:",
        '    answer("right hemisphere", roi)',
        "if here > 0 and there > 0:",
        f"    if here <= there * {MOSTLY} and there <= here * {MOSTLY}:",
        '        answer("both hemispheres", roi)',
    ]


def describe_whole(context: Context, chance: random.Random) -> Example:
    """Volume and longest diameter of a region in one request."""
    scene = context.scene(chance)
    region = sample_region(context.structures, chance, None, context.held_out)
    view = context.view(scene, chance)
    asked = context.ask("size summary", context.named(region), chance, scene, view)
    if view.scene is None:
        return missing_image("size summary", asked, scene)
    reports = [
        'report("volume", volume(roi))',
        'report("bounding box", bounding_box(roi))',
        'report("longest diameter", longest_diameter(roi))',
        'report("surface area", surface_area(roi))',
    ]
    code = [*segment_lines(region, view.scene.names), "show(roi)", *per_visit(view.scene, "roi", reports)]
    return Example("size summary", asked.prompt, scene, lines('task("volume analysis")', code), asked.context)
