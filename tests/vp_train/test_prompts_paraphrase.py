"""Templates in other words: what is asked stays the same, slots stay whole, and held-out templates are never made."""

from __future__ import annotations

import random
import re

import pytest

from vp_train.prompts.data import frames, task_names
from vp_train.prompts.expansion import SLOT, draw_template, templates
from vp_train.prompts.paraphrase import attribute_of, keywords, paraphrased


@pytest.mark.parametrize(
    ("phrase", "parts"),
    [
        ("volume of the {roi}", ("volume", "{roi}")),
        ("{change} in {axis} of the {roi}", ("{change} in {axis}", "{roi}")),
        ("{asymmetry} of {bilateral}", ("{asymmetry}", "{bilateral}")),
        ("{volume} of the {roi} {when}", None),
        ("ratio of the {roi} to the {other}", None),
        ("{percentage} of the {whole} that is {roi}", None),
    ],
)
def test_a_property_of_one_region_is_told_from_it(phrase: str, parts: tuple[str, str] | None) -> None:
    assert attribute_of(phrase) == parts


def test_other_words_leave_the_slots_of_a_template_as_they_are() -> None:
    template = "could you {measure} how large the {roi} is {since} and give me the {volume}"
    found = {paraphrased(template, random.Random(seed)) for seed in range(300)}
    assert len(found) > 20
    for text in found:
        assert sorted(SLOT.findall(text)) == sorted(SLOT.findall(template))
        assert text.count("{") == text.count("}") == 4


def test_keywords_hold_every_word_that_matters_once() -> None:
    for seed in range(50):
        words = re.findall(r"\{\w+\}|\w+", keywords("mean {intensity} value", "{roi}", random.Random(seed)))
        assert sorted(words) == ["mean", "value", "{intensity}", "{roi}"]


@pytest.mark.requirement("held-out phrasings are never trained on")
@pytest.mark.parametrize("task", task_names())
def test_no_template_in_other_words_is_a_held_out_one(task: str) -> None:
    kept = set(templates(True)[task])
    assert not {draw_template(task, random.Random(seed)) for seed in range(1500)} & kept


def test_every_frame_that_tells_the_region_apart_has_both_places() -> None:
    assert all("{t}" in frame and "{a}" in frame for frame in frames()["topics"])
