"""Joint training from prepared real images: what is drawn, learned and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.vp_train import joint_runs
from tests.vp_train.prepared_heads import prepared_anatomy, prepared_tumours, subjects
from tests.vp_train.test_joint_run import run, same_state, weights, write_data
from vp_train.cli import app
from vp_train.joint.drawing import Source
from vp_train.joint.prepared import PreparedData, compare_cases, note_cases, read_prepared, with_prepared
from vp_train.joint.recipe import JointRecipe
from vp_train.joint.state import new_state, resume_state

RECIPE = replace(joint_runs.RECIPE, prepared_share=1.0, study=replace(joint_runs.STUDIES, budget_voxels=3000))
ANATOMY = {"thalamus", "lateral ventricle", "third ventricle", "putamen", "brainstem"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject with a tumour and one with its anatomy to train on, one of the latter to validate."""
    found = tmp_path_factory.mktemp("prepared")
    prepared_anatomy(found / "a", found / "out", subjects("nifti", "training", 1) + subjects("nifti", "validation", 1))
    prepared_tumours(found / "b", found / "out", subjects("brats_gli", "training", 1))
    return found / "out"


def data(folder: Path, recipe: JointRecipe = RECIPE) -> tuple[PreparedData, PreparedData]:
    return read_prepared(folder, recipe, torch.device("cpu"), None)


def source(folder: Path, recipe: JointRecipe = RECIPE) -> Source:
    real = data(folder, recipe)[0]
    return replace(joint_runs.source(recipe, with_prepared(joint_runs.REGIONS, real)), prepared=real)


def test_every_mask_that_is_asked_for_is_told_of_by_the_case(folder: Path) -> None:
    drawn = source(folder)
    regions: set[str] = set()
    for index in range(30):
        example = drawn.draw(index)
        for asked in example.passes:
            regions |= {region.removeprefix("left ").removeprefix("right ") for region in asked.regions}
            for volume, targets in zip(asked.volumes, asked.targets, strict=True):
                assert tuple(targets.shape[1:]) == example.images[volume].shape
                assert float(targets.min()) >= 0 and float(targets.max()) <= 1
    told = {name.removeprefix("left ").removeprefix("right ") for name in drawn.prepared.pool.regions}  # type: ignore[union-attr]
    assert regions <= told | {"resection cavity"}  # looked for by the readers of tumours, and not there
    assert regions & ANATOMY and regions & {"glioma", "edema", "necrosis", "enhancing tumor"}


def test_share_of_the_recipe_is_made_of_prepared_cases_and_the_rest_stays_as_it_was(folder: Path) -> None:
    half = source(folder, replace(RECIPE, prepared_share=0.5))
    assert half.prepared is not None
    real = [half.prepared.plan(half._seed(index), half.recipe, half.context) is not None for index in range(60)]
    assert 18 < sum(real) < 42
    # What is asked for is spared by sparsification: without it, another question changes no image.
    whole = replace(half.recipe, study=replace(half.recipe.study, sparsified=0.0))
    index = real.index(False)
    drawn, plain = source(folder, whole).draw(index), joint_runs.source(whole).draw(index)
    for one, two in zip(drawn.images, plain.images, strict=False):
        assert torch.equal(one.features, two.features)
    # What only real images show is never asked of synthetic ones.
    names = {structure.name for structure in half.drawn_context.structures}
    assert "glioma" not in names and "hippocampus" in names
    assert {"thalamus", "glioma"} <= {structure.name for structure in half.context.structures}


def test_validation_asks_of_the_subjects_for_validation(folder: Path) -> None:
    training, validation = data(folder)
    assert len(training.pool.places) == 2 and len(validation.pool.places) == 1
    assert not {place.folder for place in training.pool.places} & {place.folder for place in validation.pool.places}
    with pytest.raises(ValueError, match="no prepared case"):
        data(folder / "nowhere")


@pytest.mark.requirement("A run on prepared data resumes bit-exactly")
def test_run_on_prepared_cases_learns_and_resumes_to_the_bit(folder: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, validate_every=100, validation_examples=1)
    drawn = source(folder, recipe)

    def begun() -> joint_runs.JointState:
        return new_state(recipe, tuple(drawn.regions), joint_runs.tokenizer())

    run(begun(), tmp_path / "straight", 6, drawn)
    run(begun(), tmp_path / "broken", 4, drawn)
    assert not same_state(tmp_path / "straight", tmp_path / "broken")
    moved = [
        not torch.equal(value, begun().model.state_dict()[name]) for name, value in weights(tmp_path / "broken").items()
    ]
    assert any(moved)
    resumed = resume_state(recipe, tmp_path / "broken")
    assert resumed is not None and resumed.examples == 4
    run(resumed, tmp_path / "broken", 6, source(folder, recipe))
    assert same_state(tmp_path / "straight", tmp_path / "broken")


def test_run_does_not_go_on_with_other_cases(folder: Path, tmp_path: Path) -> None:
    note_cases(data(folder), tmp_path)
    compare_cases(data(folder), tmp_path)
    with pytest.raises(ValueError, match="other prepared cases"):
        compare_cases(None, tmp_path)
    compare_cases(None, tmp_path / "made before there were any")


def test_command_trains_on_prepared_data_and_its_checkpoint_knows_what_they_mark(folder: Path, tmp_path: Path) -> None:
    write_data(tmp_path / "labels")
    joint_runs.tokenizer().save(str(tmp_path / "tokens.json"))
    recipe = replace(RECIPE, validation_examples=1, validate_every=2)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.as_dict()), encoding="utf-8")
    options = f"--data {tmp_path}/labels --out {tmp_path}/run --recipe {tmp_path}/recipe.json --minutes 5 --cpu"
    options += f" --tokenizer {tmp_path}/tokens.json --prepared {folder} --prepared-share 0.75 --examples 2"
    result = CliRunner().invoke(app, ["joint", *options.split()])
    assert result.exit_code == 0, result.output
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert described["recipe"]["prepared_share"] == 0.75
    assert {"glioma", "left thalamus", "left hippocampus"} <= set(described["regions"])
    assert "2 prepared cases to train on, 1 to validate" in result.output
