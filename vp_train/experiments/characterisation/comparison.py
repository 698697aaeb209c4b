"""Both models on the same held-out cases: exact answers, by question and on average (Fig. 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vp_model.language.config import LanguageConfig
from vp_model.vision.config import config_from_dict
from vp_train.experiments.characterisation.cases import Case, balanced, by_question
from vp_train.experiments.characterisation.classifier import ClassifierFit, fit_classifier
from vp_train.experiments.characterisation.prompted import PromptedFit, fit_prompted
from vp_train.experiments.report import Bars, Report
from vp_train.experiments.statistics import compare, summarise
from vp_train.tasks.context import Context

PAPER = (
    "89.0 ± 3.6 % exact answers on average over the five questions, 89.3 ± 4.2 % by single-task classifiers, "
    "87.1 ± 7.9 % by a fine-tuned RadFM (Fig. 9)."
)


def compare_models(
    settings: Mapping[str, Any], cases: Sequence[Case], held_out: Sequence[Case], context: Context, source: str
) -> Report:
    """Train one prompted model for all questions and a classifier for each, and judge their answers.

    Args:
        held_out: cases of subjects that no case of `cases` shows.
        source: what the images are, for the report.
    """
    config = config_from_dict(settings["network"])
    held_out = balanced(held_out)
    language = LanguageConfig(**settings["language"], encoding_size=config.encoding_size)
    prompted = fit_prompted(config, cases, context, PromptedFit(language, **settings["prompted"]))
    right: dict[str, dict[str, list[float]]] = {}
    answered: dict[str, dict[str, list[str]]] = {}
    trained, judged = by_question(cases), by_question(held_out)
    for question, asked in judged.items():
        classifier = fit_classifier(config, trained[question], ClassifierFit(**settings["classifier"]))
        answers = {
            "prompted": prompted.answers(asked),
            "classifier": [classifier.classify(case.images) for case in asked],
        }
        answered[question] = {"expected": [case.answer for case in asked], **answers}
        right[question] = {
            name: [float(given == case.answer) for given, case in zip(found, asked, strict=True)]
            for name, found in answers.items()
        }
    rows = [_row(question, right[question], judged[question]) for question in right]
    rows.append(_mean_row(right))
    bars = Bars(
        ("mean", *right),
        {
            name: [summarise([float(np.mean(right[question][name])) for question in right])]
            + [summarise(right[question][name]) for question in right]
            for name in ("prompted", "classifier")
        },
        "exact answers",
    )
    notes = (
        f"{len(held_out)} held-out cases, every answer of a question as often as any other; {len(cases)} cases for "
        f"training. {source}",
        "Prompted: the agent as it is used writes a step that encodes the images, reads ε and answers; one model for "
        "all five questions. An answer counts if its words are exactly those expected.",
        "Classifier: m's encoder with a global maximum over space and over the volumes and a linear softmax, one "
        "trained for each question (appendix D), with the same cases, and as many of its question as the prompted "
        "model saw of all five.",
    )
    return Report(
        "characterisation",
        "Characterisation of lesions in words (Fig. 9, appendix D)",
        PAPER,
        ("question", "answers", "cases", "prompted (%)", "classifier (%)", "by chance (%)", "paired test"),
        tuple(rows),
        notes,
        {f"{part} {key}": value for part in settings for key, value in settings[part].items()},
        {"right": right, "answers": answered},
        bars,
    )


def _row(question: str, right: Mapping[str, Sequence[float]], cases: Sequence[Case]) -> tuple[str, ...]:
    counts = Counter(case.answer for case in cases)
    return (
        question,
        str(len(counts)),
        str(len(cases)),
        summarise(right["prompted"]).percent(),
        summarise(right["classifier"]).percent(),
        f"{100 * max(counts.values()) / len(cases):.0f}",
        compare(right["prompted"], right["classifier"]).verdict(),
    )


def _mean_row(right: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, ...]:
    means = {name: [float(np.mean(right[question][name])) for question in right] for name in ("prompted", "classifier")}
    return (
        "**mean**",
        "",
        "",
        summarise(means["prompted"]).percent(),
        summarise(means["classifier"]).percent(),
        "",
        compare(means["prompted"], means["classifier"]).verdict(),
    )
