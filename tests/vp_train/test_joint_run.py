"""A joint run: what it draws, how it is stopped, resumed and shared out, what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.vp_train import joint_runs
from tests.vp_train.heads import head
from vp_model.agent import Agent
from vp_model.checkpoint import open_checkpoint
from vp_model.language.tokens import load_tokenizer
from vp_model.volume import Volume
from vp_train.datasets.labels import load_labels
from vp_train.joint.drawing import Source, learned_regions
from vp_train.joint.engine import CHECKPOINT_FOLDER, train
from vp_train.joint.examples import JointExample
from vp_train.joint.export import export_checkpoint
from vp_train.joint.plateau import Plateau
from vp_train.joint.recipe import find_joint_recipe, recipe_from_dict
from vp_train.joint.recording import Recorder, outlines
from vp_train.joint.run import train_joint
from vp_train.joint.state import (
    STATE_FILE,
    JointState,
    begin_run,
    new_state,
    resume_state,
    save_state,
    state_from_checkpoint,
)
from vp_train.joint.validation import Judged, judge, summarise
from vp_train.synthesis.lesions.anatomy import anatomy_of


def run(
    state: JointState, folder: Path, most_examples: int | None, source: Source | None = None, minutes: float = 5.0
) -> None:
    folder.mkdir(exist_ok=True)
    begin_run(state, folder)
    training = source or joint_runs.source(state.recipe)
    with Recorder(folder, minutes) as recorder:
        train(
            state,
            training,
            replace(training, validation=True),
            Accelerator(cpu=True),
            folder,
            minutes,
            recorder,
            most_examples=most_examples,
        )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / STATE_FILE, weights_only=True)["model"]
    return found


def same_state(first: Path, second: Path) -> bool:
    """Bit by bit: weights, moments of the optimizer, plateau, counts."""
    one, other = (torch.load(folder / STATE_FILE, weights_only=True) for folder in (first, second))
    moments = [
        all(torch.equal(value, other["optimizer"]["state"][number][name]) for name, value in entry.items())
        for number, entry in one["optimizer"]["state"].items()
    ]
    return (
        all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
        and all(moments)
        and [one[name] for name in ("plateau", "updates", "validated")]
        == [other[name] for name in ("plateau", "updates", "validated")]
    )


@pytest.mark.requirement("Checkpoints resume bit-exactly, data order included")
def test_resumed_run_ends_at_the_state_of_an_uninterrupted_one(tmp_path: Path) -> None:
    run(joint_runs.state(), tmp_path / "straight", 10)
    run(joint_runs.state(), tmp_path / "broken", 6)
    assert not same_state(tmp_path / "straight", tmp_path / "broken")
    resumed = resume_state(joint_runs.RECIPE, tmp_path / "broken")
    assert resumed is not None
    assert resumed.examples == 6
    run(resumed, tmp_path / "broken", 10)
    assert same_state(tmp_path / "straight", tmp_path / "broken")


@dataclass(frozen=True, eq=False)
class Interrupting(Source):
    """Asks its own process to stop when it draws an example."""

    at: int = 0

    def draw(self, index: int) -> JointExample:
        if index == self.at and not self.validation:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().draw(index)


@pytest.mark.requirement("A signal ends a run gracefully")
def test_sigterm_saves_what_was_learned_and_loses_nothing(tmp_path: Path) -> None:
    recipe = replace(joint_runs.RECIPE, validate_every=100)
    plain = joint_runs.source(recipe)
    source = Interrupting(plain.people, plain.regions, plain.tokenizer, recipe, plain.positions, at=7)
    before = signal.getsignal(signal.SIGTERM)
    run(joint_runs.state(recipe), tmp_path / "stopped", 200, source)
    assert signal.getsignal(signal.SIGTERM) is before
    stopped = resume_state(recipe, tmp_path / "stopped")
    assert stopped is not None
    assert 0 < stopped.examples <= 8
    assert open_checkpoint(tmp_path / "stopped" / CHECKPOINT_FOLDER).regions == joint_runs.REGIONS
    run(stopped, tmp_path / "stopped", 12)
    run(joint_runs.state(recipe), tmp_path / "straight", 12)
    assert same_state(tmp_path / "straight", tmp_path / "stopped")


def test_file_named_stop_ends_a_run(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    state = joint_runs.state()
    run(state, tmp_path, None)
    assert state.examples == 0
    assert (tmp_path / STATE_FILE).is_file()


@pytest.mark.requirement("A time budget is used to its end and not passed")
def test_time_budget_is_used_and_kept(tmp_path: Path) -> None:
    state = joint_runs.state(replace(joint_runs.RECIPE, validate_every=100_000))
    started = time.monotonic()
    run(state, tmp_path, None, minutes=0.1)
    elapsed = time.monotonic() - started
    assert state.updates > 0
    assert 2.0 < elapsed < 9.0  # one example takes up to a second where the machine is busy
    assert state.seconds <= 6.0


def test_validation_that_does_not_fit_the_budget_is_made_up_for_when_resumed(tmp_path: Path) -> None:
    state = joint_runs.state()
    run(state, tmp_path, 4)
    assert state.validated == 4
    state.validated = 0  # as if that of 4 examples had not been finished
    save_state(state, tmp_path)
    resumed = resume_state(joint_runs.RECIPE, tmp_path)
    assert resumed is not None
    run(resumed, tmp_path, 6)
    assert resumed.validated == 4
    with (tmp_path / "validation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["examples"]) for row in rows] == [0, 4, 4]


def test_run_of_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    run(joint_runs.state(), tmp_path, 2)
    with pytest.raises(ValueError, match="another recipe"):
        resume_state(replace(joint_runs.RECIPE, rate=1.0), tmp_path)
    assert resume_state(joint_runs.RECIPE, tmp_path / "absent") is None


def test_example_depends_on_recipe_and_number_alone() -> None:
    first, again, other = joint_runs.source().draw(4), joint_runs.source().draw(4), joint_runs.source().draw(5)
    assert first.prompt == again.prompt
    assert first.steps == again.steps
    assert all(torch.equal(one.features, two.features) for one, two in zip(first.images, again.images, strict=True))
    assert first.prompt != other.prompt
    held = replace(joint_runs.source(), validation=True).draw(4)
    assert held.prompt != first.prompt


def test_tasks_are_asked_of_the_images_that_a_study_has() -> None:
    recipe = replace(joint_runs.RECIPE, study=replace(joint_runs.STUDIES, several=1.0))
    source = joint_runs.source(recipe)
    found = [source.draw(index) for index in range(6)]
    for example in found:
        assert all(volume < len(example.images) for asked in example.passes for volume in asked.volumes)
        for asked in example.passes:
            assert [tuple(targets.shape[1:]) for targets in asked.targets] == [
                example.images[volume].shape for volume in asked.volumes
            ]
    assert any(len(example.images) > 1 for example in found)
    refused = [example for example in found if example.program.startswith("refuse")]
    assert all(not example.images for example in refused)


def test_rate_is_halved_after_patience_and_training_ends_after_four_halvings() -> None:
    plateau = Plateau(1e-4, patience=100, reductions=4)
    assert plateau.observe(0.5, 50)
    assert not plateau.observe(0.5, 100)
    assert plateau.current_rate == 1e-4
    assert not plateau.observe(0.4, 150)
    assert plateau.current_rate == 5e-5
    assert plateau.observe(0.6, 200)
    for examples, rate in ((300, 2.5e-5), (400, 1.25e-5), (500, 6.25e-6)):
        assert not plateau.observe(0.1, examples)
        assert plateau.current_rate == pytest.approx(rate)
    assert not plateau.observe(0.1, 590)
    assert not plateau.finished
    assert Plateau(**plateau.state()) == plateau
    plateau.observe(0.1, 600)
    assert plateau.finished
    assert plateau.current_rate == pytest.approx(6.25e-6)


def test_validation_counts_exact_programs_and_masks_that_are_there() -> None:
    model = joint_runs.state().model.eval()
    source = replace(joint_runs.source(), validation=True)
    example = next(found for found in map(source.draw, range(50)) if found.passes)
    with torch.no_grad():
        answer = model.answer(example)
    perfect = replace(
        answer,
        exact=True,
        logits=tuple(tuple((targets > 0.5).float() - 0.5 for targets in asked.targets) for asked in example.passes),
    )
    judged = judge(example, perfect)
    assert judged.dice and all(dice == 1.0 for _, dice in judged.dice)
    summary = summarise([judged, Judged(False, 2.0, [("brain", 0.5)])])
    assert summary.exact == 0.5
    assert summary.dice == pytest.approx((len(judged.dice) + 0.5) / (len(judged.dice) + 1))
    assert summary.accuracy == pytest.approx((summary.exact + summary.dice) / 2)


def learned(count: int) -> tuple[JointState, JointExample]:
    """A state that has learned one example by heart."""
    state = joint_runs.awake(joint_runs.state())
    source = replace(joint_runs.source(), validation=True)
    example = next(found for found in map(source.draw, range(50)) if found.passes and found.length < 120)
    for group in state.optimizer.param_groups:
        group["lr"] = 0.01
    for _ in range(count):
        state.optimizer.zero_grad(set_to_none=True)
        state.model(example).total.backward()
        state.optimizer.step()
    return state, example


@pytest.mark.requirement("An exported joint run is a checkpoint that answers")
def test_exported_checkpoint_loads_and_writes_the_program_that_was_learned(tmp_path: Path) -> None:
    state, example = learned(60)
    assert state.model.eval().answer(example).exact
    export_checkpoint(state, None, tmp_path / "checkpoint", "1.0")
    agent = Agent.load(tmp_path / "checkpoint")
    assert agent.identity.version == "1.0"
    source = replace(joint_runs.source(), validation=True)
    plan = source.plan(next(i for i in range(50) if source.draw(i).prompt == example.prompt))
    outcome = agent.plan(example.prompt, plan.scene.volumes)
    assert outcome.program == example.program
    volumes = [
        Volume(image.features[0], image.world, told.name, told.kind, None, told.session)
        for image, told in zip(example.images, plan.scene.volumes, strict=True)
    ]
    answer = agent.run(example.prompt, volumes)
    assert answer.transcript.steps


def test_run_begins_from_a_checkpoint_folder_and_answers_as_it_did(tmp_path: Path) -> None:
    state = joint_runs.awake(joint_runs.state())
    export_checkpoint(state, None, tmp_path / "checkpoint", "1.0")
    other = replace(joint_runs.RECIPE, vision="compact", language="compact")
    begun = state_from_checkpoint(other, (*joint_runs.REGIONS, "brainstem"), tmp_path / "checkpoint")
    assert begun.regions == (*joint_runs.REGIONS, "brainstem")
    example = next(found for found in map(joint_runs.source().draw, range(50)) if found.passes)
    before, after = state.model(example), begun.model(example)
    assert float(after.cross_entropy) == pytest.approx(float(before.cross_entropy), rel=1e-2)
    assert float(after.dice) == pytest.approx(float(before.dice), abs=0.01)
    run(begun, tmp_path / "run", 2)
    resumed = resume_state(other, tmp_path / "run")
    assert resumed is not None
    assert resumed.model.vision.config == state.model.vision.config


def test_networks_whose_encodings_do_not_fit_are_refused() -> None:
    recipe = replace(joint_runs.RECIPE, vision={**joint_runs.VISION, "encoding_size": 7})
    with pytest.raises(ValueError, match="encodes volumes in 7 numbers"):
        new_state(recipe, joint_runs.REGIONS, joint_runs.tokenizer())


def test_best_checkpoint_says_how_well_each_structure_was_found(tmp_path: Path) -> None:
    recipe = replace(joint_runs.RECIPE, validation_examples=8, validate_every=2)
    run(joint_runs.state(recipe), tmp_path, 2)
    checkpoint = open_checkpoint(tmp_path / CHECKPOINT_FOLDER)
    assert checkpoint.regions == joint_runs.REGIONS
    assert all(item.experimental for item in checkpoint.structures if item.dice is None)
    assert "held-out subjects: exact programs" in checkpoint.card
    assert any((tmp_path / "tensorboard").iterdir())
    with (tmp_path / "validation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["examples"]) for row in rows] == [0, 2]
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)


def test_outlines_are_drawn_where_target_and_mask_end() -> None:
    target = np.zeros((8, 8, 4), bool)
    target[2:6, 2:6, 1] = True
    found = np.zeros_like(target)
    picture = outlines(np.zeros(target.shape, np.float32), target, found)
    assert picture.shape == (256, 256, 3)
    green = picture[..., 1] > 0.5
    assert green[64:192, 64:192].any() and not green[:64].any()
    assert not green[100:150, 100:150].any()  # inside


@pytest.mark.parametrize("name", ["paper", "slim", "tiny"])
def test_bundled_recipes_build(name: str) -> None:
    recipe = find_joint_recipe(name)
    assert recipe_from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.vision_config.encoding_size == recipe.language_config.encoding_size
    assert recipe.segmentation_weight == 0.1


def test_recipe_of_the_paper_has_the_papers_numbers() -> None:
    recipe = find_joint_recipe("paper")
    found = (recipe.rate, recipe.accumulation, recipe.patience, recipe.reductions, recipe.voxelwise, recipe.clip)
    assert found == (1e-4, 10, 100_000, 4, 0.0, 0.0)
    assert recipe.vision_config.channels == (32, 96, 96, 96, 96, 96)
    with pytest.raises(ValueError, match="paper"):
        find_joint_recipe("huge")


def write_data(folder: Path) -> None:
    """Two made-up heads as label maps, one of them a held-out subject."""
    folder.mkdir()
    labels = load_labels()
    first_id = np.zeros(256, np.int16)
    for number in range(len(labels.from_id) - 1, -1, -1):
        first_id[labels.from_id[number]] = number
    ids = first_id[head().labels.numpy()]
    for name in ("synthseg_01", "synthseg_19"):
        nibabel.save(nibabel.Nifti1Image(ids, np.eye(4)), folder / f"{name}_seg.nii.gz")


@pytest.mark.requirement("Training over several processes equals training in one")
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    tokens = tmp_path / "tokens.json"
    joint_runs.tokenizer().save(str(tokens))
    recipe = replace(joint_runs.RECIPE, accumulation=4, validate_every=4)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.as_dict()), encoding="utf-8")

    train_joint(recipe, tmp_path / "data", tmp_path / "one", 4, None, tokens, most_examples=4, cpu=True)
    options = "--data data --out two --recipe recipe.json --tokenizer tokens.json --minutes 4 --examples 4 --threads 1"
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2 -m vp_train.cli joint --cpu"
    together = subprocess.run(
        [sys.executable, *launcher.split(), *options.split()],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert together.returncode == 0, together.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    begun = new_state(recipe, learned_regions(recipe), load_tokenizer(tokens)).model.state_dict()
    moved = 0.0
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-3, msg=name)
        moved = max(moved, float((value - begun[name]).abs().max()))
    assert moved > 1e-3
    rows = [
        list(csv.DictReader((tmp_path / out / "validation.csv").read_text().splitlines())) for out in ("one", "two")
    ]
    assert [int(row["examples"]) for row in rows[0]] == [0, 4]
    for mine, theirs in zip(*rows, strict=True):
        assert float(mine["dice"]) == pytest.approx(float(theirs["dice"]), abs=1e-3)


def test_studies_with_lesions_are_asked_about_them_and_answered_from_encodings() -> None:
    study = replace(joint_runs.STUDIES, lesioned=1.0, kinds=("glioma", "white matter lesion"))
    recipe = replace(joint_runs.RECIPE, study=study, described=1.0)
    regions = learned_regions(recipe)
    assert {"glioma", "white matter lesion", "left hippocampus"} <= set(regions)
    source = replace(joint_runs.source(recipe, regions), people=[(head(), anatomy_of(head()))])
    # Not every made-up head has room for a lesion: the search begins where there is one.
    encoded = next(found for found in map(source.draw, range(2, 40)) if len(found.steps) == 2)
    assert encoded.steps[0].encodings
    shown = next(
        found for found in map(source.draw, range(8, 40)) if any("glioma" in asked.regions for asked in found.passes)
    )
    assert any(float(targets.sum()) > 1 for asked in shown.passes for targets in asked.targets)
    model = joint_runs.state(recipe).model
    assert all(bool(torch.isfinite(model(example).total)) for example in (encoded, shown))


def test_a_recipe_may_learn_a_few_structures_alone() -> None:
    few = replace(joint_runs.RECIPE, structures=("hippocampus", "brainstem"))
    assert learned_regions(few) == ("left hippocampus", "right hippocampus", "brainstem")
    assert recipe_from_dict(json.loads(json.dumps(few.as_dict()))) == few


def test_what_is_never_drawn_is_not_promised() -> None:
    assert "white matter lesion" not in learned_regions(joint_runs.RECIPE)
