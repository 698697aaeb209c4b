"""Training of the vision network: what a step does, resuming, export."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from tests.vp_train.heads import head
from tests.vp_train.lesion_heads import head_and_anatomy
from vp_model.vision import config as vision_config
from vp_model.vision.config import VisionConfig
from vp_model.vision.weights import load_vision
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.training import vision
from vp_train.training.condition import ConditionTable, read_table
from vp_train.training.examples import LesionSource, draw_example, lesions_from
from vp_train.training.loss import segmentation_loss, soft_dice, whole_map_loss
from vp_train.training.recipe import LesionDrawing, Recipe, Scale, bundled_recipe, read_recipe
from vp_train.training.vision import (
    NEW_SPREAD,
    Learner,
    averaged,
    begin_from,
    export,
    load_learner,
    new_learner,
    save_learner,
    train,
    train_step,
)

TINY = VisionConfig(
    (4, 8, 8), conditioning="readout", interaction_size=8, interaction_heads=2, encoding_size=5, reference="axis"
)
RECIPE = replace(
    read_recipe(bundled_recipe("compact")),
    preset="tiny",
    steps=6,
    mix=(Scale(6.0, None, 0.5), Scale(4.0, 40.0, 0.5)),
    several=0.3,
    corrupted=0.5,
)


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    known = vision_config.preset
    monkeypatch.setattr(vision, "preset", lambda name: TINY if name == "tiny" else known(name))


def steps(learner: Learner, count: int, recipe: Recipe = RECIPE) -> None:
    subjects = [head()]
    for _ in range(count):
        train_step(learner, subjects, recipe)


def same(first: Learner, second: Learner) -> bool:
    a, b = first.parameters(), second.parameters()
    return all(torch.equal(a[name], b[name]) for name in a) and all(
        torch.equal(first.average[name], second.average[name]) for name in a
    )


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_training_ends_at_the_weights_of_uninterrupted_training(tmp_path: Path, optimizer: str) -> None:
    recipe = replace(RECIPE, optimizer=optimizer)
    straight = load_learner(recipe, tmp_path / "none")
    steps(straight, 6, recipe)
    broken = load_learner(recipe, tmp_path)
    steps(broken, 3, recipe)
    save_learner(broken, tmp_path)
    resumed = load_learner(recipe, tmp_path)
    steps(resumed, 3, recipe)
    assert resumed.step == 6
    assert same(straight, resumed)
    assert not same(straight, broken)


def test_a_recipe_names_an_optimizer_that_there_is() -> None:
    with pytest.raises(ValueError, match="no optimizer 'sgd': adamw and muon"):
        replace(RECIPE, optimizer="sgd")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_reduces_the_loss_on_a_head(tmp_path: Path, optimizer: str) -> None:
    recipe = replace(RECIPE, several=0.0, steps=60, warmup=5, rate=0.01, optimizer=optimizer)
    learner = load_learner(recipe, tmp_path)
    steps(learner, 48, recipe)
    dice = [value for _, value in learner.recent]
    assert sum(dice[-12:]) > 1.25 * sum(dice[:12])


def test_training_stops_when_asked_and_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    learner = load_learner(RECIPE, tmp_path)
    train(learner, [head()], RECIPE, tmp_path, minutes=1.0)
    assert learner.step == 0
    (tmp_path / "stop").unlink()
    watched: list[int] = []
    train(learner, [head()], RECIPE, tmp_path, 1.0, lambda current: watched.append(current.step), watch_minutes=0.0)
    assert learner.step == RECIPE.steps
    assert watched == [1, 2, 3, 4, 5, 6]
    assert load_learner(RECIPE, tmp_path).step == RECIPE.steps


def test_training_curve_names_the_soft_dice_of_each_scale(tmp_path: Path) -> None:
    learner = load_learner(RECIPE, tmp_path)
    learner.recent += [(4.0, 0.2), (4.0, 0.4), (6.0, 0.5)]
    vision._note(learner, RECIPE, tmp_path)
    with (tmp_path / "curve.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["spacing_mm"]), float(row["soft_dice"])) for row in rows] == [(4.0, 0.3), (6.0, 0.5)]


def test_example_depends_on_recipe_and_step_alone() -> None:
    first = draw_example([head()], RECIPE, 4).images
    again = draw_example([head()], RECIPE, 4).images
    other = draw_example([head()], RECIPE, 5).images
    assert torch.equal(first[0].placed.features, again[0].placed.features)
    assert first[0].placed.shape != other[0].placed.shape or not torch.equal(
        first[0].placed.features, other[0].placed.features
    )


def test_some_examples_hold_several_images_of_one_head() -> None:
    counts = {len(draw_example([head()], replace(RECIPE, several=1.0), step).images) for step in range(8)}
    assert counts == {2, 3}


def test_exported_weights_segment_like_the_averaged_network(tmp_path: Path) -> None:
    learner = load_learner(RECIPE, tmp_path)
    steps(learner, 3)
    export(learner, tmp_path)
    network, table = averaged(learner)
    loaded = load_vision(TINY, tmp_path)
    tensors = load_file(tmp_path / "condition_table.safetensors")
    torch.testing.assert_close(tensors["phi"], torch.nn.functional.silu(tensors["vectors"]))
    images = draw_example([head()], RECIPE, 0).images
    given = [image.placed for image in images]
    with torch.no_grad():
        wanted = network(given, table(len(given)))[0]
        found = loaded(given, tensors["phi"][:, None].expand(-1, len(given), -1))[0]
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.05)


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    export(load_learner(RECIPE, tmp_path), tmp_path)
    with pytest.raises(ValueError, match="does not fit"):
        load_vision(replace(TINY, channels=(8, 8, 8)), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vision\.safetensors"):
        load_vision(TINY, tmp_path / "absent")


def test_learning_rate_rises_then_falls_to_its_floor() -> None:
    recipe = replace(RECIPE, rate=1.0, warmup=10, steps=100, floor=0.1)
    assert recipe.rate_at(0) == pytest.approx(0.1, rel=0.01)
    assert recipe.rate_at(10) > 0.9
    assert recipe.rate_at(100) == pytest.approx(0.1)


def test_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="compact"):
        bundled_recipe("huge")


def test_soft_dice_is_one_for_agreement_and_nothing_for_its_opposite() -> None:
    target = (torch.rand(2, 5, 5, 5) > 0.5).float()
    certain = (target * 2 - 1) * 50
    torch.testing.assert_close(soft_dice(certain, target), torch.ones(2))
    assert float(soft_dice(-certain, target).max()) < 1e-3


def test_absent_structure_does_not_count_in_dice_but_is_pushed_away() -> None:
    logits = torch.zeros(2, 4, 4, 4, requires_grad=True)
    target = torch.zeros(2, 4, 4, 4)
    target[0] = 1.0
    loss, dice = segmentation_loss(logits, target, 1.0)
    loss.backward()
    assert float(dice) == pytest.approx(0.8, abs=1e-3)
    assert logits.grad is not None
    assert float(logits.grad[1].min()) > 0


def test_condition_table_has_a_vector_for_each_target() -> None:
    table = ConditionTable(load_labels().targets, 32)
    assert tuple(table(3).shape) == (34, 3, 32)
    assert float(table().detach().min()) > -0.3  # SiLU has no lower values


def test_conditions_that_a_language_model_has_learned_stay_as_they_are(tmp_path: Path) -> None:
    learner = load_learner(RECIPE, tmp_path)
    before = learner.table.vectors.detach().clone()
    key = learner.network.read_out.key
    assert key is not None
    weight = key.weight.detach().clone()
    steps(learner, 2, replace(RECIPE, table_learns=False, condition_noise=0.1))
    assert torch.equal(learner.table.vectors, before)
    assert not torch.equal(key.weight, weight)
    assert torch.equal(learner.average["table.vectors"], before)


def test_the_whole_map_loss_is_dice_with_the_cross_entropy_of_every_sigmoid_and_has_its_gradient() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(6, 25, 26, 17, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.rand(6, 25, 26, 17, generator=generator, dtype=torch.float64)
    targets[1] = 0
    weights = torch.tensor([1, 1, 2, 1, 1, 3], dtype=torch.float64)
    loss, mean = whole_map_loss(logits, targets, 0.7, weights)
    (gradient,) = torch.autograd.grad(loss, logits)

    dice = soft_dice(logits, targets)
    present = torch.tensor([1, 0, 1, 1, 1, 1], dtype=torch.float64)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=0).mean()
    expected = 1 - (dice * present * weights).sum() / (present * weights).sum() + 0.7 * entropy
    (expected_gradient,) = torch.autograd.grad(expected, logits)

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    torch.testing.assert_close(mean, (dice.detach() * present).sum() / 5)


def test_a_learner_that_begins_from_narrower_weights_sees_what_they_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = new_learner(RECIPE)
    export(narrow, tmp_path)
    wider = replace(TINY, channels=(8, 12, 8))
    monkeypatch.setattr(vision, "preset", lambda _: wider)
    wide = new_learner(RECIPE)
    begin_from(wide, tmp_path)
    images = draw_example([head()], RECIPE, 0).images
    placed = [image.placed for image in images[:1]]
    with torch.no_grad():
        before, after = averaged(narrow)[0](placed, narrow.table(1)), wide.network(placed, wide.table(1))
    torch.testing.assert_close(after[0], before[0], atol=0.05, rtol=0.0)


PATHOLOGIES = ("lesion", "neoplasm", "glioma", "edema")
LESIONED = replace(
    RECIPE,
    mix=(Scale(6.0, None, 1.0),),
    lesions=LesionDrawing(PATHOLOGIES, 1.0, (1.0,), {"FLAIR": 1.0}, dict.fromkeys(load_kinds(), 0.0) | {"glioma": 1.0}),
)


def source(subject: Subject, anatomy: Anatomy) -> LesionSource:
    assert LESIONED.lesions is not None
    return lesions_from({subject.name: anatomy}, LESIONED.lesions)


def test_lesions_of_many_kinds_are_targets_beside_the_anatomy() -> None:
    subject, anatomy = head_and_anatomy()
    images = draw_example([subject], LESIONED, 3, source(subject, anatomy)).images
    anatomical = len(load_labels().targets)
    found = dict(zip(PATHOLOGIES, images[0].targets[anatomical:], strict=True))
    assert images[0].kind == "FLAIR"
    assert torch.equal(found["neoplasm"], found["glioma"]) and float(found["glioma"].sum()) > 0
    assert bool((found["lesion"] >= found["glioma"]).all())
    assert float(found["edema"].sum()) == 0, "this kind of glioma has none"


def test_a_learner_of_further_pathologies_keeps_the_conditions_of_those_that_it_begins_from(tmp_path: Path) -> None:
    first = new_learner(RECIPE)
    export(first, tmp_path)
    second = new_learner(LESIONED)
    begin_from(second, tmp_path)
    known = len(first.table.names)
    assert second.table.names == (*first.table.names, *PATHOLOGIES)
    assert torch.equal(second.table.vectors[:known], first.table.vectors)
    new, like = second.table.vectors[known:].detach(), first.table.vectors[known - 1].detach()
    assert first.table.names[known - 1] == "white matter lesion"
    assert float((new - like).std()) == pytest.approx(NEW_SPREAD, abs=0.2), "near white matter lesions, but apart"


def test_conditions_of_new_pathologies_learn_while_those_that_were_learned_stay() -> None:
    subject, anatomy = head_and_anatomy()
    recipe = replace(LESIONED, table_learns=False)
    learner = new_learner(recipe)
    before = learner.table.vectors.detach().clone()
    train_step(learner, [subject], recipe, lesions=source(subject, anatomy))
    known = len(before) - len(PATHOLOGIES)
    assert torch.equal(learner.table.vectors[:known], before[:known])
    assert bool((learner.table.vectors[known:] != before[known:]).any(dim=1).all())


def test_training_with_lesions_learns_them(tmp_path: Path) -> None:
    subject, anatomy = head_and_anatomy()
    learner = new_learner(replace(LESIONED, steps=2))
    train(
        learner,
        [subject],
        replace(LESIONED, steps=2),
        tmp_path,
        5,
        lesions=source(subject, anatomy),
    )
    export(learner, tmp_path)
    assert read_table(tmp_path / "condition_table.safetensors").names[-4:] == PATHOLOGIES


def test_regions_of_the_parcellation_begin_apart_from_lesions_and_from_each_other(tmp_path: Path) -> None:
    export(new_learner(RECIPE), tmp_path)
    learner = new_learner(replace(RECIPE, regions=3, seed=RECIPE.seed + 1))
    drawn = learner.table.vectors.detach().clone()
    begin_from(learner, tmp_path)
    known = len(load_labels().targets)
    assert torch.equal(learner.table.vectors[known:], drawn[known:])
    assert not torch.equal(learner.table.vectors[:known], drawn[:known])
