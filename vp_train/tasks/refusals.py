"""Prompts that must be refused: unknown structures, missing sessions or images, other questions, no question at all."""

from __future__ import annotations

import random

from vp_model.ontology.places import load_places
from vp_train.prompts.naming import plural, written
from vp_train.tasks.context import Asked, Context, View
from vp_train.tasks.scene import Example, Scene, lines, sample_region, sample_structures

ASKING = (
    "segmentation",
    "volume analysis",
    "volume change",
    "extent analysis",
    "extent change",
    "center of mass",
    "intensity analysis",
    "intensity change",
    "image cropping",
    "tissue removal",
    "tissue isolation",
)
MIXED = 0.2
"""Share of unknown structures that stand beside a known one."""
COMPARING = 0.15
"""Share of unknown structures in a comparison with a known one."""
ABOUT_LESIONS = (
    "segmentation",
    "volume analysis",
    "volume change",
    "lesion count",
    "tissue removal",
    "center of mass",
)
WITHIN = ("in the", "in the", "within the", "inside the", "of the", "located in the", "lying in the", "in")
HOLD_LESIONS = frozenset(
    {"brain", "cerebral white matter", "cerebral cortex", "lateral ventricle", "ventricular system"}
)
"""Structures beside lesions that mean all of them, or a part that can be selected."""
BARE = 0.35
"""Share of chat that is left as it is, without clinical surroundings."""


def unknown_structure(context: Context, chance: random.Random) -> Example:
    """A task that the model knows, on a structure that it does not."""
    scene = context.scene(chance, 0.6)
    term = context.unknown_term(chance)
    axis = chance.choice(("left-right", "anterior-posterior", "superior-inferior"))
    values = {
        "roi": term,
        "bilateral": term,
        "axis": context.slot(axis, chance),
        "adjective": context.slot("wide", chance),
        "stretched": context.slot("widened", chance),
        "kind": "t1",
        "margin": str(chance.randrange(2, 30)),
    }
    choice = chance.random()
    if choice < COMPARING:
        known = context.region(chance).term
        values["roi"], values["other"] = chance.choice(((term, known), (known, term)))
        values["whole"] = values["other"]
        task = chance.choice(("volume comparison", "intensity comparison", "relative volume analysis"))
    elif choice < COMPARING + MIXED:
        names = [term, *(region.term for region in context.regions(chance.choice((1, 1, 2)), chance))]
        chance.shuffle(names)
        values["roi"] = ", ".join(names[:-1]) + chance.choice((" and ", ", ", " and the ")) + names[-1]
        task = chance.choice(("segmentation", "volume analysis"))
    elif choice < COMPARING + MIXED + 0.05:
        task = "volume asymmetry"
    else:
        task = chance.choice(ASKING)
    asked = context.ask(task, values, chance, scene, context.view(scene, chance, 0.05))
    return _refused("unknown structure", asked, scene, "unknown structure")


def not_a_brain_question(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    values = {"nonsense": context.nonsense(chance), "condition": context.condition(chance)}
    asked = context.ask("not a brain question", values, chance, scene, plain=chance.random() < BARE)
    return _refused("not a brain question", asked, scene, "not a brain question")


def not_understood(context: Context, chance: random.Random) -> Example:
    """A request without its object, or no words."""
    scene = context.scene(chance)
    values = {"roi": context.region(chance).term, "mash": context.mash(chance)}
    asked = context.ask("not understood", values, chance, scene, plain=chance.random() < BARE)
    return _refused("not understood", asked, scene, "not understood")


def not_characterised(context: Context, chance: random.Random) -> Example:
    """Characterisations that need knowledge which these weights do not have."""
    scene = context.scene(chance)
    pathology = chance.choice(context.pathology_terms)
    values = {"roi": context.region(chance).term, "pathology": pathology}
    asked = context.ask("characterisation", values, chance, scene)
    return _refused("not understood", asked, scene, "not understood")


def lesions_within(context: Context, chance: random.Random) -> Example:
    """Lesions by what they lie in, where that is no lobe: what programs select is a side, a place, a lobe or a size."""
    scene = context.scene(chance)
    lesion = sample_structures(context.pathologies, 1, chance)[0]
    tellable = {*HOLD_LESIONS, *load_places()["lobe"].of.values()}
    places = [item for item in context.structures if item.kind == "anatomy" and item.name not in tellable]
    place = sample_region(places, chance, None, context.held_out, listed=True)
    term = written(lesion, "", chance, plain=True)
    values = {"roi": f"{plural(term, lesion)} {chance.choice(WITHIN)} {place.term}"}
    asked = context.ask(chance.choice(ABOUT_LESIONS), values, chance, scene)
    return _refused("not understood", asked, scene, "not understood")


def no_change(task: str, asked: Asked, scene: Scene, view: View) -> Example | None:
    """The refusal of a change where the study has one session, or one alone with the images asked for; else None."""
    if not scene.longitudinal:
        return missing_session(task, asked, scene)
    if view.scene is None or not view.scene.longitudinal:
        return missing_image(task, asked, scene)
    return None


def missing_session(task: str, asked: Asked, scene: Scene) -> Example:
    return _refused(task, asked, scene, "missing session")


def missing_image(task: str, asked: Asked, scene: Scene) -> Example:
    return _refused(task, asked, scene, "missing image")


def _refused(task: str, asked: Asked, scene: Scene, reason: str) -> Example:
    return Example(task, asked.prompt, scene, lines(f'refuse("{reason}")'), asked.context)
