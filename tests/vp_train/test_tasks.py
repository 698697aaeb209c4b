"""Prompts and target programs of every task."""

from __future__ import annotations

from itertools import islice

import pytest

from vp_model.ontology import load_ontology
from vp_model.program.environment import initial_known, region_targets
from vp_model.program.inspection import inspect_program
from vp_model.program.vocabulary import TASKS
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


def test_unknown_terms_of_both_sets_differ() -> None:
    assert not set(make_context(REGIONS).unknown) & set(make_context(REGIONS, held_out=True).unknown)


def test_sessions_are_in_order_of_their_dates() -> None:
    for example in drawn(200):
        scene: Scene = example.scene
        visits = [volume.visit for volume in scene.volumes]
        assert visits == sorted(visits)
        assert [volume.name for volume in scene.volumes] == [f"v{n}" for n in range(1, len(visits) + 1)]
