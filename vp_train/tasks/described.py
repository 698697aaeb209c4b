"""Tasks on images whose lesions are known: one lesion among several, its parts, and questions answered from ε.

These need images: they are for the joint training (3.1), where φ learns to say which of several lesions is meant, and
ε to say what it looks like. The step after `print(encoding)` is written once α has read ε (3.1, Figure 2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from vp_train.tasks.context import SPOKEN, Asked, Context
from vp_train.tasks.descriptions import CT_WORDS, component_words, describe
from vp_train.tasks.parts import parts_compared
from vp_train.tasks.scene import Example, Lesion, Scene, lines, matching

DescribedTask = Callable[[Context, Scene, random.Random], Example | None]
"""None where the scene holds no lesion that the task can ask about without ambiguity."""
MEASURES = {
    "segmentation": ("segmentation", ()),
    "volume analysis": ("volume analysis", ('report("volume", volume(roi))',)),
}


def one_lesion(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    """Segment or measure one lesion, whatever others there are: φ alone tells them apart."""
    lesions = _latest(scene)
    lesion = chance.choice(lesions) if lesions else None
    description = describe(lesion, lesions, chance, context.held_out) if lesion else None
    if lesion is None or description is None:
        return None
    task, reports = MEASURES[chance.choice(tuple(MEASURES))]
    asked = context.ask(task, {"roi": description.words}, chance, scene, avoid=("where",))
    names = [volume.name for volume in scene.of_session(-1)]
    code = [_segment(lesion.structure, names), "show(roi)", *reports]
    return _example(task, asked, scene, lines(f'task("{task}")', code), (lesion,))


def one_component(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    """A part of a lesion: its edema, its necrosis, its acute part."""
    lesions = _latest(scene)
    pairs = [(lesion, component) for lesion in lesions for component in lesion.components]
    if not pairs:
        return None
    lesion, component = chance.choice(pairs)
    description = describe(lesion, lesions, chance, context.held_out)
    if description is None:
        return None
    task, reports = MEASURES[chance.choice(tuple(MEASURES))]
    words = component_words(component, description.words, chance, context.held_out)
    asked = context.ask(task, {"roi": words}, chance, scene, avoid=("where",))
    names = [volume.name for volume in scene.of_session(-1)]
    code = [_segment(component, names), "show(roi)", *reports]
    return _example(task, asked, scene, lines(f'task("{task}")', code), (lesion,))


def signal_from_encoding(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    kinds = {volume.kind for volume in scene.of_session(-1)} & {*SPOKEN}
    lesions = [lesion for lesion in _latest(scene) if kinds & {*lesion.signal}]
    lesion = chance.choice(lesions) if lesions else None
    if lesion is None:
        return None
    kind = chance.choice(sorted(kinds & {*lesion.signal}))
    word = lesion.signal[kind]
    answer = CT_WORDS[word] if kind == "CT" else word
    volumes = [volume.name for volume in matching(scene.of_session(-1), kind)[:1]]
    return _answered(context, scene, lesion, ("signal intensity", "signal"), volumes, answer, chance, kind)


def location_from_encoding(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    lesions = [lesion for lesion in _latest(scene) if lesion.lobe]
    lesion = chance.choice(lesions) if lesions else None
    if lesion is None:
        return None
    side = f"{lesion.side} " if lesion.side in ("left", "right") else ""
    return _answered(context, scene, lesion, ("location", "lobe"), _names(scene), f"{side}{lesion.lobe}", chance)


def territory_from_encoding(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    lesions = [lesion for lesion in _latest(scene) if lesion.territory]
    lesion = chance.choice(lesions) if lesions else None
    if lesion is None:
        return None
    asked = ("vascular territory", "territory")
    return _answered(context, scene, lesion, asked, _names(scene), f"{lesion.territory} territory", chance)


def restriction_from_encoding(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    volumes = [*matching(scene.of_session(-1), "DWI")[:1], *matching(scene.of_session(-1), "ADC")[:1]]
    lesions = [lesion for lesion in _latest(scene) if lesion.restricted is not None]
    lesion = chance.choice(lesions) if lesions and len(volumes) == 2 else None
    if lesion is None:
        return None
    answer = "restricted diffusion" if lesion.restricted else "no restricted diffusion"
    asked = ("diffusion restriction", "restriction")
    return _answered(context, scene, lesion, asked, [volume.name for volume in volumes], answer, chance)


def enhancement_from_encoding(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    last = scene.of_session(-1)
    volumes = [next((v for v in last if v.kind == kind), None) for kind in ("T1", "T1+C")]
    lesions = [lesion for lesion in _latest(scene) if lesion.enhancing is not None]
    lesion = chance.choice(lesions) if lesions else None
    names = [volume.name for volume in volumes if volume is not None]
    if lesion is None or len(names) != 2:
        return None
    answer = "enhancing" if lesion.enhancing else "not enhancing"
    return _answered(context, scene, lesion, ("enhancement", "enhancement"), names, answer, chance)


DESCRIBED_TASKS: tuple[tuple[DescribedTask, float], ...] = (
    (one_lesion, 10),
    (one_component, 5),
    (parts_compared, 4),
    (signal_from_encoding, 5),
    (location_from_encoding, 5),
    (territory_from_encoding, 3),
    (restriction_from_encoding, 4),
    (enhancement_from_encoding, 4),
)


def described_example(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    """A task on a scene's lesions; None where it has none that can be asked about."""
    waiting = list(DESCRIBED_TASKS)
    while waiting:
        chosen = chance.choices(waiting, [weight for _, weight in waiting])[0]
        example = chosen[0](context, scene, chance)
        if example is not None:
            return example
        waiting.remove(chosen)
    return None


def _answered(
    context: Context,
    scene: Scene,
    lesion: Lesion,
    question: tuple[str, str],
    volumes: Sequence[str],
    answer: str,
    chance: random.Random,
    kind: str = "",
) -> Example | None:
    """A question about a lesion: ε of the volumes is read, then the answer written.

    Args:
        question: templates, and the aspect that the description must not give away.
        kind: the sequence type that the question names, where its answer depends on it.
    """
    templates, aspect = question
    secret = ("lobe", "side", "territory") if aspect in ("lobe", "territory") else (aspect,)
    description = describe(lesion, _latest(scene), chance, context.held_out, secret)
    if description is None:
        return None
    values = {"roi": description.words, "kind": kind.lower()}
    view = context.spoken_view(scene, kind, chance) if kind else None
    asked = context.ask(templates, values, chance, scene, view, avoid=("kind}",))
    task = "location" if templates == "vascular territory" else templates
    arguments = ", ".join(f"{name}<MOD>" for name in volumes)
    first = lines(f'task("{task}")', f"features = encode({arguments})", "print(features)")
    return _example(task, asked, scene, first, (lesion,), (lines(f'answer("{answer}")'),))


def _example(
    task: str, asked: Asked, scene: Scene, program: str, targets: tuple[Lesion, ...], later: tuple[str, ...] = ()
) -> Example:
    return Example(task, asked.prompt, scene, program, asked.context, later, targets)


def _latest(scene: Scene) -> tuple[Lesion, ...]:
    """Lesions that the last session shows."""
    last = max(volume.session for volume in scene.volumes)
    return tuple(lesion for lesion in scene.lesions if lesion.session <= last)


def _names(scene: Scene) -> list[str]:
    return [volume.name for volume in scene.of_session(-1)]


def _segment(name: str, volumes: Sequence[str]) -> str:
    arguments = ", ".join(f"{volume}<MOD>" for volume in volumes)
    return f'roi = segment("{name}", {arguments})'
