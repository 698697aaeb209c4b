"""Prompts and target programs of every task."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_model.ontology import load_ontology
from vp_model.program.environment import initial_known, region_targets
from vp_model.program.inspection import inspect_program
from vp_model.program.vocabulary import TASKS
from vp_train.prompts.expansion import as_people_write, expand, slots, templates
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples
from vp_train.tasks.scene import Example, Scene

REGIONS = ("left hippocampus", "right hippocampus", "left thalamus", "right thalamus", "brainstem", "brain")


def drawn(count: int, seed: int = 3, held_out: bool = False) -> list[Example]:
    return list(islice(examples(make_context(REGIONS, held_out), seed), count))


@pytest.mark.requirement("target programs of all tasks parse and call only what exists")
@pytest.mark.parametrize("held_out", [False, True])
def test_every_target_program_is_valid(held_out: bool) -> None:
    targets = region_targets(load_ontology(), REGIONS)
    for example in drawn(800, held_out=held_out):
        known = initial_known(example.scene.volumes, targets)
        inspection = inspect_program(example.program, known, targets)
        assert inspection.refusal or inspection.task in TASKS


def test_every_task_that_these_weights_serve_is_drawn() -> None:
    served = set(TASKS) - {"location", "enhancement", "diffusion restriction", "signal intensity"}
    assert served <= {example.task for example in drawn(800)}


def test_a_change_is_refused_when_there_is_one_session() -> None:
    for example in drawn(1500):
        if example.task in ("volume change", "extent change", "intensity change") and not example.scene.longitudinal:
            assert example.program == 'refuse("missing session")\n'


def test_the_same_seed_draws_the_same_examples() -> None:
    assert drawn(50, seed=9) == drawn(50, seed=9)
    assert drawn(50, seed=9) != drawn(50, seed=10)


def test_held_out_templates_and_synonyms_are_never_trained_on() -> None:
    for task, held in templates(True).items():
        assert not set(held) & set(templates(False)[task])
    for name, held in slots(True).items():
        assert not {word for word in held if word} & set(slots(False)[name]), name


def test_unknown_terms_of_both_sets_differ() -> None:
    assert not set(make_context(REGIONS).unknown) & set(make_context(REGIONS, held_out=True).unknown)


def test_sessions_are_in_order_of_their_dates() -> None:
    for example in drawn(200):
        scene: Scene = example.scene
        visits = [volume.visit for volume in scene.volumes]
        assert visits == sorted(visits)
        assert [volume.name for volume in scene.volumes] == [f"v{n}" for n in range(1, len(visits) + 1)]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100)
def test_no_slot_is_left_open(seed: int) -> None:
    chance = random.Random(seed)
    template = chance.choice(templates()["volume change"])
    text = as_people_write(expand(template, {"roi": "hippocampus"}, chance), chance)
    assert not set(text) & set("{}[]")
