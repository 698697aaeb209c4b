"""The model card says what was measured, and of every structure whether it is offered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vp_model.checkpoint import BUNDLED, CARD_FILE, open_checkpoint
from vp_train.card import LANGUAGE_CARD, VISION_CARD, write_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint without its card."""
    copied = tmp_path / "checkpoint"
    shutil.copytree(BUNDLED, copied, ignore=shutil.ignore_patterns(CARD_FILE, "*.png"))
    return copied


def test_the_card_names_every_structure_with_its_accuracy_and_whether_it_is_offered(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    text = write_card(checkpoint).read_text(encoding="utf-8")
    measured = json.loads((folder / VISION_CARD).read_text(encoding="utf-8"))
    first = next(iter(measured["real_scans"].values()))["dice"]
    for structure in checkpoint.structures:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {structure.region} |")]
        assert row.endswith("experimental |" if structure.experimental else "yes |")
        if structure.region in first:
            assert f"{first[structure.region]:.2f}" in row
    for part in ("## Language", "## Accuracy", "## Data", "## Limits"):
        assert part in text
    assert all(item["licence"] in text for item in measured["training_data"] + measured["validation_data"])
    assert "not a medical device" in text.lower()


def test_the_card_changes_with_what_was_measured(folder: Path) -> None:
    before = write_card(open_checkpoint(folder)).read_text(encoding="utf-8")
    path = folder / LANGUAGE_CARD
    results = json.loads(path.read_text(encoding="utf-8"))
    results["held-out phrasings"]["right"] = 0.1234
    path.write_text(json.dumps(results), encoding="utf-8")
    after = write_card(open_checkpoint(folder)).read_text(encoding="utf-8")
    assert "12.3 %" in after
    assert "12.3 %" not in before


def test_a_checkpoint_that_was_not_measured_gets_no_card(folder: Path) -> None:
    (folder / VISION_CARD).unlink()
    with pytest.raises(FileNotFoundError):
        write_card(open_checkpoint(folder))
    assert not (folder / CARD_FILE).exists()
