"""Lesions and the place or the signal that a prompt names: is it in this lobe, how large are the bright ones."""

from __future__ import annotations

import random

from vp_model.ontology import load_ontology
from vp_model.ontology.places import load_places
from vp_train.prompts.data import read_part
from vp_train.prompts.naming import plural, written
from vp_train.tasks.characterisation import WHITE_MATTER
from vp_train.tasks.context import SPOKEN, Context
from vp_train.tasks.refusals import missing_image
from vp_train.tasks.scene import Example, Region, lines, matching, sample_structures, segment_lines
from vp_train.tasks.selections import lobe_written, sample_lobe

SIGNALS = {"hyperintense": 0.5, "hypointense": 0.4, "isointense": 0.1}
"""How often each is asked for."""
NAMED_IMAGE = 0.6
"""Share of these prompts that name the image on which the signal is meant."""
REPORTS = {
    "segmentation": ("segmentation", ()),
    "volume analysis": ("volume analysis", ('report("volume", volume(roi))',)),
    "lesion count": (
        "volume analysis",
        ('report("count", count(components(roi)))', 'report("volume", volume(roi))'),
    ),
}
"""Templates → task of the program, and what it reports."""


def named_location(context: Context, chance: random.Random) -> Example:
    """Whether lesions lie in a lobe, or in which of two: the answer says where they do."""
    first = sample_lobe(chance)
    second = chance.choice([lobe for lobe in (sample_lobe(chance) for _ in range(20)) if lobe != first])
    places = [lobe_written(lobe, chance, context.held_out) for lobe in (first, second)]
    return _where(context, chance, "named location", places, "lobe_of")


def named_territory(context: Context, chance: random.Random) -> Example:
    structures = load_ontology().structures
    arteries = chance.sample(sorted({*load_places()["territory"].of.values()}), 2)
    places = [written(structures[f"{artery} territory"], "", chance, plain=True) for artery in arteries]
    return _where(context, chance, "named territory", places, "territory_of")


def _where(context: Context, chance: random.Random, templates: str, places: list[str], operation: str) -> Example:
    scene = context.scene(chance)
    region = context.lesions(chance, 0)
    names = [volume.name for volume in scene.of_session(-1)]
    values = {**context.named(region), "place": places[0], "elsewhere": places[1]}
    asked = context.ask(templates, values, chance, scene)
    code = [*segment_lines(region, names), "show(roi)", f"answer({operation}(roi), roi)"]
    return Example("location", asked.prompt, scene, lines('task("location")', code), asked.context)


def of_signal(context: Context, chance: random.Random) -> Example:
    """The lesions that are bright or dark against white matter: their masks, volume or number."""
    scene = context.scene(chance, 0.0)
    lesion = sample_structures(context.pathologies, 1, chance)[0]
    signal = chance.choices(tuple(SIGNALS), tuple(SIGNALS.values()))[0]
    words = chance.choice(read_part("selections.json", context.held_out and chance.random() < 0.5)[f"signal {signal}"])
    words = words.replace("{plural}", plural(written(lesion, "", chance, plain=True), lesion))
    images = scene.volumes[:1]
    if chance.random() < NAMED_IMAGE:
        kind = context.kind(scene, chance)
        images = matching(scene.volumes, kind)
        words = f"{words} on {chance.choice(('', 'the '))}{chance.choice(SPOKEN[kind])}"
    templates = chance.choice(tuple(REPORTS))
    asked = context.ask(templates, {"roi": words}, chance, scene)
    if not images:
        return missing_image(templates, asked, scene)
    task, reports = REPORTS[templates]
    names = [volume.name for volume in scene.volumes]
    white = Region("", load_ontology().structures[WHITE_MATTER], "")
    code = [
        *segment_lines(Region(words, lesion, ""), names, "roi_all"),
        *segment_lines(white, names, "white"),
        "around = difference(white, roi_all)",
        f'roi = with_signal(roi_all, around, "{signal}", {images[0].name})',
        "show(roi)",
        *reports,
    ]
    return Example(templates, asked.prompt, scene, lines(f'task("{task}")', code), asked.context)
