"""Linear measures: extents along the anatomical axes, bounding box, longest diameter, their change; centre of mass."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_image, no_change
from vp_train.tasks.scene import Example, lines, segment_lines
from vp_train.tasks.volumes import SEVERAL_FOR_CHANGE, per_visit

AXES = ("left-right", "anterior-posterior", "superior-inferior")
MEASURES = (*AXES, "box", "longest")
ADJECTIVES = {"left-right": "wide", "anterior-posterior": "long", "superior-inferior": "tall"}
STRETCHED = {"left-right": "widened", "anterior-posterior": "lengthened", "superior-inferior": "heightened"}


def extent_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = context.region(chance)
    what = chance.choice(MEASURES)
    values = {**context.named(region), "axis": context.slot(what, chance)}
    if what in AXES:
        values["adjective"] = context.slot(ADJECTIVES[what], chance)
    view = context.view(scene, chance)
    avoid = () if what in AXES else ("{adjective}",)
    asked = context.ask("extent analysis", values, chance, scene, view, avoid)
    if view.scene is None:
        return missing_image("extent analysis", asked, scene)
    statement = {
        "box": 'report("bounding box", bounding_box(roi))',
        "longest": 'report("longest diameter", longest_diameter(roi))',
    }.get(what, f'report("{what} extent", extent(roi, "{what}"))')
    if view.scene.longitudinal:
        inside = statement.replace("(roi", "(at(roi, when)")
        statements = ["for when in visits(roi):", f"    {inside}"]
    else:
        statements = [statement]
    code = [*segment_lines(region, view.scene.names), "show(roi)", *statements]
    return Example("extent analysis", asked.prompt, scene, lines('task("extent analysis")', code), asked.context)


def extent_change(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance, SEVERAL_FOR_CHANGE)
    region = context.region(chance)
    what = chance.choice((*AXES, "longest"))
    values = {**context.named(region), "axis": context.slot(what, chance)}
    if what in AXES:
        values["stretched"] = context.slot(STRETCHED[what], chance)
    view = context.view(scene, chance)
    avoid = () if what in AXES else ("{stretched}",)
    asked = context.ask("extent change", values, chance, scene, view, avoid)
    refused = no_change("extent change", asked, scene, view)
    if refused is not None or view.scene is None:
        return refused or missing_image("extent change", asked, scene)
    if what == "longest":
        name, measure = "longest diameter", "longest_diameter(at(roi, {0}(roi)))"
    else:
        name, measure = f"{what} extent", f'extent(at(roi, {{0}}(roi)), "{what}")'
    code = [
        *segment_lines(region, view.scene.names),
        "show(roi)",
        f"before = {measure.format('earliest')}",
        f"after = {measure.format('latest')}",
        f'report("{name}", before)',
        f'report("{name}", after)',
        'report("extent change", after - before)',
    ]
    return Example("extent change", asked.prompt, scene, lines('task("extent change")', code), asked.context)


def center_of_mass(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = context.region(chance)
    view = context.view(scene, chance)
    asked = context.ask("center of mass", context.named(region), chance, scene, view)
    if view.scene is None:
        return missing_image("center of mass", asked, scene)
    statement = 'report("center of mass", center_of_mass(roi))'
    code = [*segment_lines(region, view.scene.names), "show(roi)", *per_visit(view.scene, "roi", [statement])]
    return Example("center of mass", asked.prompt, scene, lines('task("center of mass")', code), asked.context)
