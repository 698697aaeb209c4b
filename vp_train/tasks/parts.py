"""Parts of a pathology against each other in one program: its acute against its chronic part, the enhancing part of a
lesion against the rest (Table 1, "relative volume analysis").

For images whose lesions are known: that two calls of `segment` on one structure mean different lesions is for φ alone
to say.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from vp_model.ontology import load_ontology
from vp_train.prompts.data import read_part
from vp_train.prompts.naming import terms_of
from vp_train.tasks.context import Context
from vp_train.tasks.descriptions import describe
from vp_train.tasks.scene import Example, Lesion, Scene, lines

TASK = "relative volume analysis"
TEMPLATES = "parts compared"
WORDS = "parts.json"
REPORTS = (
    "show(part)",
    "show(rest)",
    'report("volume", volume(part))',
    'report("volume", volume(rest))',
)


def parts_compared(context: Context, scene: Scene, chance: random.Random) -> Example | None:
    """Volumes of two parts, and the share of the first; None where no lesion of the last session has parts."""
    last = max(volume.session for volume in scene.volumes)
    lesions = tuple(lesion for lesion in scene.lesions if lesion.session <= last)
    ways = [_stages, _component]
    chance.shuffle(ways)
    return next((found for way in ways if (found := way(context, scene, lesions, chance)) is not None), None)


def _stages(context: Context, scene: Scene, lesions: Sequence[Lesion], chance: random.Random) -> Example | None:
    """The lesions of one structure at one stage against those at another."""
    stages: dict[str, set[str]] = {}
    for lesion in lesions:
        stages.setdefault(lesion.structure, set()).add(lesion.stage)
    structures = sorted(name for name, found in stages.items() if len(found) == 2 and all(found))
    if not structures:
        return None
    structure = chance.choice(structures)
    first, second = chance.sample(sorted(stages[structure]), 2)
    part, rest = (
        tuple(item for item in lesions if (item.structure, item.stage) == (structure, stage))
        for stage in (first, second)
    )
    form = _word("stage", chance, context.held_out)
    stage_words = [read_part("metadata.json", False)[stage] for stage in (first, second)]
    values = {
        "roi": chance.choice(terms_of(load_ontology().structures[structure])),
        "part": form.format(stage=chance.choice(stage_words[0])),
        "rest": form.format(stage=chance.choice(stage_words[1])),
    }
    code = [
        *(f'{name} = segment("{structure}", {_arguments(scene)})' for name in ("part", "rest")),
        *REPORTS,
        'report("percent of region", percent_of(volume(part), volume(union(part, rest))))',
    ]
    return _example(context, scene, values, code, chance, (part, rest))


def _component(context: Context, scene: Scene, lesions: Sequence[Lesion], chance: random.Random) -> Example | None:
    """A component that is part of its lesion's own mask against the rest of it; edema around it is not."""
    inner = read_part(WORDS, False)
    pairs = [(lesion, name) for lesion in lesions for name in lesion.components if name in inner]
    if not pairs:
        return None
    lesion, component = chance.choice(pairs)
    description = describe(lesion, lesions, chance, context.held_out)
    if description is None:
        return None
    values = {
        "roi": description.words,
        "part": _word(component, chance, context.held_out),
        "rest": _word(f"not {component}", chance, context.held_out),
    }
    code = [
        f'whole = segment("{lesion.structure}", {_arguments(scene)})',
        f'part = segment("{component}", {_arguments(scene)})',
        "rest = difference(whole, part)",
        *REPORTS,
        'report("percent of region", percent_of(volume(part), volume(whole)))',
    ]
    return _example(context, scene, values, code, chance, ((lesion,), (lesion,)))


def _example(
    context: Context,
    scene: Scene,
    values: dict[str, str],
    code: Sequence[str],
    chance: random.Random,
    meant: tuple[tuple[Lesion, ...], ...],
) -> Example:
    asked = context.ask(TEMPLATES, values, chance, scene)
    targets = tuple(item for item in scene.lesions if any(item is one for group in meant for one in group))
    return Example(TASK, asked.prompt, scene, lines(f'task("{TASK}")', code), asked.context, (), targets, meant)


def _arguments(scene: Scene) -> str:
    return ", ".join(f"{volume.name}<MOD>" for volume in scene.of_session(-1))


def _word(key: str, chance: random.Random, held_out: bool) -> str:
    trained, kept = read_part(WORDS, False)[key], read_part(WORDS, True)[key]
    return chance.choice(kept if held_out and chance.random() < 0.5 else trained)
