"""The experiment of appendix D on synthetic studies that show one lesion each (B.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.experiments.characterisation.cases import Case, ShownStudy, draw_cases, lesion_context
from vp_train.experiments.characterisation.comparison import compare_models
from vp_train.experiments.characterisation.studies import plain_settings, single_lesions, volumes_of
from vp_train.experiments.report import Report
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.study import render_study

TRAINING_SEED, HELD_OUT_SEED = 3_000_000, 4_000_000
SOURCE = "Images: synthetic studies of one session with a single lesion, drawn into label maps (B.6)."


def run(
    settings: Mapping[str, Any],
    subjects: Sequence[Subject],
    held_out: Sequence[Subject],
    anatomies: Sequence[Anatomy],
) -> Report:
    """Draw cases of both parts of the subjects, train, and judge.

    Args:
        anatomies: of the subjects, then of those held out.
    """
    context = lesion_context()
    drawn: list[list[Case]] = []
    for name, part, known, seed in (
        ("training", subjects, anatomies[: len(subjects)], TRAINING_SEED),
        ("judged", held_out, anatomies[len(subjects) :], HELD_OUT_SEED),
    ):
        amount = settings[name]
        shown = studies(settings, part, known, int(amount["studies"]), seed)
        drawn.append(draw_cases(shown, settings["answers"], int(amount["per_answer"]), context, seed))
    used = {key: settings[key] for key in ("network", "language", "prompted", "classifier")}
    return compare_models(used, drawn[0], drawn[1], context, SOURCE)


def studies(
    settings: Mapping[str, Any], subjects: Sequence[Subject], anatomies: Sequence[Anatomy], count: int, seed: int
) -> Iterator[ShownStudy]:
    """Studies that show exactly one lesion; `count` are drawn, those with more or none are passed over."""
    plans = single_lesions(plain_settings(settings["study"]), subjects, anatomies, load_labels(), seed)
    spacing_mm = settings["network"]["working_spacing_mm"]
    for plan in islice(plans, count):
        if plan is not None:
            study = render_study(plan)
            yield ShownStudy.of(study.scene, volumes_of(study), spacing_mm)
