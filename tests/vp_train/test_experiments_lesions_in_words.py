"""The five questions of appendix D, asked of a checkpoint that measures."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from tests.vp_model.test_vision_lesions import finder
from tests.vp_train.lesion_heads import whole_head
from vp_model.vision.finding import shown_in
from vp_model.vision.sight import Sight
from vp_train.datasets.labels import load_labels
from vp_train.experiments.characterisation.cases import lesion_context
from vp_train.experiments.characterisation.measured import TEMPLATES, WAYS, _report, measured_case, told, wanted_cases
from vp_train.experiments.characterisation.studies import plain_settings, single_lesions, volumes_of
from vp_train.experiments.commands import EXPERIMENTS, settings_of
from vp_train.synthesis.lesions.anatomy import anatomy_of
from vp_train.synthesis.planning import StudyPlan
from vp_train.synthesis.study import render_study

STUDY = {"protocols": ["tumour", "stroke"], "finest_mm": 4.0, "maximum_images": 4, "kinds": ["glioma", "acute infarct"]}


def plans(count: int) -> list[StudyPlan]:
    head = whole_head()
    drawn = single_lesions(plain_settings(STUDY), [head], [anatomy_of(head)], load_labels(), 5)
    return [plan for plan in islice(drawn, count) if plan is not None]


@pytest.mark.requirement("Appendix D: signal, location, territory, restriction and enhancement, exactly answered")
def test_a_question_calls_the_lesion_a_lesion_and_expects_what_was_drawn() -> None:
    context, chance = lesion_context(held_out=True), random.Random(1)
    asked: Counter[str] = Counter()
    for plan in plans(16):
        (lesion,) = plan.scene.lesions
        side = f"{lesion.side} " if lesion.side in ("left", "right") else ""
        expected = {
            "location": f"{side}{lesion.lobe}",
            "territory": f"{lesion.territory} territory",
            "restriction": "restricted diffusion" if lesion.restricted else "no restricted diffusion",
            "enhancement": "enhancing" if lesion.enhancing else "not enhancing",
        }
        for question in TEMPLATES:
            case = measured_case(plan, question, context, chance)
            if case is None:
                continue
            asked[question] += 1
            assert lesion.structure not in case.prompt.lower()  # any kind is a lesion, whatever it is
            if question == "signal":
                words = {lesion.signal[volume.kind] for volume in plan.scene.volumes if volume.kind in lesion.signal}
                assert case.answer.replace("dense", "intense") in words
            else:
                assert case.answer == expected[question]
    assert set(asked) == {*TEMPLATES}


def test_every_answer_is_asked_for_as_often_as_wanted_of_studies_in_which_lesions_are_looked_for() -> None:
    head = whole_head()
    settings: dict[str, Any] = {
        "studies": 60,
        "per_answer": 2,
        "study": STUDY,
        "answers": {"signal": ["hyperintense", "hypointense"], "location": ["left frontal lobe"]},
    }
    counts: Counter[tuple[str, str]] = Counter()
    for plan, cases in wanted_cases(settings, [head], [anatomy_of(head)], ("FLAIR",)):
        assert "FLAIR" in {volume.kind for volume in plan.scene.volumes}
        assert plan.scene.lesions[0].volume_mm3 >= 500
        counts.update((case.question, case.answer) for case in cases)
    assert {key: counts[key] for key in counts if key[0] == "signal"} == {
        ("signal", "hyperintense"): 2,
        ("signal", "hypointense"): 2,
    }
    assert set(counts.values()) <= {1, 2}


def test_who_is_told_the_lesion_finds_it_where_it_is() -> None:
    study = render_study(next(plan for plan in plans(12) if "FLAIR" in {v.kind for v in plan.scene.volumes}))
    volumes = volumes_of(study)
    one = finder()
    named = MappingProxyType({volume.name: volume for volume in volumes})
    sight = told(Sight(one.vision, named, {}, one.cache, lesions=one), study)
    assert sight.lesions is not None
    found = sight.lesions.find("lesion", volumes, torch.zeros(1, len(volumes), 32))
    shown = shown_in(one.shows["lesion"], [(volume.session, volume.kind) for volume in volumes])
    assert shown
    for index, mask in enumerate(found):
        truth = study.lesion_target(index, study.scene.lesions) >= 0.5
        assert torch.equal(mask > 0, truth if index in shown else torch.zeros_like(truth))
    assert any(bool(mask.any()) for mask in found)


def test_every_answer_of_a_question_counts_the_same_however_often_it_was_asked_for() -> None:
    right = {
        ("signal", "hyperintense"): {WAYS[0]: [1.0, 1.0, 1.0, 0.0], WAYS[1]: [1.0] * 4},
        ("signal", "hypointense"): {WAYS[0]: [0.0], WAYS[1]: [1.0]},
        ("territory", "middle cerebral artery territory"): {WAYS[0]: [1.0], WAYS[1]: [0.0]},
    }
    settings = {**settings_of("lesions-in-words", "small"), "studies": 1}
    report = _report(right, [], settings, None)
    rows = {row[0]: row for row in report.rows}
    assert rows["signal"][2:5] == ("5", "37.5", "100.0")
    assert rows["territory"][2:5] == ("1", "100.0", "0.0")
    assert rows["**mean**"][3:5] == ("68.8", "50.0")
    assert "lesions-in-words" in EXPERIMENTS and report.name == "lesions-in-words"


def test_settings_at_both_scales_ask_the_same_answers() -> None:
    small, full = (settings_of("lesions-in-words", scale) for scale in ("small", "full"))
    assert small["answers"] == full["answers"] == settings_of("characterisation", "full")["answers"]
    assert set(small["answers"]) == {*TEMPLATES}


def test_a_checkpoint_without_lesions_is_told_so(tmp_path: Path) -> None:
    import json
    import shutil

    from vp_model.checkpoint import BUNDLED
    from vp_train.experiments.characterisation.measured import run

    shutil.copytree(BUNDLED, tmp_path / "weights")
    path = tmp_path / "weights" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["lesions"] = None
    config["structures"] = [item for item in config["structures"] if item["name"] != "lesion"]
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="does not find lesions of all kinds"):
        run(settings_of("lesions-in-words", "small"), [], [], tmp_path / "weights")
