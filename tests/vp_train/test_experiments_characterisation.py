"""Characterisation: cases with their answers, the classifier, and the agent that answers from what m encodes."""

from __future__ import annotations

import copy
import random
from collections import Counter
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
import torch

from tests.vp_train.heads import head
from vp_model.language.config import LanguageConfig
from vp_model.outcome import InputVolume
from vp_model.vision.config import config_from_dict
from vp_model.volume import Volume
from vp_train.experiments.characterisation.cases import (
    QUESTIONS,
    Case,
    ShownStudy,
    ask,
    balanced,
    by_question,
    draw_cases,
    draw_evenly,
    lesion_context,
)
from vp_train.experiments.characterisation.classifier import Classifier, ClassifierFit, fit_classifier
from vp_train.experiments.characterisation.comparison import compare_models
from vp_train.experiments.characterisation.experiment import studies
from vp_train.experiments.characterisation.prompted import PromptedFit, fit_prompted
from vp_train.experiments.commands import settings_of
from vp_train.synthesis.lesions.anatomy import anatomy_of
from vp_train.tasks.scene import Lesion, Scene

SPACING_MM = 8.0
SIZE = 16
CONTEXT = lesion_context()
KINDS = ("FLAIR", "DWI", "ADC", "T1", "T1+C")
ANSWERS = {
    "signal": ["hyperintense", "hypointense"],
    "location": ["left frontal lobe", "right frontal lobe"],
    "territory": ["middle cerebral artery territory"],
    "restriction": ["restricted diffusion", "no restricted diffusion"],
    "enhancement": ["enhancing", "not enhancing"],
}


def study(seed: int) -> ShownStudy:
    """A ball of a head with an infarct that is bright or dark."""
    chance = random.Random(seed)
    bright, enhancing, restricted = (chance.random() < 0.5 for _ in range(3))
    side = "left" if chance.random() < 0.5 else "right"
    lesion = Lesion(
        "infarct",
        side=side,  # type: ignore[arg-type]
        lobe="frontal lobe",
        territory="middle cerebral artery",
        volume_mm3=5000.0,
        signal={"FLAIR": "hyperintense" if bright else "hypointense"},
        enhancing=enhancing,
        restricted=restricted,
    )
    inputs = tuple(InputVolume(f"v{n}", kind, "2024-01-05", 0) for n, kind in enumerate(KINDS, 1))
    middle = (SIZE - 1) / 2
    x, y, z = np.indices((SIZE, SIZE, SIZE)) - middle
    inside = x**2 + y**2 + z**2 < 49
    ball = (x - (-3 if side == "left" else 3)) ** 2 + (y - 3) ** 2 + z**2 < 5
    shifts = {
        "FLAIR": 60 if bright else -60,
        "DWI": 60 if restricted else 0,
        "ADC": -60 if restricted else 30,
        "T1": -20,
        "T1+C": 60 if enhancing else -20,
    }
    world = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    world[:3, 3] = -SPACING_MM * middle
    grain = np.random.default_rng(seed)
    volumes = []
    for item in inputs:
        voxels = inside * (100 + grain.normal(0, 4, inside.shape)) + (inside & ball) * shifts[item.kind]
        features = torch.from_numpy(voxels.astype(np.float32))[None]
        volumes.append(Volume(features, world, item.name, item.kind, date(2024, 1, 5), 0))
    return ShownStudy.of(Scene(inputs, (lesion,)), volumes, SPACING_MM)


def settings() -> dict[str, Any]:
    values = copy.deepcopy(settings_of("characterisation", "small"))
    values["network"].update(channels=[4, 8, 8], interaction_size=8, working_spacing_mm=SPACING_MM)
    values["language"].update(layers=1, hidden_size=32, linear_size=32, heads=2)
    values["prompted"].update(vocabulary=400, warm_up=30, steps=8, batch=4, rate=0.01)
    values["classifier"].update(steps=2, batch=2)
    return values


def cases(per_answer: int = 3, seed: int = 0) -> list[Case]:
    return draw_cases((study(seed + number) for number in range(40)), ANSWERS, per_answer, CONTEXT, 1)


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_each_question_expects_what_is_known_of_the_lesion(question: str) -> None:
    for seed in range(8):
        shown = study(seed)
        (lesion,) = shown.scene.lesions
        case = ask(shown, question, CONTEXT, random.Random(seed))
        assert case is not None
        expected = {
            "signal": lesion.signal["FLAIR"],
            "location": f"{lesion.side} frontal lobe",
            "territory": "middle cerebral artery territory",
            "restriction": "restricted diffusion" if lesion.restricted else "no restricted diffusion",
            "enhancement": "enhancing" if lesion.enhancing else "not enhancing",
        }
        assert case.answer == expected[question]
        encoded = [KINDS[index] for index in case.encoded]
        wanted = {"signal": ["FLAIR"], "restriction": ["DWI", "ADC"], "enhancement": ["T1", "T1+C"]}
        assert encoded == wanted.get(question, list(KINDS))
        assert len(case.images) == len(encoded)


def test_cases_are_as_many_as_asked_and_balanced_by_the_rarest_answer() -> None:
    drawn = cases(4)
    counts = Counter((case.question, case.answer) for case in drawn)
    assert max(counts.values()) == 4
    assert set(counts) == {(question, answer) for question, answers in ANSWERS.items() for answer in answers}
    rare = next(case for case in drawn if case.answer == "enhancing")
    fewer = balanced([case for case in drawn if case.answer != "enhancing"] + [rare])
    kept = Counter(case.answer for case in fewer if case.question == "enhancement")
    assert kept == {"enhancing": 1, "not enhancing": 1}


def test_every_answer_of_every_question_is_drawn_as_often_as_any_other() -> None:
    drawn = cases(4)
    few = [case for case in drawn if case.answer != "enhancing"] + [c for c in drawn if c.answer == "enhancing"][:1]
    draw = draw_evenly(few, random.Random(1))
    found = Counter((case := draw()).question + " " + case.answer for _ in range(3000))
    assert found["enhancement enhancing"] == pytest.approx(300, abs=60)
    assert found["territory middle cerebral artery territory"] == pytest.approx(600, abs=80)


def test_the_classifier_takes_the_maximum_over_space_and_over_volumes() -> None:
    torch.manual_seed(0)
    config = config_from_dict({**settings()["network"], "interaction": "attention"})
    classifier = Classifier(config, ("one", "other")).eval()
    one, other = study(1).images[0].placed, study(2).images[0].placed
    with torch.inference_mode():
        both = classifier([one, other])
        assert torch.allclose(both, classifier([other, one]), atol=1e-5)
        nothing = torch.zeros(1, 2, config.condition_size)
        pooled = classifier.network.encodings(classifier.network.shared([one, other]), nothing)[0]
        assert pooled.shape == (2, config.channels[-1])
        assert torch.allclose(both, classifier.head(pooled.max(dim=0).values))
    assert classifier.classify([one]) in ("one", "other")


def test_a_classifier_answers_one_question_and_learns_it() -> None:
    with pytest.raises(ValueError, match="one question"):
        fit_classifier(config_from_dict(settings()["network"]), cases(1), ClassifierFit(1, 1, 0.1))
    asked = by_question(cases(4))["enhancement"]
    fitted = fit_classifier(config_from_dict(settings()["network"]), asked, ClassifierFit(40, 4, 0.01))
    assert np.mean([fitted.classify(case.images) == case.answer for case in asked]) > 0.8


def test_the_agent_learns_to_answer_from_what_m_encodes() -> None:
    """Two studies, one prompt: nothing but ε tells which answer is right."""
    asked = by_question(cases(1))["enhancement"]
    asked = [replace(case, example=replace(asked[0].example, later=case.example.later)) for case in asked]
    config = config_from_dict({**settings()["network"], "encoding_size": 16})
    language = LanguageConfig(1, 32, 32, 2, encoding_size=16)
    fitted = fit_prompted(config, asked, CONTEXT, PromptedFit(language, 400, 25, 160, 8, 0.01, 0.02, seed=2))
    assert fitted.answers(asked) == [case.answer for case in asked]
    assert {case.answer for case in asked} == {"enhancing", "not enhancing"}


def test_both_models_are_judged_on_the_same_held_out_cases() -> None:
    used = {key: value for key, value in settings().items() if key in ("network", "language", "prompted", "classifier")}
    report = compare_models(used, cases(2), cases(1, seed=500), CONTEXT, "Balls.")
    assert [row[0] for row in report.rows] == [*ANSWERS, "**mean**"]
    for question, found in report.values["answers"].items():
        assert len(found["prompted"]) == len(found["classifier"]) == len(found["expected"])
        assert set(found["classifier"]) <= set(ANSWERS[question])


def test_studies_of_the_experiment_show_one_lesion_of_known_look() -> None:
    values = settings()
    values["study"].update(finest_mm=8.0)
    shown = list(studies(values, [head()], [anatomy_of(head())], 6, 5))
    assert shown
    for item in shown:
        assert len(item.scene.lesions) == 1
        assert [volume.name for volume in item.volumes] == list(item.scene.names)
        assert all(image.placed.features.shape[:2] == (1, 1) for image in item.images)
