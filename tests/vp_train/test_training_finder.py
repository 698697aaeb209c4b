"""Learning to find lesions in what the tissues of an image do not explain, and judging what was learned."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.vp_train.lesion_heads import head_and_anatomy, whole_head
from tests.vp_train.test_parcels import BROAD, LABELS, write_subject
from vp_model.checkpoint import BUNDLED, open_checkpoint
from vp_model.geometry import Placed
from vp_model.vision.config import VisionConfig
from vp_model.vision.departure import BRAIN, CHANNELS
from vp_model.vision.lesions import LesionConfig, LesionNetwork, Seen, lesion_config, load_lesions
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import save_vision
from vp_train.evaluation import finder as evaluation
from vp_train.evaluation.finder import choose, judge
from vp_train.evaluation.pathology import PathologyScore
from vp_train.synthesis.chance import Chance
from vp_train.training.condition import ConditionTable, save_conditions
from vp_train.training.departures_drawing import DeparturesSource
from vp_train.training.examples import lesions_from
from vp_train.training.finder import finder_loss, learn_finder
from vp_train.training.finder_blocks import blocks_from, draw_block, draw_blocks
from vp_train.training.finder_recipe import FinderRecipe
from vp_train.training.finder_run import open_finder, train_finder, write_finder
from vp_train.training.kept_departures import (
    Anatomist,
    KeptDepartures,
    Study,
    draw_departures,
    finder_targets,
    keep,
    open_kept,
    studies_of,
)
from vp_train.training.kept_studies import draw_studies, study_settings

TINY = VisionConfig(
    (4, 8, 8), conditioning="readout", interaction_size=8, interaction_heads=2, encoding_size=5, reference="axis",
    working_spacing_mm=6.0,
)  # fmt: skip
SMALL = LesionConfig(channels=(8, 8))
RECIPE = FinderRecipe(images=4, edge=16, steps=150, rate=0.01)
EDGE = 24
WORLD = np.diag([2.0, 2.0, 2.0, 1.0])


def kept(
    folder: Path, number: int, bright: bool, kind: str = "FLAIR", image: int = 0, shown: float = 1.0
) -> KeptDepartures:
    """Noise, and a ball that is too bright, which belongs to the first of two targets, or too dark, to the second."""
    chance = Chance.seeded(number)
    grid = torch.stack(torch.meshgrid(*[torch.arange(EDGE)] * 3, indexing="ij")).float()
    centre = torch.tensor([6.0 + chance.integer(12) for _ in range(3)])
    ball = (grid - centre[:, None, None, None]).square().sum(dim=0) < 16
    features = chance.normal(CHANNELS, EDGE, EDGE, EDGE) * 0.3
    features[1:3] += ball * (shown if bright else -shown)
    features[BRAIN] = 1.0
    shares = torch.zeros(2, EDGE, EDGE, EDGE)
    shares[0 if bright else 1][ball] = 1.0
    return keep(folder / f"1_{number}_{image}.safetensors", Placed(features[None], WORLD), shares, kind)


def several(folder: Path, first: int, count: int = 8) -> list[Study]:
    return [(kept(folder, number, number % 2 == 0),) for number in range(first, first + count)]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[LesionNetwork, torch.Tensor]:
    phi = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp("learned")
    return learn_finder(SMALL, phi, several(folder, 0), RECIPE, folder / "state.pt", lambda _: None), phi


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vp_train.training.finder.SAVED_EVERY", 3)
    phi, images = torch.randn(2, 32, generator=torch.Generator().manual_seed(1)), several(tmp_path, 0, 2)
    few = replace(RECIPE, steps=6)
    whole = learn_finder(SMALL, phi, images, few, tmp_path / "whole.pt", lambda _: None).state_dict()
    said: list[str] = []

    class Stopped(Exception):
        pass

    def stop_at(text: str) -> None:
        said.append(text)

    def fail(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise Stopped

    with monkeypatch.context() as patched:
        taken = iter(range(4))
        patched.setattr(
            "vp_train.training.finder_blocks.draw_block",
            lambda *arguments: draw_block(*arguments) if next(taken, None) is not None else fail(),
        )
        with pytest.raises(Stopped):
            learn_finder(SMALL, phi, images, few, tmp_path / "part.pt", stop_at)
    resumed = learn_finder(SMALL, phi, images, few, tmp_path / "part.pt", stop_at).state_dict()
    assert said == ["on from step 3"]
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_what_departs_is_learned_by_its_condition(learned: tuple[LesionNetwork, torch.Tensor], tmp_path: Path) -> None:
    network, phi = learned
    names = ("bright", "dark")
    thresholds, shows = choose(network, phi, names, several(tmp_path, 100, 16), 1.0)
    scores = judge(network, phi, names, several(tmp_path, 200), 1.0, thresholds, shows)
    for name in names:
        assert shows[name] == ("FLAIR",)
        assert (scores[name].dice or 0.0) > 0.7
        assert scores[name].images == 4 and scores[name].elsewhere_ml < 30  # of a ball of 250
        assert scores[name].by_contrast == {"FLAIR": scores[name].dice}


def test_a_lesion_is_offered_where_enough_images_found_it_alone(
    learned: tuple[LesionNetwork, torch.Tensor], tmp_path: Path
) -> None:
    network, phi = learned
    images = [(kept(tmp_path, n, True, "CT" if n < 2 else "FLAIR"),) for n in range(10)]
    names = ("bright", "dark")
    thresholds, shows = choose(network, phi, names, images, 1.0)
    assert shows == {"bright": ("FLAIR",), "dark": ()}  # two images of CT are too few to say
    scores = judge(network, phi, names, images, 1.0, thresholds, shows)
    assert scores["dark"].dice is None and scores["dark"].images == 0
    assert set(scores["bright"].by_contrast) == {"CT", "FLAIR"} and scores["bright"].images == 8


def test_a_threshold_is_the_best_for_images_that_show_the_lesion_each_counting_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def shown(size: int, inside: float, beside: float) -> tuple[str, NDArray[np.float32], NDArray[np.bool_]]:
        probability, wanted = np.zeros((1, 90_000), np.float32), np.zeros((1, 90_000), bool)
        probability[0, :size], probability[0, size : 3 * size], wanted[0, :size] = inside, beside, True
        return "FLAIR", probability, wanted

    small, large = shown(600, 0.42, 0.32), shown(30_000, 0.92, 0.82)
    nothing = ("FLAIR", small[1], np.zeros_like(small[2]))
    for given, threshold in (([*[small] * 9, large], 0.35), ([*[large] * 9, small], 0.85), ([nothing], 0.5)):
        monkeypatch.setattr(evaluation, "_found", lambda *_, given=given: iter(given))
        images = [(kept(tmp_path, 0, True),)] * len(given)
        thresholds, shows = choose(LesionNetwork(SMALL), torch.zeros(1, 32), ("lesion",), images, 0.001)
        assert thresholds == {"lesion": threshold}
        assert shows == {"lesion": ("FLAIR",) if len(given) > 1 else ()}


def test_what_is_kept_comes_back_whole_and_in_parts(tmp_path: Path) -> None:
    features, shares = torch.randn(CHANNELS, 6, 7, 8), torch.zeros(3, 6, 7, 8)
    shares[2, 1:3, 4, 5] = 0.8
    world = np.array([[0.0, -2.0, 0.1, 5.0], [2.0, 0.0, 0.0, -7.0], [0.0, 0.1, 2.0, 1.0 / 3.0], [0, 0, 0, 1.0]])
    kept_one = keep(tmp_path / "7_00004_1.safetensors", Placed(features[None], world), shares, "CT")
    assert kept_one.study == "7_00004" and np.array_equal(np.array(kept_one.world), world)
    assert kept_one == open_kept(kept_one.path)
    assert (kept_one.kind, kept_one.shape, kept_one.present, kept_one.targets) == ("CT", (6, 7, 8), (2,), 3)
    torch.testing.assert_close(kept_one.features(), features, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(kept_one.shares(), shares, atol=1 / 255, rtol=0)
    box = (slice(1, 4), slice(3, 7), slice(0, 6))
    assert torch.equal(kept_one.features(box), kept_one.features()[(slice(None), *box)])
    assert torch.equal(kept_one.shares(box), kept_one.shares()[(slice(None), *box)])
    assert kept_one.voxels_of(0).tolist() == [[1, 4, 5], [2, 4, 5]]
    nothing = keep(tmp_path / "7_00005_0.safetensors", Placed(features[None], world), 0 * shares, "T1")
    assert nothing.present == () and not bool(nothing.shares().any())
    assert studies_of([kept_one, nothing, kept_one]) == [(kept_one, kept_one), (nothing,)]


def test_blocks_lie_in_the_image_and_hold_the_lesion_most_of_the_time(tmp_path: Path) -> None:
    image = kept(tmp_path, 3, True)
    held = 0
    for number in range(40):
        block = draw_block((image,), RECIPE, Chance.seeded(number))
        assert block.features.shape == (1, CHANNELS, 16, 16, 16) and block.shares.shape == (2, 16, 16, 16)
        assert block.kinds == ("FLAIR",) and bool(block.inside.all())
        held += bool((block.shares > 0.5).any())
    assert held > 30
    small = replace(RECIPE, edge=64)
    assert draw_block((image,), small, Chance.seeded(1)).features.shape == (1, CHANNELS, EDGE, EDGE, EDGE)


@pytest.mark.requirement("a lesion is looked for in all images of a session together")
def test_beside_a_block_lies_what_the_other_images_of_its_study_show_there(tmp_path: Path) -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(EDGE)] * 3, indexing="ij")).float()
    features = torch.zeros(CHANNELS, EDGE, EDGE, EDGE)
    features[:3], features[BRAIN] = grid, 1.0  # where a voxel lies, in three channels
    moved = WORLD.copy()
    moved[0, 3] = 12.0  # six voxels further right
    shares = torch.zeros(1, EDGE, EDGE, EDGE)
    one = keep(tmp_path / "1_1_0.safetensors", Placed(features[None], WORLD), shares, "FLAIR")
    other = keep(tmp_path / "1_1_1.safetensors", Placed(features[None], moved), shares, "T2")
    plain = replace(RECIPE, blind=0.0, beside=1.0)
    for number in range(20):
        block = draw_block((one, other), plain, Chance.seeded(number))
        shift = -6.0 if block.kinds == ("FLAIR", "T2") else 6.0
        assert block.kinds in (("FLAIR", "T2"), ("T2", "FLAIR")) and bool(block.inside[0].all())
        own, beside, inside = block.features[0, 0], block.features[1, 0], block.inside[1]
        assert bool(inside.any()) and torch.allclose(beside[inside], (own + shift)[inside], atol=0.02)
        assert bool((((own + shift) >= -0.5) & ((own + shift) <= EDGE - 0.5) == inside).all())


def test_studies_and_single_images_are_learned_from_in_turn(tmp_path: Path) -> None:
    studies: list[Study] = several(tmp_path, 0, 4)
    studies += [(kept(tmp_path, 9, True), kept(tmp_path, 9, True, "T2", 1))]
    drawn = [draw_blocks(studies, LesionConfig(), replace(RECIPE, beside=1.0), step).images for step in range(60)]
    assert {*drawn} == {(1,), (2,)}
    assert 5 < drawn.count((1,)) < 30


@pytest.mark.requirement("a lesion is looked for in all images of a session together")
def test_what_one_image_hides_is_learned_from_those_beside_it(tmp_path: Path) -> None:
    """FLAIR shows next to nothing, T2 all."""

    def study(number: int) -> Study:
        return (
            kept(tmp_path, number, True, "FLAIR", 0, 0.02),
            kept(tmp_path, number, True, "T2", 1),
        )

    phi = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    studies = [study(number) for number in range(8)]
    network = learn_finder(SMALL, phi, studies, replace(RECIPE, beside=1.0), tmp_path / "state.pt", lambda _: None)
    held = [study(number) for number in range(100, 104)]
    alone = [(images[0],) for images in held]
    names, thresholds, shows = ("bright", "dark"), {"bright": 0.5, "dark": 0.5}, {"bright": ("FLAIR",), "dark": ()}
    joined = judge(network, phi, names, held, 1.0, thresholds, shows)["bright"]
    single = judge(network, phi, names, alone, 1.0, thresholds, shows)["bright"]
    assert (joined.dice or 0.0) > 0.6 > (single.dice or 0.0) + 0.3


def seen(shares: torch.Tensor, anything: float, named: float) -> Seen:
    """What a network would say that is sure of what is there, times these."""
    certain = torch.where(shares > 0, 20.0, -20.0)[None]
    return Seen(anything * certain.amax(dim=1, keepdim=True), named * certain)


def test_the_loss_is_least_for_the_truth_and_knows_when_there_is_nothing() -> None:
    shares = torch.zeros(1, 2, 8, 8, 8)
    shares[0, 0, 2:5, 2:5, 2:5] = 1.0
    right, dice = finder_loss(seen(shares[0], 1.0, 1.0), shares, RECIPE, 1.0)
    missed, none = finder_loss(seen(0 * shares[0], 1.0, 1.0), shares, RECIPE, 1.0)
    assert float(right) == pytest.approx(0.0, abs=1e-3) and float(dice) == pytest.approx(1.0, abs=1e-3)
    assert float(missed) > 1.0 and float(none) < 0.1
    empty, mean = finder_loss(seen(0 * shares[0], 1.0, 1.0), 0 * shares, RECIPE, 1.0)
    assert float(empty) == pytest.approx(0.0, abs=1e-3) and math.isnan(float(mean))


def test_a_lesion_under_another_name_costs_though_it_is_found() -> None:
    shares = torch.zeros(1, 2, 8, 8, 8)
    shares[0, 0, 2:5, 2:5, 2:5] = 1.0
    misnamed, dice = finder_loss(seen(shares[0], 1.0, -1.0), shares, RECIPE, 1.0)
    assert float(misnamed) > 5.0 and float(dice) == pytest.approx(1.0, abs=1e-3)


def test_the_loss_of_several_blocks_is_the_mean_of_theirs() -> None:
    generator = torch.Generator().manual_seed(2)
    shares = torch.zeros(3, 2, 8, 8, 8)
    shares[0, 0, 2:5, 2:5, 2:5], shares[1, 1, 4:7, 1:6, 2:5] = 1.0, 0.8  # and the third holds nothing
    logits = Seen(torch.randn(3, 1, 8, 8, 8, generator=generator), torch.randn(3, 2, 8, 8, 8, generator=generator))
    together, dice = finder_loss(logits, shares, RECIPE, 0.5)
    each = [
        finder_loss(Seen(logits.any[row][None], logits.named[row][None]), shares[row][None], RECIPE, 0.5)
        for row in range(3)
    ]
    torch.testing.assert_close(together, torch.stack([loss for loss, _ in each]).mean())
    torch.testing.assert_close(dice, torch.cat([one for _, one in each]), equal_nan=True)


def test_several_blocks_of_a_step_are_those_that_would_be_drawn_one_by_one(tmp_path: Path) -> None:
    images, config = several(tmp_path, 0), LesionConfig()
    many = replace(RECIPE, batch=3, steps=2)
    images += [(kept(tmp_path, 50, True), kept(tmp_path, 50, True, "T2", 1))]
    (first, second) = blocks_from(images, config, many, 0, torch.device("cpu"))
    alone = [draw_blocks(images, config, RECIPE, number) for number in range(6)]
    assert torch.equal(torch.cat([first.features, second.features]), torch.cat([one.features for one in alone]))
    assert torch.equal(torch.cat([first.shares, second.shares]), torch.cat([one.shares for one in alone]))
    assert torch.equal(torch.cat([first.kinds, second.kinds]), torch.cat([one.kinds for one in alone]))
    assert first.images + second.images == sum((one.images for one in alone), ())


def test_a_training_of_some_minutes_ends_with_them_and_may_begin_from_other_weights(tmp_path: Path) -> None:
    phi, images, said = torch.randn(2, 32), several(tmp_path, 0, 2), list[str]()
    before = LesionNetwork(SMALL)
    short = replace(RECIPE, minutes=1e-9)
    found = learn_finder(SMALL, phi, images, short, tmp_path / "state.pt", said.append, begin=before)
    assert not said
    for name, value in before.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert [RECIPE.spent(step, 1e9) for step in (0, 75, 150)] == [0.0, 0.5, 1.0]
    timed = replace(RECIPE, minutes=2.0)
    assert [timed.fall(timed.spent(9, seconds)) for seconds in (0.0, 60.0, 120.0, 180.0)] == [1.0, 0.5, 0.0, 0.0]


def test_departures_of_synthetic_heads_are_kept_around_the_brain_and_drawn_once(tmp_path: Path) -> None:
    torch.manual_seed(1)
    subject, anatomy = head_and_anatomy()
    network, table = VisionNetwork(TINY).eval(), ConditionTable(LABELS.targets, 32)
    conditions = dict(zip(table.names, table(1).detach()[:, 0], strict=True))
    assert BROAD.lesions is not None
    source = lesions_from({subject.name: anatomy}, BROAD.lesions)
    said: list[str] = []

    def drawn() -> list[KeptDepartures]:
        anatomist = Anatomist(network, conditions)
        return draw_departures(anatomist, [subject], BROAD, range(20), source, tmp_path, said.append)

    found = drawn()
    assert found and said == ["20 of 20 images"]
    for image in found:
        assert image.features().shape == (CHANNELS, *image.shape)
        assert image.targets == len(finder_targets(BROAD)) == 1 + len(BROAD.pathologies)
    assert any(image.present for image in found)
    written = [image.path.stat().st_mtime_ns for image in found]
    assert drawn() == found and [image.path.stat().st_mtime_ns for image in found] == written


def test_the_images_of_a_study_are_kept_beside_each_other(tmp_path: Path) -> None:
    torch.manual_seed(1)
    subject, anatomy = head_and_anatomy()
    network, table = VisionNetwork(TINY).eval(), ConditionTable(LABELS.targets, 32)
    conditions = dict(zip(table.names, table(1).detach()[:, 0], strict=True))
    anatomist, settings = Anatomist(network, conditions), replace(study_settings(), finest_mm=3.0)
    assert settings.several == 0.0 and settings.kinds and "microbleed" not in settings.kinds

    def drawn() -> list[KeptDepartures]:
        arguments = (anatomist, [subject], [anatomy], settings, ("lesion", "infarct"), 3, range(6), tmp_path)
        return draw_studies(*arguments, lambda _: None)

    found = drawn()
    studies = studies_of(found)
    assert studies and all(len(study) > 1 for study in studies)
    assert any(image.present for image in found)
    for study in studies:
        first, *others = (np.array(image.world)[:3, 3] for image in study)
        assert all(np.linalg.norm(first - other) < 100 for other in others)  # of one head
    written = [image.path.stat().st_mtime_ns for image in found]
    assert drawn() == found and [image.path.stat().st_mtime_ns for image in found] == written


def checkpoint(folder: Path) -> Path:
    """The bundled checkpoint with a tiny m."""
    shutil.copytree(BUNDLED, folder)
    save_vision(VisionNetwork(TINY), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.update(vision=TINY.as_dict(), lesions=None)
    names = {"lesion", *BROAD.pathologies}
    config["structures"] = [item for item in config["structures"] if item["name"] not in names]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_what_is_found_well_enough_is_offered_as_experimental_and_the_card_names_the_rest(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "weights")
    known = len(open_checkpoint(folder).structures)
    scores = {
        "white matter lesion": PathologyScore(0.4, 0.9, 9, {"FLAIR": 0.9}, 0.1),
        "hemorrhage": PathologyScore(0.35, 0.5, 7, {"CT": 0.5}, 0.2),
        "edema": PathologyScore(0.5, 0.2, 8, {"FLAIR": 0.2}, 0.3),
    }
    shows = {"white matter lesion": ("FLAIR",), "hemorrhage": ("CT",), "edema": ("FLAIR",)}
    for _ in range(2):  # a second run takes the place of the first
        assert write_finder(folder, LesionNetwork(SMALL), scores, shows) == ("hemorrhage",)
    opened = open_checkpoint(folder)
    assert len(opened.structures) == known + 1
    (entry,) = [item for item in opened.structures if item.name == "hemorrhage"]
    assert entry.experimental and entry.dice is None and entry.threshold == 0.35
    assert opened.lesions is not None and opened.lesions.shows == {"hemorrhage": ("CT",)}
    load_lesions(lesion_config(opened.lesions.network), folder)
    card = json.loads((folder / "vision_card.json").read_text(encoding="utf-8"))["pathologies"]
    assert set(card) == {"hemorrhage", "edema"}  # lesions of white matter are m's own
    assert card["hemorrhage"]["shows"] == ["CT"] and card["edema"]["shows"] == []


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Label maps of two heads, of which one is held out by its name."""
    data = tmp_path / "data"
    data.mkdir()
    write_subject(data, whole_head())
    shutil.copyfile(data / "synthseg_01_seg.nii.gz", data / "synthseg_19_seg.nii.gz")
    return data


def test_a_run_learns_from_heads_that_it_is_not_judged_on_and_writes_the_checkpoint(
    tmp_path: Path, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache, recipe = checkpoint(tmp_path / "weights"), tmp_path / "cache", replace(BROAD, regions=0)
    names = list(dict.fromkeys([*(item.region for item in open_checkpoint(folder).structures), *recipe.targets]))
    table = tmp_path / "table.safetensors"
    save_conditions(ConditionTable(names, 32), table)
    finder = replace(RECIPE, images=2, steps=3, edge=8)
    judged: list[int] = []
    offered: list[dict[str, tuple[str, ...]]] = []

    def counted(*arguments: Any) -> dict[str, PathologyScore]:
        judged.append(len(arguments[3]))
        offered.append(arguments[6])
        return judge(*arguments)

    def everywhere(*arguments: Any) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
        thresholds, shows = choose(*arguments)
        return thresholds, dict.fromkeys(shows, ("FLAIR", "T1"))

    monkeypatch.setattr("vp_train.training.finder_run.judge", counted)
    with monkeypatch.context() as patched:
        patched.setattr("vp_train.training.finder_run.choose", everywhere)
        train_finder(recipe, heads, folder, table, cache, finder, 2, lambda _: None, nowhere=("T1",))
    assert {*offered[0].values()} == {("FLAIR",)}
    judged.clear()
    train_finder(recipe, heads, folder, table, cache, finder, 2, lambda _: None)
    train_finder(recipe, heads, folder, table, cache, finder, 2, lambda _: None, further=recipe)
    assert judged == [2, 4]
    with_studies = replace(finder, studies=2)
    train_finder(recipe, heads, folder, table, cache, with_studies, 8, lambda _: None)
    assert judged[2] > 8 and list((cache / "departures").glob("*_1.safetensors"))
    assert (folder / "lesions.safetensors").is_file()
    opened = open_checkpoint(folder)
    assert opened.lesions is None  # three steps find nothing
    with pytest.raises(ValueError, match="finds no lesions that a training could begin with"):
        train_finder(recipe, heads, folder, table, cache, finder, 2, lambda _: None, begin=folder)
    begin = open_finder(BUNDLED)
    assert begin.config == LesionConfig()
    with pytest.raises(ValueError, match="draws no lesions"):
        train_finder(replace(recipe, lesions=None), heads, folder, table, tmp_path, finder, 2, print)


def test_several_processes_draw_what_one_would(tmp_path: Path, heads: Path) -> None:
    folder, recipe = checkpoint(tmp_path / "weights"), replace(BROAD, regions=0)
    alone = DeparturesSource(folder, heads, tmp_path / "alone", recipe).draw(3, lambda _: None)
    together = DeparturesSource(folder, heads, tmp_path / "together", recipe).draw(3, lambda _: None, workers=2)
    assert [study[0].path.name for study in together] == [study[0].path.name for study in alone]
    assert alone
    for (one,), (other,) in zip(alone, together, strict=True):
        torch.testing.assert_close(one.features(), other.features(), atol=0.02, rtol=0.02)  # threads round differently
        torch.testing.assert_close(one.shares(), other.shares())
