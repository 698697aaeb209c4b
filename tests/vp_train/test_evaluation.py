"""Evaluation on real scans: Dice, references, tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vp_model.vision.config import VisionConfig
from vp_model.vision.network import VisionNetwork
from vp_model.volume import Volume, write_nifti
from vp_train.datasets.labels import load_labels
from vp_train.evaluation.anatomy import Score, as_markdown, dice, read_reference, score_scan, write_scores
from vp_train.training.condition import ConditionTable


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
