"""Measures of one session of several, of several regions over time, and further statistics."""

from __future__ import annotations

import random

from vp_train.tasks.context import SPOKEN, Context, date_words
from vp_train.tasks.refusals import missing_image, no_change
from vp_train.tasks.scene import Example, Region, lines, matching, sample_structures, segment_lines, sides_of
from vp_train.tasks.volumes import SEVERAL_FOR_CHANGE

PERCENTILES = (5, 10, 25, 75, 90, 95, 99)


def volume_at_visit(context: Context, chance: random.Random) -> Example:
    """The volume in the first session, in the last, or in that of a date."""
    scene = context.scene(chance, 1.0)
    region = context.region(chance)
    which = chance.choice(("first", "last", "date"))
    date = chance.choice(scene.visits)
    values = {
        **context.named(region),
        "when": context.slot(f"{which} session", chance).replace("{date}", date_words(date, chance)),
    }
    asked = context.ask("volume at visit", values, chance, scene)
    choice = {"first": "earliest(roi)", "last": "latest(roi)", "date": f'visit("{date}")'}[which]
    variables: tuple[str, ...] = ("roi",)
    if region.selection is None and len(region.sided_names) == 2:
        variables = (*sides_of("roi"), "roi")
    reports = [f'report("volume", volume(at({name}, when)))' for name in variables]
    code = [*segment_lines(region, scene.names), f"when = {choice}", "show(at(roi, when))", *reports]
    return Example("volume at visit", asked.prompt, scene, lines('task("volume analysis")', code), asked.context)


def several_changes(context: Context, chance: random.Random) -> Example:
    """The change of volume of several regions."""
    scene = context.scene(chance, SEVERAL_FOR_CHANGE)
    regions = context.regions(chance.choice((2, 2, 3)), chance)
    view = context.view(scene, chance)
    asked = context.ask("volume change", {"roi": context.listed(regions, chance)}, chance, scene, view)
    refused = no_change("volume change", asked, scene, view)
    if refused is not None or view.scene is None:
        return refused or missing_image("volume change", asked, scene)
    code: list[str] = []
    for number, region in enumerate(regions, 1):
        roi, before, after = f"roi_{number}", f"before_{number}", f"after_{number}"
        code += [
            *segment_lines(region, view.scene.names, roi),
            f"show({roi})",
            f"{before} = volume(at({roi}, earliest({roi})))",
            f"{after} = volume(at({roi}, latest({roi})))",
            f'report("volume change", {after} - {before})',
            f'report("relative volume change", percent_change({before}, {after}))',
        ]
    return Example("several changes", asked.prompt, scene, lines('task("volume change")', code), asked.context)


def asymmetry_change(context: Context, chance: random.Random) -> Example:
    """How the difference between the sides developed."""
    scene = context.scene(chance, SEVERAL_FOR_CHANGE)
    paired = [structure for structure in context.structures if structure.paired]
    structure = sample_structures(paired, 1, chance)[0]
    view = context.view(scene, chance)
    asked = context.ask("asymmetry change", {"bilateral": chance.choice(structure.terms)}, chance, scene, view)
    refused = no_change("volume change", asked, scene, view)
    if refused is not None or view.scene is None:
        return refused or missing_image("volume change", asked, scene)
    code = [
        *segment_lines(Region("", structure, ""), view.scene.names),
        "show(roi)",
        "for when in visits(roi):",
        '    report("volume asymmetry", asymmetry(volume(at(left, when)), volume(at(right, when))))',
    ]
    return Example("asymmetry change", asked.prompt, scene, lines('task("volume comparison")', code), asked.context)


def further_statistics(context: Context, chance: random.Random) -> Example:
    """Median or a percentile of a region's intensities."""
    scene = context.scene(chance)
    region = context.region(chance)
    percentile = str(chance.choice(PERCENTILES))
    median = chance.random() < 0.6
    kind = context.kind(scene, chance)
    values = {**context.named(region), "kind": chance.choice(SPOKEN[kind])}
    values["statistic"] = context.slot("median" if median else "percentile", chance).replace("{p}", percentile)
    asked = context.ask("further statistics", values, chance, scene)
    volumes = scene.of_session(-1)
    images = matching(volumes, kind) if "kind" in asked.slots else volumes[:1]
    if not images:
        return missing_image("further statistics", asked, scene)
    image = images[0].name
    call = f"median_intensity(roi, {image})" if median else f"percentile_intensity(roi, {image}, {percentile})"
    code = [
        *segment_lines(region, [volume.name for volume in volumes]),
        "show(roi)",
        f'report("{"median" if median else "percentile"} intensity", {call})',
    ]
    return Example("further statistics", asked.prompt, scene, lines('task("intensity analysis")', code), asked.context)


def surface(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = context.region(chance)
    view = context.view(scene, chance)
    asked = context.ask("surface area", context.named(region), chance, scene, view)
    if view.scene is None:
        return missing_image("surface area", asked, scene)
    code = [*segment_lines(region, view.scene.names), "show(roi)"]
    if view.scene.longitudinal:
        code += ["for when in visits(roi):", '    report("surface area", surface_area(at(roi, when)))']
    else:
        code.append('report("surface area", surface_area(roi))')
    return Example("surface area", asked.prompt, scene, lines('task("extent analysis")', code), asked.context)
