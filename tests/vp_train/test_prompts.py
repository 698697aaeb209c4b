"""Templates, synonyms, names of sides, surroundings and slips of the finger."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_model.ontology import load_ontology
from vp_train.prompts.data import frames, phrases, read_part, slots, task_names
from vp_train.prompts.expansion import SLOT, as_people_write, expand, templates
from vp_train.prompts.naming import plural, written
from vp_train.prompts.noise import mistyped, with_noise
from vp_train.prompts.surroundings import surrounded

FILES = ("slots.json", "frames.json", "sides.json", "surroundings.json", "selections.json", "parts.json")


@pytest.mark.parametrize("name", FILES)
def test_held_out_synonyms_and_frames_are_never_trained_on(name: str) -> None:
    trained = read_part(name, False)
    for slot, kept in read_part(name, True).items():
        same = {text.strip() for text in kept} & {text.strip() for text in trained[slot]}
        assert not same or (name == "sides.json" and slot == "plain"), slot


@pytest.mark.parametrize("task", task_names())
def test_held_out_templates_are_never_trained_on(task: str) -> None:
    trained = {text for texts in phrases(task).values() for text in texts}
    kept = {text for texts in phrases(task, True).values() for text in texts}
    assert len(kept) >= 8
    assert len(trained) >= 30
    assert not kept & trained
    assert not set(templates(True)[task]) & set(templates()[task])


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("held_out", [False, True])
def test_every_slot_of_a_template_has_synonyms_or_comes_from_its_task(task: str, held_out: bool) -> None:
    from_tasks = {"roi", "other", "whole", "bilateral", "axis", "adjective", "stretched", "kind", "margin"}
    from_tasks |= {"nonsense", "condition", "mash", "pathology", "place", "bright", "statistic", "when", "plane"}
    from_tasks |= {"part", "rest", "date", "later date", "elsewhere"}
    for texts in phrases(task, held_out).values():
        for text in texts:
            assert set(SLOT.findall(text)) <= {*slots(), *from_tasks}, text


def test_every_frame_has_the_place_of_its_phrase() -> None:
    for held_out in (False, True):
        for form, place in (("nouns", "{n}"), ("clauses", "{c}"), ("commands", "{v}")):
            assert all(place in frame for frame in frames(held_out)[form])


@given(seed=st.integers(0, 10**6))
@settings(max_examples=200)
def test_no_slot_is_left_open(seed: int) -> None:
    chance = random.Random(seed)
    template = chance.choice(templates()["volume change"])
    text = as_people_write(
        expand(template, {"roi": "hippocampus", "date": "2023-01-05", "later date": "2024-02-06"}, chance), chance
    )
    assert not set(text) & set("{}[]")
    assert text.strip()


@given(seed=st.integers(0, 10**6), side=st.sampled_from(["left", "right"]))
@settings(max_examples=100)
def test_a_side_is_always_written_and_never_the_other(seed: int, side: str) -> None:
    ontology = load_ontology()
    name = written(ontology.structures["putamen"], side, random.Random(seed), held_out=bool(seed % 2))  # type: ignore[arg-type]
    words = set(
        name.replace("(", " ")
        .replace(")", " ")
        .replace("-", " ")
        .replace(":", " ")
        .replace("hand", " ")
        .replace(",", " ")
        .replace(".", " ")
        .split()
    )
    other = "right" if side == "left" else "left"
    assert words & {side, side[0], f"{side[0]}t"}
    assert not words & {other, other[0], f"{other[0]}t"}


def test_plurals_are_those_that_the_ontology_recognises() -> None:
    ontology = load_ontology()
    for structure in ontology.structures.values():
        for term in structure.terms:
            found = ontology.find(plural(term, structure))
            assert found is not None
            assert plural(term, structure) == term or found.name == structure.name
    assert plural("thalamus", ontology.structures["thalamus"]) == "thalami"
    assert plural("third ventricle", ontology.structures["third ventricle"]) == "third ventricle"


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100)
def test_slips_spare_numbers_and_short_words(seed: int) -> None:
    chance = random.Random(seed)
    text = "crop 35 mm on t1 left right flair hippocampus"
    typed = mistyped(text, chance)
    assert typed.split()[:7] == text.split()[:7]
    assert abs(len(typed) - len(text)) <= 1


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100)
def test_noise_and_surroundings_keep_what_is_asked(seed: int) -> None:
    chance = random.Random(seed)
    around = surrounded("segment the left caudate", chance, modality="MR")
    assert "segment the left caudate" in around.text
    assert not set(around.text) & set("{}")
    assert around.context in around.text or not around.context
    assert with_noise(around.text, chance).strip()
