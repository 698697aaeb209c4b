"""How a prompt singles out one lesion among several: by its name or a wider one, and by metadata (paper B.5, B.6).

A single lesion is named with any of its metadata, before or behind the name, or with none; where there are several,
with all. A wider name (glioma → neoplasm → mass) stands only where one lesion alone has it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from vp_model.ontology import load_ontology
from vp_train.prompts.data import read_part
from vp_train.prompts.naming import terms_of
from vp_train.tasks.scene import Lesion

KEPT = 0.4
"""Share of the metadata that is said of a single lesion."""
WIDER = 0.35
"""Share of names that are wider ones, where they are not ambiguous."""
BEHIND = ("lobe", "territory", "signal", "side")
"""Metadata that may stand behind the name too."""
CT_WORDS = {"hyperintense": "hyperdense", "hypointense": "hypodense", "isointense": "isodense"}


@dataclass(frozen=True)
class Description:
    """A lesion as a prompt names it.

    Attributes:
        words: `acute infarct in the left frontal lobe`.
        name: the structure that it names, the lesion's own or a wider one.
        said: the metadata in the words: aspect → value.
    """

    words: str
    name: str
    said: tuple[tuple[str, str], ...]

    def fits(self, lesion: Lesion, others: Sequence[Lesion] = ()) -> bool:
        """Whether the words are true of a lesion (`others`: all of the scene, for the largest and smallest)."""
        if self.name != lesion.structure and self.name not in load_ontology().ancestors(lesion.structure):
            return False
        known = metadata(lesion, others)
        return all(known.get(aspect) == value for aspect, value in self.said)


def metadata(lesion: Lesion, all_of_them: Sequence[Lesion] = ()) -> dict[str, str]:
    """What can be said of a lesion, by aspect; only what is known."""
    found = {
        "side": lesion.side if lesion.side in ("left", "right") else "",
        "lobe": lesion.lobe if lesion.lobe in read_part("metadata.json", False) else "",
        "compartment": lesion.compartment if lesion.compartment != "parenchymal" else "",
        "territory": lesion.territory,
        "stage": lesion.stage,
        "texture": lesion.texture,
        "enhancement": {True: "enhancing", False: "not enhancing", None: ""}[lesion.enhancing],
        "restriction": {True: "restricted", False: "not restricted", None: ""}[lesion.restricted],
    }
    for kind, signal in lesion.signal.items():
        found[f"signal on {kind}"] = CT_WORDS[signal] if kind == "CT" else signal
    sizes = [item.volume_mm3 for item in all_of_them]
    if len(sizes) > 1 and lesion.volume_mm3 == max(sizes):
        found["size"] = "largest"
    elif len(sizes) > 1 and lesion.volume_mm3 == min(sizes):
        found["size"] = "smallest"
    return {aspect: value for aspect, value in found.items() if value}


def describe(
    lesion: Lesion,
    scene: Sequence[Lesion],
    chance: random.Random,
    held_out: bool = False,
    avoid: Sequence[str] = (),
) -> Description | None:
    """Words that fit one lesion of a scene alone; None where all that is known does not single it out.

    Args:
        scene: all lesions, this one among them.
        avoid: aspects that must not be said, because they are asked for (`signal` for all of its kinds).
    """
    others = [item for item in scene if item is not lesion]
    known = metadata(lesion, scene)
    known = (
        {aspect: value for aspect, value in known.items() if not aspect.startswith(tuple(avoid))} if avoid else known
    )
    signals = [aspect for aspect in known if aspect.startswith("signal")]
    for aspect in chance.sample(signals, max(0, len(signals) - 1)):
        if not others:
            del known[aspect]
    chosen = dict(known) if others else {a: v for a, v in known.items() if chance.random() < KEPT}
    name = _name(lesion, others, chance)
    said = tuple(chosen.items())
    description = Description(_written(name, chosen, chance, held_out), name, said)
    return None if any(description.fits(item, scene) for item in others) else description


def _name(lesion: Lesion, others: Sequence[Lesion], chance: random.Random) -> str:
    ontology = load_ontology()
    taken = {name for item in others for name in (item.structure, *ontology.ancestors(item.structure))}
    wider = sorted(ontology.ancestors(lesion.structure) - taken)
    return chance.choice(wider) if wider and chance.random() < WIDER else lesion.structure


def _written(name: str, said: dict[str, str], chance: random.Random, held_out: bool) -> str:
    before: list[str] = []
    behind: list[str] = []
    side = said.get("side", "")
    for aspect, value in said.items():
        if aspect == "side" and ("lobe" in said or "territory" in said):
            continue  # said with the lobe or the territory
        kind = aspect.removeprefix("signal on ") if aspect.startswith("signal") else ""
        group = "signal" if kind else aspect
        word = value if group == "side" else _word(value, chance, held_out)
        placed = f"{side} {word}" if group == "lobe" or (group == "territory" and "lobe" not in said) else word
        if group in BEHIND and (chance.random() < 0.5 or kind):
            if group == "lobe":
                placed = f"{side} {value}"
            form = _word(f"{group} behind", chance, held_out)
            behind.append(form.format(**{group: placed.strip(), "kind": kind.lower()}))
        else:
            before.append(f"{placed} territory".strip() if group == "territory" else placed.strip())
    chance.shuffle(before)
    before.sort(key=lambda word: word not in ("largest", "biggest", "greatest", "smallest", "tiniest"))
    term = chance.choice(terms_of(load_ontology().structures[name]))
    return " ".join([*before, term, *behind])


def _word(key: str, chance: random.Random, held_out: bool) -> str:
    trained = read_part("metadata.json", False)[key]
    kept = read_part("metadata.json", True).get(key, ())
    return chance.choice(kept if held_out and kept and chance.random() < 0.5 else trained)


def component_words(component: str, whole: str, chance: random.Random, held_out: bool = False) -> str:
    """A part of a lesion: `cystic part of the left frontal glioma`."""
    term = chance.choice(load_ontology().structures[component].terms)
    return _word("component", chance, held_out).format(component=term, roi=whole)
