"""Cases of the five questions of appendix D: a study that shows one lesion, a prompt about it, the program that encodes
the images, and the answer that follows.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from vp_model.geometry import Placed
from vp_model.ontology import load_ontology
from vp_model.vision.prepare import prepare
from vp_model.volume import Volume
from vp_train.synthesis.scene import Image
from vp_train.tasks.context import Context, make_context
from vp_train.tasks.described import (
    DescribedTask,
    enhancement_from_encoding,
    location_from_encoding,
    restriction_from_encoding,
    signal_from_encoding,
    territory_from_encoding,
)
from vp_train.tasks.scene import Example, Lesion, Scene

QUESTIONS: Mapping[str, DescribedTask] = {
    "signal": signal_from_encoding,
    "location": location_from_encoding,
    "territory": territory_from_encoding,
    "restriction": restriction_from_encoding,
    "enhancement": enhancement_from_encoding,
}
"""The five tasks of appendix D."""
ENCODED = re.compile(r"(v\d+)<MOD>")
ANSWER = re.compile(r'answer\("([^"]+)"\)')


@dataclass(frozen=True, eq=False)
class ShownStudy:
    """A study whose lesion is known.

    Attributes:
        scene: what it shows, in words.
        volumes: in the order of the scene and by its names, as the agent takes them.
        images: as m reads them at its working spacing, features (1, 1, w, h, d).
    """

    scene: Scene
    volumes: tuple[Volume, ...]
    images: tuple[Image, ...]

    @staticmethod
    def of(scene: Scene, volumes: Sequence[Volume], working_mm: float | None) -> ShownStudy:
        images = []
        for volume in volumes:
            placed = prepare(volume, working_mm).image
            images.append(Image(placed, torch.zeros(0, *placed.shape), volume.kind))
        return ShownStudy(scene, tuple(volumes), tuple(images))

    def target(self, volume: int, region: str, /) -> torch.Tensor:
        raise ValueError(f"No target program of these questions segments, but one asks for the {region}.")

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "", /) -> torch.Tensor:
        raise ValueError("No target program of these questions segments, but one asks for a lesion.")


@dataclass(frozen=True, eq=False)
class Case:
    """A question about a study.

    Attributes:
        question: key of `QUESTIONS`.
        answer: the words that are expected, exactly.
        example: the prompt with its target programs.
        study: the whole study.
        encoded: by index, the volumes that the target program encodes.
    """

    question: str
    answer: str
    example: Example
    study: ShownStudy
    encoded: tuple[int, ...]

    @property
    def images(self) -> list[Placed]:
        """What the program encodes, as m reads it."""
        return [self.study.images[index].placed for index in self.encoded]


def lesion_context(held_out: bool = False) -> Context:
    """What prompts about lesions draw from: the brain and every pathology of the ontology."""
    pathologies = [name for name, item in load_ontology().structures.items() if item.kind == "pathology"]
    return make_context(("brain", *pathologies), held_out)


def ask(study: ShownStudy, question: str, context: Context, chance: random.Random) -> Case | None:
    """The question about a study; None where it cannot be asked of it."""
    example = QUESTIONS[question](context, study.scene, chance)
    if example is None:
        return None
    answer = ANSWER.search("".join(example.later))
    if answer is None:
        raise ValueError(f"The last step of the program gives no answer: {example.later}")
    encoded = tuple(study.scene.names.index(name) for name in ENCODED.findall(example.program))
    return Case(question, answer.group(1), example, study, encoded)


def draw_cases(
    studies: Iterable[ShownStudy],
    answers: Mapping[str, Sequence[str]],
    per_answer: int,
    context: Context,
    seed: int,
) -> list[Case]:
    """Cases from studies, at most `per_answer` for each answer that is listed, until every answer has as many.

    Args:
        answers: of each question, the answers that count; other studies' lesions are passed over.
    """
    chance = random.Random(seed)
    found: Counter[tuple[str, str]] = Counter()
    wanted = {(question, answer) for question, every in answers.items() for answer in every}
    cases: list[Case] = []
    for study in studies:
        for question in answers:
            case = ask(study, question, context, chance)
            if case is None or (question, case.answer) not in wanted:
                continue
            if found[question, case.answer] < per_answer:
                found[question, case.answer] += 1
                cases.append(case)
        if all(found[pair] >= per_answer for pair in wanted):
            break
    return cases


def by_question(cases: Sequence[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        found[case.question].append(case)
    return dict(found)


def balanced(cases: Sequence[Case]) -> list[Case]:
    """As many cases of each answer of a question as of its rarest one ("equal representation", appendix D)."""
    kept: list[Case] = []
    for asked in by_question(cases).values():
        counts = Counter(case.answer for case in asked)
        fewest, taken = min(counts.values()), Counter[str]()
        for case in asked:
            taken[case.answer] += 1
            if taken[case.answer] <= fewest:
                kept.append(case)
    return kept


def draw_evenly(cases: Sequence[Case], chance: random.Random) -> Callable[[], Case]:
    """Draws a question, an answer of it, and a case of that: each as likely as any other."""
    groups: dict[str, dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        groups[case.question][case.answer].append(case)

    def draw() -> Case:
        asked = groups[chance.choice(sorted(groups))]
        return chance.choice(asked[chance.choice(sorted(asked))])

    return draw
