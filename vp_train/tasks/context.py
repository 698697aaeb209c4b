"""What the tasks draw from: structures that the weights know, terms that they do not, templates and slots."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType

from vp_model.ontology import Structure, load_ontology, normalise
from vp_train.prompts.expansion import draw_template, fill, synonym
from vp_train.prompts.noise import with_noise
from vp_train.prompts.surroundings import Surrounded, surrounded, surrounding_word
from vp_train.tasks.scene import (
    SEVERAL_VISITS,
    Region,
    Scene,
    known_structures,
    sample_region,
    sample_regions,
    sample_scene,
    sample_structures,
)
from vp_train.tasks.selections import sample_selection

UNKNOWN_FILE = Path(__file__).parent / "unknown_terms.json"
SYLLABLES = (
    "ba", "ko", "ri", "ten", "mul", "ar", "pho", "sin", "gra", "lo", "vex", "tum", "que", "dan",
    "il", "os", "er", "zu", "mip", "fra", "nol", "ski", "ve", "ta", "chi", "ul", "dor", "eb",
)  # fmt: skip
SPOKEN = MappingProxyType(
    {
        "T1": ("t1", "t1", "t1w", "t1-weighted", "t1 weighted", "mprage"),
        "T1+C": (
            "post-contrast t1",
            "contrast-enhanced t1",
            "t1 post contrast",
            "t1 with contrast",
            "t1 gd",
            "t1 with gadolinium",
        ),
        "T2": ("t2", "t2", "t2w", "t2-weighted", "t2 weighted"),
        "FLAIR": ("flair", "flair", "t2 flair", "t2-flair", "fluid attenuated"),
        "PD": ("pd", "proton density", "pd-weighted"),
        "GRE": ("gre", "gradient echo", "t2*"),
        "SWI": ("swi", "susceptibility weighted", "susceptibility"),
        "DWI": ("dwi", "diffusion weighted", "diffusion-weighted"),
        "ADC": ("adc", "adc map", "apparent diffusion coefficient"),
        "CT": ("ct", "ct", "head ct", "computed tomography"),
    }
)
"""How sequence types are written."""
ADJECTIVE, ADJECTIVES = "adjectival", 0.4
"""Slot of a structure's adjective, and how often it stands before a measure ("left hippocampal volume")."""
DATE, LATER_DATE, UNDATED = "date", "later date", "last year"
"""Slots of the first and the last session's dates, and what stands for them where there are none."""
BEFORE_MEASURE = re.compile(
    r"\{(roi|bilateral)\} "
    r"(?=(\{(volume|growth|segmentation|axis|intensity|center|mean|asymmetry|coordinates)\}|volume\b))"
)
LESIONS, SELECTED = 0.12, 0.55
"""Share of regions that are lesions, and of these of parts of the lesion load."""
NAMED_KIND = 0.12
"""Share of prompts that name the images to look at."""


@dataclass(frozen=True)
class Asked:
    """A prompt with what it came from.

    Attributes:
        prompt: as written.
        context: clinical context in it.
        slots: names of the slots that its template filled: a number or a sequence type counts only if it was used.
    """

    prompt: str
    context: str
    slots: frozenset[str]


@dataclass(frozen=True)
class View:
    """The images that a prompt speaks of.

    Attributes:
        words: how it names them ("on the flair"); empty where it does not.
        scene: their volumes; None where the study has none of them.
    """

    words: str
    scene: Scene | None


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

    def scene(self, chance: random.Random, several: float = SEVERAL_VISITS) -> Scene:
        return sample_scene(chance, several)

    @property
    def pathologies(self) -> tuple[Structure, ...]:
        """Lesions that the weights know."""
        return tuple(structure for structure in self.structures if structure.kind == "pathology")

    def region(self, chance: random.Random) -> Region:
        """Any region that the weights know; lesions more often than one structure of many, and often a part of them."""
        if self.pathologies and chance.random() < LESIONS:
            return self.lesions(chance)
        return sample_region(self.structures, chance, None, self.held_out)

    def lesions(self, chance: random.Random, parts: float = SELECTED) -> Region:
        """A lesion load, or in a share of `parts` a part of it: by side, place or size."""
        structure = sample_structures(self.pathologies, 1, chance)[0]
        names = [item.name for item in self.structures]
        chosen = sample_selection(structure, names, chance, self.held_out) if chance.random() < parts else None
        if chosen is None:
            return sample_region([structure], chance, None, self.held_out)
        return Region(chosen[0], structure, "", chosen[1])

    def view(self, scene: Scene, chance: random.Random, share: float = NAMED_KIND) -> View:
        """All images, or in a `share` of prompts those of a sequence type, which the study may lack."""
        if chance.random() > share:
            return View("", scene)
        return self.spoken_view(scene, self.kind(scene, chance), chance)

    def spoken_view(self, scene: Scene, kind: str, chance: random.Random) -> View:
        """The images of one sequence type, named in words."""
        words = fill("{onkind}", {"kind": chance.choice(SPOKEN[kind])}, chance, self.held_out)[0]
        return View(words, scene.of_kind(kind))

    def kind(self, scene: Scene, chance: random.Random) -> str:
        """A sequence type to ask for: mostly one of the last session's."""
        present = [volume.kind for volume in scene.of_session(-1) if volume.kind in SPOKEN]
        return chance.choice(present if present and chance.random() < 0.75 else tuple(SPOKEN))

    def ask(
        self,
        task: str,
        values: Mapping[str, str],
        chance: random.Random,
        scene: Scene | None = None,
        view: View | None = None,
        avoid: Sequence[str] = (),
        plain: bool = False,
        request: str = "",
    ) -> Asked:
        """A prompt of a task from one of its templates, in its surroundings, as people write.

        Args:
            scene: the study, for words that fit its modality.
            view: the images that the prompt names.
            avoid: slots that the template must not have.
            plain: nothing around the request.
            request: instead of a template of the task.
        """
        visits = [visit for visit in scene.visits if visit] if scene is not None else []
        dates = [date_words(visit, chance) for visit in (visits[:1] + visits[-1:])] or [UNDATED] * 2
        values = {DATE: dates[0], LATER_DATE: dates[1], **values}
        template = request or draw_template(task, chance, self.held_out, avoid)
        if values.get(ADJECTIVE) and chance.random() < ADJECTIVES:
            template = BEFORE_MEASURE.sub("{" + ADJECTIVE + "} ", template, count=1)
        request, used = fill(template, values, chance, self.held_out)
        if view is not None and view.words:
            request = f"{view.words}, {request}" if chance.random() < 0.2 else f"{request} {view.words}"
        modality = scene.modality if scene is not None else ""
        around = Surrounded(request, "") if plain else surrounded(request, chance, self.held_out, modality)
        return Asked(with_noise(around.text, chance), around.context, used)

    def prompt(self, task: str, values: Mapping[str, str], chance: random.Random, avoid: Sequence[str] = ()) -> str:
        """A prompt of a task from one of its templates, as people write."""
        return self.ask(task, values, chance, avoid=avoid).prompt

    def slot(self, name: str, chance: random.Random) -> str:
        return synonym(name, chance, self.held_out)

    def named(self, region: Region) -> dict[str, str]:
        """Values of the slots for a region."""
        return {"roi": region.term, ADJECTIVE: region.adjective}

    def listing(self, regions: Sequence[Region], chance: random.Random) -> dict[str, str]:
        """Values of the slots for regions beside each other."""
        values = self.named(regions[0]) if len(regions) == 1 else {}
        return {**values, "roi": self.listed(regions, chance)}

    def regions(self, count: int, chance: random.Random) -> list[Region]:
        """Regions of different structures that a prompt names beside each other; one may be a part of a lesion load."""
        if count == 1:
            return [self.region(chance)]
        return sample_regions(self.structures, count, chance, self.held_out)

    def listed(self, regions: Sequence[Region], chance: random.Random) -> str:
        """Regions as an enumeration."""
        terms = [region.term for region in regions]
        if len(terms) == 1:
            return terms[0]
        glue = chance.choice(
            (" and ", " and ", " and the ", " as well as the ", ", ", " & ", " plus ", ", and the ", " + ")
        )
        return chance.choice((", ", ", ", "; ", " and ")).join(terms[:-1]) + glue + terms[-1]

    def condition(self, chance: random.Random) -> str:
        """What a patient may have."""
        return surrounding_word("condition", chance, self.held_out)

    def mash(self, chance: random.Random) -> str:
        """What a cat types."""
        letters = chance.choice(("asdfghjkl", "qwertyuiop", "zxcvbnm", "abcdefghijklmnopqrstuvwxyz", "0123456789 .,-#"))
        return "".join(chance.choice(letters) for _ in range(chance.randrange(2, 14))).strip() or "#"

    def unknown_term(self, chance: random.Random) -> str:
        """The name of something unknown, at times with a side, at times no word at all."""
        term = chance.choice(self.unknown) if chance.random() < 0.8 else self.nonsense(chance)
        return f"{chance.choice(('left', 'right'))} {term}" if chance.random() < 0.35 else term

    def nonsense(self, chance: random.Random) -> str:
        """A word that does not exist."""
        return "".join(chance.choice(SYLLABLES) for _ in range(chance.choice((2, 3, 3, 4))))


def date_words(visit: str, chance: random.Random) -> str:
    """A session's date (`2022-05-10`) as people write it, mostly as it is."""
    day = date.fromisoformat(visit)
    forms = (
        f"{day.day} {day:%B} {day.year}",
        f"{day:%B} {day.year}",
        str(day.year),
        f"{day:%d.%m.%Y}",
        f"{day:%b} {day.year}",
    )
    return chance.choice(forms) if chance.random() < 0.5 else visit


def make_context(regions: Sequence[str], held_out: bool = False) -> Context:
    """For a checkpoint that knows the regions (`left hippocampus`, `brainstem`).

    Structures of the ontology that it does not know are unknown terms, beside those of the rest of the body; a part
    of both lists is kept for measuring.
    """
    known = known_structures(regions)
    taken = {normalise(term) for structure in known for term in structure.terms}
    ontology = load_ontology()
    body: dict[str, list[str]] = json.loads(UNKNOWN_FILE.read_text(encoding="utf-8"))
    listed = {normalise(term) for terms in body.values() for term in terms}
    names = {item.name for item in known}
    other = [
        term
        for structure in ontology.structures.values()
        if structure.name not in names
        for term in structure.terms
        if normalise(term) not in taken | listed and ontology.meant(structure.name, term, names) is None
    ]
    kept = [term for index, term in enumerate(dict.fromkeys(other)) if (index % 7 == 0) == held_out]
    body_terms = [term for term in body["held_out" if held_out else "train"] if normalise(term) not in taken]
    pathology = [s.name for s in ontology.structures.values() if s.kind == "pathology"]
    return Context(known, (*body_terms, *kept), tuple(pathology), held_out)
