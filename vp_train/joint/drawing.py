"""Draws examples: number `index` of a run is the same on every machine, whatever was drawn before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from tokenizers import Tokenizer

from vp_model.ontology import load_ontology
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.public.studies import render_prepared
from vp_train.joint.examples import JointExample, Render, build_example
from vp_train.joint.prepared import PreparedData
from vp_train.joint.recipe import JointRecipe
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.planning import StudyPlan, plan_study
from vp_train.synthesis.study import render_study
from vp_train.tasks.context import Context, make_context
from vp_train.tasks.described import described_example
from vp_train.tasks.registry import TASKS
from vp_train.tasks.scene import SEVERAL_VISITS, Example, Scene, known_structures

LESION_OF_LABELS = "white matter lesion"
"""Target of the label table that only a lesion can fill."""
SEED_STRIDE = 1_000_003
VALIDATION_SEED = 500_000_009
ATTEMPTS = 50
ABSENT_LESIONS = 0.15
"""Share of examples in which a program may look for lesions that the study does not show."""
REFUSED_FOR_THE_STUDY = ('refuse("missing session")', 'refuse("missing image")')
STAYS_REFUSED = 0.25
"""Share kept of what a study lacks a session or an image for: the study was drawn before the task."""


@dataclass(frozen=True)
class StudyContext(Context):
    """Tasks on the volumes of one study."""

    study: Scene | None = None

    def scene(self, chance: random.Random, several: float = SEVERAL_VISITS) -> Scene:
        return super().scene(chance, several) if self.study is None else self.study


@dataclass(frozen=True, eq=False)
class Source:
    """What examples are drawn from.

    Attributes:
        people: subjects to draw studies of, each with its anatomy, without which it has no lesions.
        regions: what the weights learn to find (`left hippocampus`, `brainstem`, `glioma`…).
        positions: longest sequence that α reads.
        validation: subjects and seeds that training never sees; the reading of prompts is whole.
        prepared: real images with masks, of which a share of the examples is made; None for none.
    """

    people: Sequence[tuple[Subject, Anatomy | None]]
    regions: Sequence[str]
    tokenizer: Tokenizer
    recipe: JointRecipe
    positions: int
    validation: bool = False
    prepared: PreparedData | None = None

    @cached_property
    def context(self) -> Context:
        return make_context(self.regions)

    @cached_property
    def drawn_context(self) -> Context:
        """The same of what label maps show: other regions are learned from prepared images alone."""
        if self.prepared is None:
            return self.context
        shown = [region for region in learned_regions(self.recipe) if region in self.regions]
        return replace(self.context, structures=known_structures(shown))

    @cached_property
    def known(self) -> frozenset[str]:
        """Names of the structures that the weights are told to know, without sides."""
        return frozenset(structure.name for structure in self.context.structures)

    def plan(self, index: int) -> StudyPlan:
        """The study of example number `index`, not rendered."""
        chance = Chance.seeded(self._seed(index), self.people[0][0].labels.device)
        subject, anatomy = self.people[chance.integer(len(self.people))]
        return plan_study(subject, load_labels(), chance, self.recipe.study, anatomy)

    def _seed(self, index: int) -> int:
        return self.recipe.seed * SEED_STRIDE + index + (VALIDATION_SEED if self.validation else 0)

    def draw(self, index: int) -> JointExample:
        """Example number `index`.

        Raises:
            ValueError: no example that fits α was found.
        """
        real = None if self.prepared is None else self.prepared.plan(self._seed(index), self.recipe, self.context)
        plan, context = real or (self.plan(index), self.drawn_context)
        render: Render = partial(render_study, plan) if isinstance(plan, StudyPlan) else partial(render_prepared, plan)
        spoken = random.Random(plan.seed)
        forgetting = None if self.validation else spoken
        for _ in range(ATTEMPTS):
            example = draw_task(context, plan.scene, self.recipe.described, spoken)
            built = build_example(self.tokenizer, example, render, self.known, forgetting)
            if built.length <= self.positions:
                return built
        raise ValueError(f"No prompt with a program of at most {self.positions} tokens was found for example {index}.")


def learned_regions(recipe: JointRecipe) -> tuple[str, ...]:
    """What is drawn and can be learned: the structures of the label maps, then lesions and their components."""
    kinds = [kind for name, kind in load_kinds().items() if not recipe.study.kinds or name in recipe.study.kinds]
    if recipe.study.lesioned == 0:
        kinds = []
    ontology = load_ontology().structures
    components = [part.name for kind in kinds for part in kind.parts if part.name in ontology]
    structures = [name for name in load_labels().targets if not recipe.structures or _plain(name) in recipe.structures]
    found = dict.fromkeys((*structures, *(kind.structure for kind in kinds), *components))
    return tuple(name for name in found if kinds or name != LESION_OF_LABELS)


def _plain(region: str) -> str:
    """A region's name without its side."""
    return region.removeprefix("left ").removeprefix("right ")


def draw_task(context: Context, scene: Scene, described: float, chance: random.Random) -> Example:
    """A prompt on a study with its target program: on one of its lesions, or any other task of the registry."""
    if scene.lesions and chance.random() < described:
        example = described_example(context, scene, chance)
        if example is not None:
            return example
    shown = {name for lesion in scene.lesions for name in (lesion.structure, *lesion.components)}
    nothing = not any(structure.kind != "pathology" or structure.name in shown for structure in context.structures)
    absent = chance.random() < ABSENT_LESIONS or nothing
    structures = tuple(
        structure
        for structure in context.structures
        if structure.kind != "pathology" or absent or structure.name in shown
    )
    narrowed = StudyContext(
        structures, context.unknown, context.pathology_terms, context.held_out, replace(scene, lesions=())
    )
    rows = [row for row in TASKS if row.possible(narrowed)]
    weights = [row.weight for row in rows]
    while True:
        example = chance.choices(rows, weights)[0].task(narrowed, chance)
        if example.scene.volumes != scene.volumes:
            continue  # a task that puts images of other kinds into the study, which shows none of these
        if example.program.strip() not in REFUSED_FOR_THE_STUDY or chance.random() < STAYS_REFUSED:
            return example
