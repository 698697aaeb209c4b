"""Intensities of a region in an image, of two regions, and over time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from vp_model.outcome import InputVolume
from vp_train.tasks.characterisation import with_kinds
from vp_train.tasks.context import SPOKEN, Asked, Context
from vp_train.tasks.refusals import missing_image, no_change
from vp_train.tasks.scene import Example, lines, matching, segment_lines
from vp_train.tasks.volumes import SEVERAL_FOR_CHANGE

HOUNSFIELD = 0.12
"""Share of questions for intensities that are in Hounsfield units, on studies that mostly hold CT."""
IN_HOUNSFIELD = (
    "{hu} {roi}",
    "{roi} {hu}",
    "{hu} of the {roi}",
    "{roi}: {hu}",
    "{measure} the {hu} of the {roi}",
    "what is the {hu} of the {roi}",
    "how many {hu} does the {roi} have",
    "what {hu} has the {roi}",
    "{please} {measure} the {hu} in the {roi}",
    "{mean} {hu} of the {roi}",
)


def intensity_analysis(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = context.region(chance)
    hounsfield = chance.random() < HOUNSFIELD
    if hounsfield:
        scene = with_kinds(scene, ("CT",), chance)
    kind = context.kind(scene, chance)
    values = {**context.named(region), "kind": chance.choice(SPOKEN[kind])}
    request = chance.choice(IN_HOUNSFIELD) if hounsfield and not context.held_out else ""
    asked = context.ask("intensity analysis", values, chance, scene, request=request)
    image = _image(scene.of_session(-1), _named_kind(asked, kind))
    if image is None:
        return missing_image("intensity analysis", asked, scene)
    roi = "now" if scene.longitudinal else "roi"
    code = [
        *segment_lines(region, scene.names),
        "show(roi)",
        *(["now = at(roi, latest(roi))"] if scene.longitudinal else []),
        f'report("mean intensity", mean_intensity({roi}, {image.name}))',
        f'report("SD intensity", sd_intensity({roi}, {image.name}))',
    ]
    return Example("intensity analysis", asked.prompt, scene, lines('task("intensity analysis")', code), asked.context)


def intensity_comparison(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    first, second = context.regions(2, chance)
    kind = context.kind(scene, chance)
    values = {"roi": first.term, "other": second.term, "kind": chance.choice(SPOKEN[kind])}
    asked = context.ask("intensity comparison", values, chance, scene)
    image = _image(scene.of_session(-1), _named_kind(asked, kind))
    if image is None:
        return missing_image("intensity comparison", asked, scene)
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
    program = lines('task("intensity comparison")', code)
    return Example("intensity comparison", asked.prompt, scene, program, asked.context)


def intensity_change(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance, SEVERAL_FOR_CHANGE)
    region = context.region(chance)
    view = context.view(scene, chance)
    asked = context.ask("intensity change", context.named(region), chance, scene, view)
    refused = no_change("intensity change", asked, scene, view)
    if refused is not None or view.scene is None:
        return refused or missing_image("intensity change", asked, scene)
    pair = _same_kind(view.scene.of_session(0), view.scene.of_session(-1))
    if pair is None:
        return missing_image("intensity change", asked, scene)
    code = [
        *segment_lines(region, view.scene.names),
        "show(roi)",
        f"before = mean_intensity(at(roi, earliest(roi)), {pair[0].name})",
        f"after = mean_intensity(at(roi, latest(roi)), {pair[1].name})",
        'report("mean intensity", before)',
        'report("mean intensity", after)',
        'report("intensity change", after - before)',
        'report("relative intensity change", percent_change(before, after))',
    ]
    return Example("intensity change", asked.prompt, scene, lines('task("intensity change")', code), asked.context)


def _named_kind(asked: Asked, kind: str) -> str:
    """The sequence type that the prompt names; Hounsfield units are CT's. Empty where it names none."""
    if "hu" in asked.slots:
        return "CT"
    return kind if "kind" in asked.slots else ""


def _image(volumes: Sequence[InputVolume], kind: str) -> InputVolume | None:
    """The first volume of a sequence type; the first of all where none is named."""
    if not kind:
        return volumes[0]
    return next(iter(matching(volumes, kind)), None)


def _same_kind(earlier: Sequence[InputVolume], later: Sequence[InputVolume]) -> tuple[InputVolume, InputVolume] | None:
    """The first pair of one sequence type: values of two types do not compare."""
    for before in earlier:
        for after in later:
            if before.kind == after.kind:
                return before, after
    return None
