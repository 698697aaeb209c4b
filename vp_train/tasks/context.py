"""What the tasks draw from: structures that the weights know, terms that they do not, templates and slots."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vp_model.ontology import Structure, load_ontology, normalise
from vp_train.prompts.expansion import as_people_write, expand, slots, templates
from vp_train.tasks.scene import Region, Scene, known_structures, sample_scene

UNKNOWN_FILE = Path(__file__).parent / "unknown_terms.json"
SYLLABLES = (
    "ba",
    "ko",
    "ri",
    "ten",
    "mul",
    "ar",
    "pho",
    "sin",
    "gra",
    "lo",
    "vex",
    "tum",
    "que",
    "dan",
    "il",
    "os",
    "er",
)


@dataclass(frozen=True)
class Context:
    """Drawn from by every task.

    Attributes:
        structures: what the weights know.
        unknown: terms of structures that they do not know, of the brain and of the rest of the body.
        pathology_terms: names of lesions.
        held_out: use the templates and synonyms that were kept from training.
    """

    structures: tuple[Structure, ...]
    unknown: tuple[str, ...]
    pathology_terms: tuple[str, ...]
    held_out: bool = False

    def scene(self, chance: random.Random) -> Scene:
        return sample_scene(chance)

    def prompt(self, task: str, values: Mapping[str, str], chance: random.Random, avoid: Sequence[str] = ()) -> str:
        """A prompt of a task from one of its templates, as people write."""
        known = templates(self.held_out)[task]
        possible = [template for template in known if not any(word in template for word in avoid)]
        return as_people_write(expand(chance.choice(possible), values, chance, self.held_out), chance)

    def slot(self, name: str, chance: random.Random) -> str:
        return chance.choice(slots(self.held_out)[name])

    def listed(self, regions: Sequence[Region], chance: random.Random) -> str:
        """Regions as an enumeration."""
        terms = [region.term for region in regions]
        if len(terms) == 1:
            return terms[0]
        glue = chance.choice((" and ", " and the ", " as well as the ", ", "))
        return ", ".join(terms[:-1]) + glue + terms[-1]

    def unknown_term(self, chance: random.Random) -> str:
        """The name of something unknown, at times with a side, at times no word at all."""
        term = chance.choice(self.unknown) if chance.random() < 0.8 else self.nonsense(chance)
        return f"{chance.choice(('left', 'right'))} {term}" if chance.random() < 0.35 else term

    def nonsense(self, chance: random.Random) -> str:
        """A word that does not exist."""
        return "".join(chance.choice(SYLLABLES) for _ in range(chance.choice((2, 3, 3, 4))))


def make_context(regions: Sequence[str], held_out: bool = False) -> Context:
    """For a checkpoint that knows the regions (`left hippocampus`, `brainstem`).

    Structures of the ontology that it does not know are unknown terms, beside those of the rest of the body; a part
    of both lists is kept for measuring.
    """
    known = known_structures(regions)
    taken = {normalise(term) for structure in known for term in structure.terms}
    ontology = load_ontology()
    body: dict[str, list[str]] = json.loads(UNKNOWN_FILE.read_text(encoding="utf-8"))
    other = [
        term
        for structure in ontology.structures.values()
        if structure.name not in {item.name for item in known}
        for term in structure.terms
        if normalise(term) not in taken
    ]
    kept = [term for index, term in enumerate(other) if (index % 7 == 0) == held_out]
    body_terms = body["held_out"] if held_out else body["train"]
    pathology = [s.name for s in ontology.structures.values() if s.kind == "pathology"]
    return Context(known, (*body_terms, *kept), tuple(pathology), held_out)
