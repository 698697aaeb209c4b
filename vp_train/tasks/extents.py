"""Linear measures: extents along the anatomical axes, bounding box, longest diameter, their change; centre of mass."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_session
from vp_train.tasks.scene import Example, lines, sample_region, segment_lines
from vp_train.tasks.volumes import per_visit

AXES = ("left-right", "anterior-posterior", "superior-inferior")
ADJECTIVES = {"left-right": "wide", "anterior-posterior": "long", "superior-inferior": "tall"}


def extent_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    what = chance.choice((*AXES, "box", "longest"))
    values = {"roi": region.term, "axis": context.slot(what, chance), "adjective": ADJECTIVES.get(what, "")}
    prompt = context.prompt("extent analysis", values, chance, avoid=() if what in AXES else ("{adjective}",))
    statement = {
        "box": 'report("bounding box", bounding_box(roi))',
        "longest": 'report("longest diameter", longest_diameter(roi))',
    }.get(what, f'report("{what} extent", extent(roi, "{what}"))')
    if scene.longitudinal:
        inside = statement.replace("(roi", "(at(roi, when)")
        statements = ["for when in visits(roi):", f"    {inside}"]
    else:
        statements = [statement]
    code = [*segment_lines(region, scene.names), "show(roi)", *statements]
    return Example("extent analysis", prompt, scene, lines('task("extent analysis")', code))


def extent_change(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    what = chance.choice((*AXES, "longest"))
    prompt = context.prompt("extent change", {"roi": region.term, "axis": context.slot(what, chance)}, chance)
    if not scene.longitudinal:
        return missing_session("extent change", prompt, scene)
    if what == "longest":
        name, measure = "longest diameter", "longest_diameter(at(roi, {0}(roi)))"
    else:
        name, measure = f"{what} extent", f'extent(at(roi, {{0}}(roi)), "{what}")'
    code = [
        *segment_lines(region, scene.names),
        "show(roi)",
        f"before = {measure.format('earliest')}",
        f"after = {measure.format('latest')}",
        f'report("{name}", before)',
        f'report("{name}", after)',
        'report("extent change", after - before)',
    ]
    return Example("extent change", prompt, scene, lines('task("extent change")', code))


def center_of_mass(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    prompt = context.prompt("center of mass", {"roi": region.term}, chance)
    statement = 'report("center of mass", center_of_mass(roi))'
    code = [*segment_lines(region, scene.names), "show(roi)", *per_visit(scene, "roi", [statement])]
    return Example("center of mass", prompt, scene, lines('task("center of mass")', code))
