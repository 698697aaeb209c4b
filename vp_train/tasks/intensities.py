"""Intensities of a region in an image, of two regions, and over time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from vp_model.outcome import InputVolume
from vp_train.tasks.context import Context
from vp_train.tasks.refusals import missing_image, missing_session
from vp_train.tasks.scene import Example, lines, sample_region, segment_lines
from vp_train.tasks.volumes import two_regions

SPOKEN = {"T1": ("t1", "T1", "t1 weighted image"), "T2": ("t2", "T2", "t2 weighted image"), "FLAIR": ("flair", "FLAIR")}
SPOKEN |= {
    "CT": ("ct", "CT"),
    "ADC": ("adc", "ADC map"),
    "DWI": ("dwi", "DWI"),
    "SWI": ("swi", "SWI"),
    "PD": ("pd", "PD"),
}


def intensity_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    kind = chance.choice(tuple(SPOKEN))
    values = {"roi": region.term, "kind": chance.choice(SPOKEN[kind])}
    prompt = context.prompt("intensity analysis", values, chance)
    image = _image(scene.of_session(-1), kind, values["kind"] in prompt)
    if image is None:
        return missing_image("intensity analysis", prompt, scene)
    code = [
        *segment_lines(region, scene.names),
        "show(roi)",
        *(["now = at(roi, latest(roi))"] if scene.longitudinal else []),
        f'report("mean intensity", mean_intensity({"now" if scene.longitudinal else "roi"}, {image.name}))',
        f'report("SD intensity", sd_intensity({"now" if scene.longitudinal else "roi"}, {image.name}))',
    ]
    return Example("intensity analysis", prompt, scene, lines('task("intensity analysis")', code))


def intensity_comparison(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    first, second = two_regions(context, chance)
    kind = chance.choice(tuple(SPOKEN))
    values = {
        "roi": first.term,
        "other": second.term,
        "kind": chance.choice(SPOKEN[kind]),
        "bright": chance.choice(("hyperintense", "hypointense", "bright", "dark", "dense")),
        "brighter": chance.choice(("brighter", "darker", "more intense", "denser")),
    }
    prompt = context.prompt("intensity comparison", values, chance)
    image = _image(scene.of_session(-1), kind, values["kind"] in prompt)
    if image is None:
        return missing_image("intensity comparison", prompt, scene)
    names = [volume.name for volume in scene.of_session(-1)]
    code = [
        *segment_lines(first, names, "first"),
        *segment_lines(second, names, "second"),
        "show(first)",
        "show(second)",
        f"one = mean_intensity(first, {image.name})",
        f"two = mean_intensity(second, {image.name})",
        'report("mean intensity", one)',
        'report("mean intensity", two)',
        'report("intensity difference", one - two)',
        'report("relative intensity", percent_of(one, two))',
    ]
    return Example("intensity comparison", prompt, scene, lines('task("intensity comparison")', code))


def intensity_change(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    values = {"roi": region.term, "brighter": chance.choice(("brighter", "darker"))}
    prompt = context.prompt("intensity change", values, chance)
    if not scene.longitudinal:
        return missing_session("intensity change", prompt, scene)
    pair = _same_kind(scene.of_session(0), scene.of_session(-1))
    if pair is None:
        return missing_image("intensity change", prompt, scene)
    code = [
        *segment_lines(region, scene.names),
        "show(roi)",
        f"before = mean_intensity(at(roi, earliest(roi)), {pair[0].name})",
        f"after = mean_intensity(at(roi, latest(roi)), {pair[1].name})",
        'report("mean intensity", before)',
        'report("mean intensity", after)',
        'report("intensity change", after - before)',
        'report("relative intensity change", percent_change(before, after))',
    ]
    return Example("intensity change", prompt, scene, lines('task("intensity change")', code))


def _image(volumes: Sequence[InputVolume], kind: str, named: bool) -> InputVolume | None:
    """The first volume of the kind that the prompt names; the first of all where it names none."""
    if not named:
        return volumes[0]
    return next((volume for volume in volumes if volume.kind == kind), None)


def _same_kind(earlier: Sequence[InputVolume], later: Sequence[InputVolume]) -> tuple[InputVolume, InputVolume] | None:
    """The first pair of one sequence type: values of two types do not compare."""
    for before in earlier:
        for after in later:
            if before.kind == after.kind:
                return before, after
    return None
