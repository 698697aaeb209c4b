"""Where one region lies from another, and measures in the slices of one plane, as radiologists take them."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_image
from vp_train.tasks.scene import Example, lines, segment_lines

PLANES = ("axial", "coronal", "sagittal")
IN_PLANE = {
    "plane diameter": "plane_diameter",
    "perpendicular diameter": "perpendicular_diameter",
    "bidimensional product": "bidimensional_product",
    "cross section": "cross_section",
}
"""Measurement → operation."""


def distance_between(context: Context, chance: random.Random) -> Example:
    """The smallest distance of two regions, and that of their centres."""
    scene = context.scene(chance)
    first, second = context.regions(2, chance)
    view = context.view(scene, chance)
    values = {"roi": first.term, "other": second.term}
    asked = context.ask("distance between", values, chance, scene, view)
    if view.scene is None:
        return missing_image("distance between", asked, scene)
    reports = [
        'report("distance", distance_to(first, second))',
        'report("center distance", center_distance(first, second))',
    ]
    if view.scene.longitudinal:
        reports = [
            "for when in visits(first):",
            '    report("distance", distance_to(at(first, when), at(second, when)))',
            '    report("center distance", center_distance(at(first, when), at(second, when)))',
        ]
    code = [
        *segment_lines(first, view.scene.names, "first"),
        *segment_lines(second, view.scene.names, "second"),
        "show(first)",
        "show(second)",
        *reports,
    ]
    return Example("distance between", asked.prompt, scene, lines('task("extent analysis")', code), asked.context)


def direction_between(context: Context, chance: random.Random) -> Example:
    """On which side of another a region lies, in words; of the last session."""
    scene = context.scene(chance)
    first, second = context.regions(2, chance)
    values = {"roi": first.term, "other": second.term}
    asked = context.ask("direction between", values, chance, scene)
    names = [volume.name for volume in scene.of_session(-1)]
    code = [
        *segment_lines(first, names, "first"),
        *segment_lines(second, names, "second"),
        "show(first)",
        "show(second)",
        "answer(direction_from(first, second), first)",
    ]
    return Example("direction between", asked.prompt, scene, lines('task("location")', code), asked.context)


def plane_measure(context: Context, chance: random.Random) -> Example:
    """Longest diameter, its perpendicular, their product, or the largest area, within slices of one plane."""
    scene = context.scene(chance)
    region = context.lesions(chance) if context.pathologies and chance.random() < 0.4 else context.region(chance)
    what, plane = chance.choice(tuple(IN_PLANE)), chance.choice(("axial", *PLANES))
    words = context.slot("in plane", chance).replace("{p}", plane)
    if plane == "axial" and chance.random() < 0.5:
        words = ""  # RECIST 1.1 and RANO measure on axial slices
    name = "longest" if what == "plane diameter" and words and chance.random() < 0.5 else what
    values = {**context.named(region), "axis": context.slot(name, chance), "plane": words}
    view = context.view(scene, chance, 0.06)
    asked = context.ask("plane measure", values, chance, scene, view)
    if view.scene is None:
        return missing_image("plane measure", asked, scene)
    roi = "at(roi, when)" if view.scene.longitudinal else "roi"
    statement = f'report("{what}", {IN_PLANE[what]}({roi}, "{plane}"))'
    code = [*segment_lines(region, view.scene.names), "show(roi)"]
    code += ["for when in visits(roi):", f"    {statement}"] if view.scene.longitudinal else [statement]
    return Example("plane measure", asked.prompt, scene, lines('task("extent analysis")', code), asked.context)


def extreme_intensity(context: Context, chance: random.Random) -> Example:
    """The lowest or the highest value in a region."""
    scene = context.scene(chance)
    region = context.region(chance)
    highest = chance.random() < 0.5
    view = context.view(scene, chance, 0.3)
    values = {**context.named(region), "statistic": context.slot("highest" if highest else "lowest", chance)}
    asked = context.ask("extreme intensity", values, chance, scene, view)
    if view.scene is None:
        return missing_image("extreme intensity", asked, scene)
    volumes = view.scene.of_session(-1)
    if volumes[0].session != scene.of_session(-1)[0].session:
        return missing_image("extreme intensity", asked, scene)
    name, operation = ("maximum", "max") if highest else ("minimum", "min")
    code = [
        *segment_lines(region, [volume.name for volume in scene.of_session(-1)]),
        "show(roi)",
        f'report("{name} intensity", {operation}_intensity(roi, {volumes[0].name}))',
    ]
    return Example("extreme intensity", asked.prompt, scene, lines('task("intensity analysis")', code), asked.context)
