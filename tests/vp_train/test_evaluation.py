"""Evaluation on real scans: Dice, references, tables."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.vp_train.heads import head
from tests.vp_train.lesion_heads import head_and_anatomy
from vp_model.vision.config import Refining, VisionConfig, config_from_dict
from vp_model.vision.inference import recalibrated
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import load_vision
from vp_model.volume import Volume, write_nifti
from vp_train.datasets.labels import load_labels
from vp_train.evaluation import calibration, contrasts, pathology
from vp_train.evaluation.anatomy import (
    Score,
    as_markdown,
    dice,
    read_reference,
    score_anatomy,
    score_scan,
    write_scores,
)
from vp_train.evaluation.card import structure_entries, write_vision_part
from vp_train.evaluation.contrasts import ByContrast
from vp_train.evaluation.curves import plot_curves
from vp_train.evaluation.overlay import draw_overlay, label_map
from vp_train.evaluation.pathology import PathologyScore
from vp_train.evaluation.synthetic import SyntheticScores, score_synthetic
from vp_train.synthesis.scene import render
from vp_train.training.condition import ConditionTable, read_table
from vp_train.training.recipe import LesionDrawing


def test_dice_counts_twice_what_both_hold() -> None:
    first = np.array([1, 1, 1, 0], dtype=bool)
    second = np.array([0, 1, 1, 1], dtype=bool)
    assert dice(first, second) == pytest.approx(2 / 3)
    assert dice(first, ~first) == 0.0


def test_cortical_parcels_are_the_cortex_of_their_side(tmp_path: Path) -> None:
    ids = np.array([1002, 1035, 2002, 17, 0], dtype=np.int16).reshape(5, 1, 1)
    write_nifti(tmp_path / "seg.nii.gz", ids, np.eye(4))
    labels = load_labels()
    names = [labels.names[index] for index in read_reference(tmp_path / "seg.nii.gz", labels).ravel()]
    assert names == [
        "left cerebral cortex",
        "left cerebral cortex",
        "right cerebral cortex",
        "left hippocampus",
        "background",
    ]


def test_only_structures_of_the_reference_are_judged() -> None:
    labels = load_labels()
    network = VisionNetwork(VisionConfig((4, 8), conditioning="readout", encoding_size=4)).eval()
    reference = np.zeros((12, 12, 12), dtype=np.uint8)
    reference[2:10, 2:10, 2:6] = labels.index("left hippocampus")
    reference[2:4, 2:4, 8] = labels.index("left amygdala")  # four voxels: too few to judge
    volume = Volume(torch.rand(1, 12, 12, 12), np.eye(4), kind="T1")
    score = score_scan(network, ConditionTable(labels.targets, 32), [volume], reference, "made_up")
    assert set(score.dice) == {"left hippocampus", "brain"}
    assert 0.0 <= score.mean <= 1.0


def test_scores_are_written_for_people_and_programs(tmp_path: Path) -> None:
    scores = [Score("a", {"thalamus": 0.9, "brain": 0.5}), Score("b", {"brain": 0.7})]
    write_scores(scores, tmp_path)
    assert "| thalamus | 0.90 | – |" in as_markdown(scores)
    assert '"mean": 0.7' in (tmp_path / "anatomy.json").read_text(encoding="utf-8")


def tiny() -> tuple[VisionNetwork, ConditionTable]:
    torch.manual_seed(0)
    config = VisionConfig((4, 8), conditioning="readout", encoding_size=4, reference="axis", working_spacing_mm=3.0)
    return VisionNetwork(config).eval(), ConditionTable(load_labels().targets, 32)


def test_held_out_heads_are_judged_with_one_to_three_images() -> None:
    network, table = tiny()
    first = score_synthetic(network, table, [head()], samples=2, spacing_mm=5.0)
    assert set(first.by_count) == {1, 2, 3}
    assert all(0.0 <= value <= 1.0 for value in (*first.by_count.values(), first.corrupted))
    assert score_synthetic(network, table, [head()], samples=2, spacing_mm=5.0) == first


def test_every_contrast_is_judged_with_and_without_skull_and_in_thick_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, table = tiny()
    reference = np.zeros((24, 24, 24), dtype=np.float32)
    reference[4:20, 4:20, 4:20] = 17  # aseg: left hippocampus
    write_nifti(tmp_path / "real_a_seg.nii.gz", reference, np.eye(4))
    write_nifti(tmp_path / "real_a_t1.nii.gz", reference * 3 + 1, np.eye(4))
    monkeypatch.setattr(contrasts, "SCANS", ("real_a",))
    monkeypatch.setattr(contrasts, "KINDS", ("T1", "CT"))
    monkeypatch.setattr(contrasts, "PLANE_MM", 6.0)
    monkeypatch.setattr(contrasts, "THICK_MM", 12.0)
    found = contrasts.score_contrasts(network, table, [head()], tmp_path, 1, False, Refining())
    assert set(found.synthetic) == {"T1", "CT"} and set(found.thick_real) == {"real_a"}
    assert all(0.0 <= value <= 1.0 for cells in found.synthetic.values() for value in cells)


def test_card_names_weak_structures_experimental_and_keeps_other_parts(tmp_path: Path) -> None:
    network, table = tiny()
    (tmp_path / "config.json").write_text('{"name": "kept"}', encoding="utf-8")
    scores = [Score("real", {"left hippocampus": 0.8, "right hippocampus": 0.3, "brainstem": 0.7})]
    synthetic = SyntheticScores({1: 0.5, 2: 0.6, 3: 0.6}, 0.5, 4)
    by_contrast = ByContrast({"T2": (0.7, 0.6, 0.5, 0.4)}, {"real": 0.6}, 4)
    run, thresholds = {"steps": 3}, {"white matter lesion": 0.35}
    write_vision_part(tmp_path, network, table.names, scores, {"FLAIR": 0.2}, synthetic, by_contrast, run, thresholds)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["name"] == "kept"
    assert config["working_spacing_mm"] == 3.0
    assert config_from_dict(config["vision"]) == network.config
    entries = {(entry["side"], entry["name"]): entry for entry in config["structures"]}
    assert entries["left", "hippocampus"] == {
        "name": "hippocampus",
        "side": "left",
        "dice": 0.8,
        "experimental": False,
        "threshold": 0.5,
    }
    assert entries[None, "white matter lesion"]["threshold"] == 0.35
    assert entries["right", "hippocampus"]["experimental"] is True
    assert entries[None, "brainstem"]["dice"] == 0.7
    assert entries["left", "thalamus"]["dice"] is None
    assert entries["left", "thalamus"]["experimental"] is True
    assert entries[None, "white matter lesion"]["dice"] == 0.2
    card = json.loads((tmp_path / "vision_card.json").read_text(encoding="utf-8"))
    assert card["run"] == {"steps": 3}
    assert card["contrasts"]["synthetic"]["T2"] == [0.7, 0.6, 0.5, 0.4]
    assert all(source["licence"] for source in card["training_data"] + card["validation_data"])


def test_pathologies_are_experimental_with_their_threshold_or_not_offered_where_they_were_not_learned() -> None:
    found = {
        "neoplasm": PathologyScore(0.35, 0.62, 9, {"FLAIR": 0.62}, 0.4),
        "edema": PathologyScore(0.5, 0.12, 9, {"T2": 0.12}, 3.0),
        "infarct": PathologyScore(0.5, None, 0, {}, 0.0),
    }
    names = ("brainstem", "white matter lesion", *found, "hemorrhage")  # of which the last was not judged
    entries = structure_entries(names, [Score("real", {"brainstem": 0.7})], 0.5, {}, found)
    assert [entry["name"] for entry in entries] == ["brainstem", "white matter lesion", "neoplasm"]
    assert entries[2]["experimental"] is True and entries[2]["threshold"] == 0.35 and entries[2]["dice"] is None


def test_pathologies_are_judged_on_lesions_of_their_own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is 60 % sure of all that is a glioma, and of a shell of edema that is none."""
    subject, anatomy = head_and_anatomy()
    drawing = LesionDrawing(("neoplasm", "edema"), 1.0, (1.0,), {"FLAIR": 1.0})
    shown: dict[str, torch.Tensor] = {}

    def rendered(*arguments: Any) -> Any:
        image = render(*arguments)
        shown["targets"] = image.targets[-2:]
        return image

    def answer(images: list[Any], phi: torch.Tensor) -> list[torch.Tensor]:
        assert len(phi) == 2
        neoplasm = shown["targets"][0]
        return [torch.logit(torch.stack([neoplasm * 0.2 + 0.4, torch.full_like(neoplasm, 0.05)]))]

    monkeypatch.setattr(pathology, "render", rendered)
    table = ConditionTable((*load_labels().targets, "neoplasm", "edema"), 32)
    scores = pathology.score_pathologies(answer, table, drawing, [subject], {subject.name: anatomy}, 2, 5.0)  # type: ignore[arg-type]
    assert scores["neoplasm"].images >= 2 and scores["neoplasm"].dice == pytest.approx(1.0, abs=0.02)
    assert 0.4 < scores["neoplasm"].threshold < 0.6
    assert scores["neoplasm"].elsewhere_ml == 0.0
    assert scores["edema"].dice == 0.0
    assert set(scores["neoplasm"].by_contrast) == {"FLAIR"}


def test_a_threshold_is_chosen_where_dice_is_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says 0.3 inside and 0.2 outside is right with any threshold between."""
    _, table = tiny()
    target, subject = "white matter lesion", head()
    chosen = {}

    def answer(images: list[Any], phi: torch.Tensor) -> list[torch.Tensor]:
        return [torch.logit(torch.where(chosen["targets"] > 0.5, 0.33, 0.2))]

    def rendered(*arguments: Any) -> Any:
        image = render(*arguments)
        chosen["targets"] = image.targets
        return image

    monkeypatch.setattr(calibration, "render", rendered)
    assert calibration.best_threshold(answer, table, "left cerebral white matter", [subject], 2, 5.0) in (
        0.2,
        0.25,
        0.3,
    )  # type: ignore[arg-type]
    monkeypatch.setattr(calibration, "CANDIDATES", (0.5, 0.9))
    assert calibration.best_threshold(answer, table, target, [subject], 1, 5.0) == 0.5  # type: ignore[arg-type]


def test_recalibrated_odds_put_the_threshold_at_one_half() -> None:
    values = recalibrated(torch.tensor([0.0, 0.1, 0.35, 0.6, 1.0]), 0.35)
    assert values[2] == pytest.approx(0.5)
    assert values[0] == 0 and values[-1] == 1 and bool((values.diff() > 0).all())
    torch.testing.assert_close(recalibrated(torch.tensor([0.3]), 0.5), torch.tensor([0.3]))


def test_curves_are_drawn_from_what_was_noted(tmp_path: Path) -> None:
    assert plot_curves(tmp_path) is None
    (tmp_path / "curve.csv").write_text(
        "step,seconds,rate,spacing_mm,soft_dice\n50,30,0.001,4.0,0.3\n50,30,0.001,3.0,0.2\n"
    )
    picture = plot_curves(tmp_path)
    assert picture is not None
    assert picture.stat().st_size > 1000


def test_overlay_shows_an_oblique_scan_with_its_labels(tmp_path: Path) -> None:
    network, table = tiny()
    world = np.array([[0.0, 0.2, 3.0, 5.0], [1.1, 0.0, 0.0, -3.0], [0.0, -1.1, 0.4, 9.0], [0, 0, 0, 1.0]])
    volume = Volume(torch.rand(1, 20, 18, 10), world, kind="T1")
    found = label_map(network, table, volume, ("brain",))
    assert found.shape == volume.shape
    draw_overlay(volume, [("found", found)], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_bundled_network_finds_structures_of_a_real_head_on_their_own_side(shared_data: Path) -> None:
    """The weights in the package on a real T1; with sides exchanged every paired structure would score near nothing."""
    weights = Path(str(files("vp_model") / "weights"))
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    network = load_vision(config_from_dict(config["vision"]), weights)
    table = read_table(weights / "condition_table.safetensors")
    score = score_anatomy(network, table, shared_data / "brains_validation", ("real_vxm",))[0]
    assert score.mean > 0.55
    for name in ("left thalamus", "right thalamus", "brainstem", "left cerebral white matter", "brain"):
        assert score.dice[name] > 0.65, name
