"""Questions whose answer is words: signal, diffusion restriction, enhancement (paper 3.2, B.1).

The words come from measurements. A structure is compared with the tissue within 5 mm around it, a lesion with normal
white matter, as readers do: around a lesion lie fluid, and what was not found of it. What could not be found compares
to nothing, and is answered by nothing but that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume
from vp_train.tasks.context import SPOKEN, Context
from vp_train.tasks.refusals import missing_image
from vp_train.tasks.scene import Example, Region, Scene, lines, matching, sample_region, segment_lines

AROUND_MM = 5
WHITE_MATTER = "cerebral white matter"
BRIGHTER = 1.05
"""Times the mean of what a lesion is compared with from which it is bright on DWI."""
ENHANCING_PERCENT = 10
"""Growth of the ratio to the tissue around, from before to after contrast agent, that counts as enhancement."""
LESIONS = 0.5
"""Share of these questions that are about lesions, where the weights know any."""
IMAGES_THERE = 0.7
"""Share of studies that hold the images that a question needs."""
WORDS = {"CT": ("hyperdense", "hypodense", "isodense")}
MR_WORDS = ("hyperintense", "hypointense", "isointense")


def signal_intensity(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    region = _region(context, chance)
    kind = context.kind(scene, chance)
    asked = context.ask(
        "signal intensity", {**context.named(region), "kind": chance.choice(SPOKEN[kind])}, chance, scene
    )
    volumes = scene.of_session(-1)
    images = matching(volumes, kind) if "kind" in asked.slots else volumes[:1]
    if not images:
        return missing_image("signal intensity", asked, scene)
    above, below, alike = WORDS.get(images[0].kind, MR_WORDS)
    image = images[0].name
    code = [
        *segment_lines(region, [volume.name for volume in volumes]),
        "show(roi)",
        *_compared_with(context, region, [volume.name for volume in volumes]),
        f"inside = mean_intensity(roi, {image})",
        f"outside = mean_intensity(around, {image})",
        f"spread = sd_intensity(around, {image})",
        "low = outside - spread",
        "high = outside + spread",
        'report("relative intensity", percent_of(inside, outside))',
        "if inside > high:",
        f'    answer("{above}", roi)',
        "if inside < low:",
        f'    answer("{below}", roi)',
        "if inside >= low and inside <= high:",
        f'    answer("{alike}", roi)',
    ]
    return Example("signal intensity", asked.prompt, scene, lines('task("signal intensity")', code), asked.context)


def diffusion_restriction(context: Context, chance: random.Random) -> Example:
    scene = with_kinds(context.scene(chance), ("DWI", "ADC"), chance)
    region = _region(context, chance)
    asked = context.ask("diffusion restriction", context.named(region), chance, scene)
    volumes = scene.of_session(-1)
    bright, dark = matching(volumes, "DWI"), matching(volumes, "ADC")
    if not bright or not dark:
        return missing_image("diffusion restriction", asked, scene)
    dwi, adc = bright[0].name, dark[0].name
    names = [volume.name for volume in volumes]
    limits = (
        (f"bright = mean_intensity(around, {dwi}) * {BRIGHTER}", f"dark = mean_intensity(around, {adc})")
        if _is_lesion(context, region)
        else (
            f"bright = mean_intensity(around, {dwi}) + sd_intensity(around, {dwi})",
            f"dark = mean_intensity(around, {adc}) - sd_intensity(around, {adc})",
        )
    )
    code = [
        *segment_lines(region, names),
        "show(roi)",
        *_compared_with(context, region, names),
        *limits,
        f"one = mean_intensity(roi, {dwi})",
        f"two = mean_intensity(roi, {adc})",
        "if one > bright and two < dark:",
        '    answer("restricted diffusion", roi)',
        "if one <= bright or two >= dark:",
        '    answer("no restricted diffusion", roi)',
    ]
    program = lines('task("diffusion restriction")', code)
    return Example("diffusion restriction", asked.prompt, scene, program, asked.context)


def enhancement(context: Context, chance: random.Random) -> Example:
    scene = with_kinds(context.scene(chance), ("T1", "T1+C"), chance)
    region = _region(context, chance)
    asked = context.ask("enhancement", context.named(region), chance, scene)
    volumes = scene.of_session(-1)
    pair = [next((volume for volume in volumes if volume.kind == kind), None) for kind in ("T1", "T1+C")]
    if pair[0] is None or pair[1] is None:
        return missing_image("enhancement", asked, scene)
    before, after = pair[0].name, pair[1].name
    code = [
        *segment_lines(region, [volume.name for volume in volumes]),
        "show(roi)",
        f"around = surrounding(roi, {AROUND_MM})",
        f"before = ratio(mean_intensity(roi, {before}), mean_intensity(around, {before}))",
        f"after = ratio(mean_intensity(roi, {after}), mean_intensity(around, {after}))",
        "change = percent_change(before, after)",
        'report("relative intensity change", change)',
        f"if change > {ENHANCING_PERCENT}:",
        '    answer("enhancing", roi)',
        f"if change <= {ENHANCING_PERCENT}:",
        '    answer("not enhancing", roi)',
    ]
    return Example("enhancement", asked.prompt, scene, lines('task("enhancement")', code), asked.context)


def with_kinds(scene: Scene, kinds: tuple[str, ...], chance: random.Random) -> Scene:
    """The study, mostly with images of these kinds in its last session: they take the place of others there."""
    if chance.random() > IMAGES_THERE:
        return scene
    last = scene.of_session(-1)
    missing = [kind for kind in kinds if kind not in {volume.kind for volume in last}]
    spare = [volume for volume in last if volume.kind not in kinds]
    volumes = list(scene.volumes)
    for kind in missing:
        if spare:
            old = spare.pop(chance.randrange(len(spare)))
            volumes[volumes.index(old)] = InputVolume(old.name, kind, old.visit, old.session)
        else:
            volumes.append(InputVolume(f"v{len(volumes) + 1}", kind, last[0].visit, last[0].session))
    return Scene(tuple(volumes), scene.lesions)


def _is_lesion(context: Context, region: Region) -> bool:
    """Whether a region is a lesion that can be compared with white matter."""
    known = any(structure.name == WHITE_MATTER for structure in context.structures)
    return known and region.structure.kind == "pathology"


def _compared_with(context: Context, region: Region, names: Sequence[str]) -> list[str]:
    """The lines that say what `roi` is compared with."""
    if not _is_lesion(context, region):
        return [f"around = surrounding(roi, {AROUND_MM})"]
    white = Region("", load_ontology().structures[WHITE_MATTER], "")
    return [*segment_lines(white, names, "white"), "around = difference(white, roi)"]


def _region(context: Context, chance: random.Random) -> Region:
    if context.pathologies and chance.random() < LESIONS:
        return context.lesions(chance, 0.3)
    return sample_region(context.structures, chance, None, context.held_out)
