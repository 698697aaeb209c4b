"""The five questions of appendix D, asked of a checkpoint: its programs find the lesion, measure it and say the word.

Beside the checkpoint's own answers stand those that it gives where it is told the lesion: what is lost by finding it
can so be told from what is lost by measuring.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vp_model.agent import Agent
from vp_model.vision.finding import LesionFinder, shown_in
from vp_model.vision.sight import Sight
from vp_model.volume import Volume
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.pathology import SMALLEST_ML
from vp_train.experiments.characterisation.cases import QUESTIONS, lesion_context
from vp_train.experiments.characterisation.studies import plain_settings, single_lesions, volumes_of
from vp_train.experiments.checkpoint import named
from vp_train.experiments.report import Bars, Report
from vp_train.experiments.statistics import summarise
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.planning import StudyPlan
from vp_train.synthesis.study import SyntheticStudy, render_study
from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example

PAPER = "89.0 ± 3.6 % exact answers on average over the five questions (Fig. 9)."
SEED = 6_000_000
NAME = "lesion"
TEMPLATES: Mapping[str, str] = {
    "signal": "signal intensity",
    "location": "location",
    "territory": "vascular territory",
    "restriction": "diffusion restriction",
    "enhancement": "enhancement",
}
"""Question → templates of its prompts."""
WAYS = ("alone", "told the lesion")


@dataclass(frozen=True)
class MeasuredCase:
    """A question about a study.

    Attributes:
        question: key of `TEMPLATES`.
        answer: the words that are expected, exactly.
    """

    question: str
    answer: str
    prompt: str


@dataclass(eq=False)
class KnownLesion(LesionFinder):
    """Finds the lesion of a study where it is.

    Attributes:
        found: by name of volume, (w, h, d) 1 where the lesion fills at least half of a voxel, else 0.
    """

    found: Mapping[str, torch.Tensor] | None = None

    def find(self, name: str, volumes: Sequence[Volume], phi: torch.Tensor) -> list[torch.Tensor]:
        """In the images in which it is looked for, as without being told."""
        known = self.found or {}
        shown = shown_in(self.shows[name], [(volume.session, volume.kind) for volume in volumes])
        return [
            known[volume.name] if index in shown else torch.zeros(volume.shape) for index, volume in enumerate(volumes)
        ]


def run(
    settings: Mapping[str, Any],
    held_out: Sequence[Subject],
    anatomies: Sequence[Anatomy],
    checkpoint: Path | None = None,
) -> Report:
    """Ask every question of synthetic studies of held-out subjects, of each answer as often.

    Raises:
        ValueError: the checkpoint finds no lesions of all kinds.
    """
    agent = Agent.load(checkpoint)
    if agent.checkpoint.lesions is None or NAME not in agent.checkpoint.lesions.shows:
        raise ValueError("This checkpoint does not find lesions of all kinds, which these questions are about.")
    kinds = agent.checkpoint.lesions.shows[NAME]
    right: dict[tuple[str, str], dict[str, list[float]]] = {}
    answers: list[dict[str, str]] = []
    for plan, cases in wanted_cases(settings, held_out, anatomies, kinds):
        study = render_study(plan)
        volumes = volumes_of(study)
        sight = agent.sight(volumes)
        for way, seen in zip(WAYS, (sight, told(sight, study)), strict=True):
            for case in cases:
                outcome = agent.run(case.prompt, volumes, sight=seen)
                words = "; ".join(text.text for text in outcome.texts) or outcome.reason
                answers.append({"question": case.question, "expected": case.answer, "way": way, "answered": words})
                held = right.setdefault((case.question, case.answer), {way: [] for way in WAYS})
                held[way].append(float(words == case.answer))
    return _report(right, answers, settings, checkpoint)


def wanted_cases(
    settings: Mapping[str, Any], subjects: Sequence[Subject], anatomies: Sequence[Anatomy], kinds: Sequence[str]
) -> Iterator[tuple[StudyPlan, list[MeasuredCase]]]:
    """Studies with questions, until every answer was asked for as often as it should be.

    Args:
        kinds: sequence types of which a study has at least one: lesions are looked for in these.
    """
    context, chance = lesion_context(held_out=True), random.Random(SEED)
    asked: Counter[tuple[str, str]] = Counter()
    per_answer = int(settings["per_answer"])
    wanted = {(question, answer) for question, every in settings["answers"].items() for answer in every}
    plans = single_lesions(plain_settings(settings["study"]), subjects, anatomies, load_labels(), SEED)
    for plan in islice(plans, int(settings["studies"])):
        if plan is None or not {volume.kind for volume in plan.scene.volumes} & set(kinds):
            continue
        if plan.scene.lesions[0].volume_mm3 < 1000 * SMALLEST_ML:
            continue
        cases = []
        for question in TEMPLATES:
            case = measured_case(plan, question, context, chance)
            key = None if case is None else (case.question, case.answer)
            if case is not None and key in wanted and asked[key] < per_answer:
                asked[key] += 1
                cases.append(case)
        if cases:
            yield plan, cases
        if all(asked[key] >= per_answer for key in wanted):
            return


def measured_case(plan: StudyPlan, question: str, context: Context, chance: random.Random) -> MeasuredCase | None:
    """The question about the lesion of a study, in a phrasing that was never trained on; None where it has none.

    Whatever kind the lesion is of, it is called a lesion: which kinds a checkpoint can tell is another matter.
    """
    example = QUESTIONS[question](context, plan.scene, chance)
    if example is None:
        return None
    kind = _kind_of(example)
    while True:
        asked = context.ask(TEMPLATES[question], {"roi": NAME, "kind": kind}, chance, plan.scene, plain=True)
        if question != "signal" or "kind" in asked.slots:
            break
    (answer,) = (line.split('"')[1] for line in example.later[0].splitlines() if line.startswith("answer("))
    return MeasuredCase(question, answer, asked.prompt)


def _kind_of(example: Example) -> str:
    """The sequence type of the one volume that a question is about, as people write it; of several, the first's."""
    name = example.program.split("encode(")[1].split("<MOD>")[0]
    return next(volume.kind for volume in example.scene.volumes if volume.name == name).lower()


def told(sight: Sight, study: SyntheticStudy) -> Sight:
    """The same, but for the lesion, which is where it is."""
    finder = sight.lesions
    if finder is None:
        raise ValueError("This checkpoint finds no lesions.")
    found = {
        volume.name: (study.lesion_target(index, study.scene.lesions) >= 0.5).float()
        for index, volume in enumerate(study.scene.volumes)
    }
    finds = {item.name: getattr(finder, item.name) for item in fields(LesionFinder)}
    return replace(sight, lesions=KnownLesion(**{**finds, "found": found}))


def _report(
    right: Mapping[tuple[str, str], Mapping[str, Sequence[float]]],
    answers: Sequence[Mapping[str, str]],
    settings: Mapping[str, Any],
    checkpoint: Path | None,
) -> Report:
    """Every answer of a question counts the same, however often it was asked for."""
    by_question: dict[str, dict[str, list[list[float]]]] = {}
    for (question, _), ways in sorted(right.items()):
        held = by_question.setdefault(question, {way: [] for way in WAYS})
        for way in WAYS:
            held[way].append(list(ways[way]))
    means = {
        question: {way: [float(np.mean(values)) for values in held[way]] for way in WAYS}
        for question, held in by_question.items()
    }
    rows = [
        (
            question,
            str(len(held[WAYS[0]])),
            str(sum(len(values) for values in held[WAYS[0]])),
            *(f"{100 * float(np.mean(means[question][way])):.1f}" for way in WAYS),
            f"{100 / len(settings['answers'][question]):.0f}",
        )
        for question, held in by_question.items()
    ]
    total = {way: [float(np.mean(means[question][way])) for question in means] for way in WAYS}
    rows.append(("**mean**", "", "", *(f"{100 * float(np.mean(total[way])):.1f}" for way in WAYS), ""))
    notes = (
        f"Synthetic studies of held-out heads, each with one lesion (B.6) of at least {SMALLEST_ML:g} ml and an image "
        "of a sequence type in which lesions are looked for. The prompts call it a lesion, in phrasings that α never "
        "saw. An answer counts if its words are exactly those expected; a refusal does not. Every answer of a question "
        "counts the same.",
        "Programs measure: signal and diffusion against white matter, enhancement against the tissue around the "
        "lesion, lobe and territory by the regions that m finds. “Told the lesion”: the same programs with the true "
        "lesion.",
    )
    bars = Bars(
        ("mean", *means),
        {
            way: [summarise(total[way]), *(summarise([v for part in by_question[q][way] for v in part]) for q in means)]
            for way in WAYS
        },
        "exact answers",
    )
    return Report(
        "lesions-in-words",
        "Lesions in words, by programs that measure (Fig. 9, appendix D)",
        PAPER,
        ("question", "answers", "cases", "by the checkpoint (%)", "told the lesion (%)", "by chance (%)"),
        tuple(rows),
        notes,
        {**named(checkpoint), "studies": settings["studies"], "per answer": settings["per_answer"]},
        {"answers": answers},
        bars,
    )
