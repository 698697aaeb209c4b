"""Prompts that must be refused: unknown structures, missing sessions or images, other questions."""

from __future__ import annotations

import random

from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example, Scene, lines, sample_region

ASKING = ("segmentation", "volume analysis", "volume change", "extent analysis", "center of mass", "intensity analysis")


def unknown_structure(context: Context, chance: random.Random) -> Example:
    """A task that the model knows, on a structure that it does not."""
    scene = context.scene(chance)
    task = chance.choice((*ASKING, "image cropping", "tissue removal"))
    term = context.unknown_term(chance)
    values = {
        "roi": term,
        "axis": context.slot("left-right", chance),
        "adjective": "wide",
        "kind": "t1",
        "margin": str(chance.randrange(2, 30)),
    }
    prompt = context.prompt(task, values, chance)
    return Example("unknown structure", prompt, scene, lines('refuse("unknown structure")'))


def not_a_brain_question(context: Context, chance: random.Random) -> Example:
    scene = context.scene(chance)
    prompt = context.prompt("not a brain question", {"nonsense": context.nonsense(chance)}, chance)
    return Example("not a brain question", prompt, scene, lines('refuse("not a brain question")'))


def not_understood(context: Context, chance: random.Random) -> Example:
    """Characterisations that need knowledge of lesions which these weights do not have."""
    scene = context.scene(chance)
    region = sample_region(context.structures, chance)
    pathology = chance.choice(context.pathology_terms)
    prompt = context.prompt("not understood", {"roi": region.term, "pathology": pathology}, chance)
    return Example("not understood", prompt, scene, lines('refuse("not understood")'))


def missing_session(task: str, prompt: str, scene: Scene) -> Example:
    return Example(task, prompt, scene, lines('refuse("missing session")'))


def missing_image(task: str, prompt: str, scene: Scene) -> Example:
    return Example(task, prompt, scene, lines('refuse("missing image")'))
