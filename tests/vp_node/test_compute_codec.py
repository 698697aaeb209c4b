"""What the model is told about the volumes of a study: the kinds that it was trained with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.vp_node.runs_support.agents import TestAgent
from tests.vp_node.runs_support.studies import write_phantom
from vp_model.outcome import Outcome
from vp_node.compute import child
from vp_node.compute.codec import MODEL_KINDS, RunJob, input_volumes, kind_for_model
from vp_node.compute.kept import Kept
from vp_node.studies.headers import read_header
from vp_node.studies.kind import known_kinds
from vp_node.studies.model import ChosenVolume, SourceVolume
from vp_node.studies.sessions import sessions_of
from vp_node.studies.understanding import understand
from vp_node.studies.volume_set import SeriesSelection, choose


def before_and_after_contrast(folder: Path) -> tuple[ChosenVolume, ...]:
    """A T1 without and a T1 with contrast agent, as a prompt takes them."""
    paths = write_phantom(folder / "pre")
    after = write_phantom(folder / "post", seed=1)
    for path in after:
        dataset = dcmread(path)
        dataset.ContrastBolusAgent = "Gadovist"
        dataset.save_as(path)
    volumes = understand([read_header(path) for path in (*paths, *after)]).volumes
    return choose(sessions_of(volumes), SeriesSelection()).chosen


def volume_of(kind: str, contrast: str, like: SourceVolume) -> SourceVolume:
    return replace(like, kind=kind, contrast=contrast)


def test_a_dry_run_and_a_run_tell_the_model_which_t1_has_contrast_agent(tmp_path: Path) -> None:
    chosen = before_and_after_contrast(tmp_path)
    told = [(item.name, item.kind) for item in input_volumes(chosen)]
    assert told == [("v1", "T1"), ("v2", "T1+C")]
    (tmp_path / "out").mkdir()
    child._run(TestAgent(), RunJob("measure", chosen, tmp_path / "out").to_json(), lambda text: None, Kept())
    outcome = Outcome.load(tmp_path / "out")
    assert [(item.name, item.kind) for item in outcome.transcript.volumes] == told


@pytest.mark.parametrize(
    ("kind", "contrast", "told"),
    [
        ("T1", "pre", "T1"),
        ("T1", "unknown", "T1"),
        ("T1", "post", "T1+C"),
        ("CT", "post", "CT"),
        ("FLAIR", "post", "FLAIR"),
        ("TRACE", "unknown", "DWI"),
        ("BOLD", "unknown", "unknown"),
    ],
)
def test_kinds_are_told_in_the_words_of_the_training(tmp_path: Path, kind: str, contrast: str, told: str) -> None:
    (like,) = understand([read_header(path) for path in write_phantom(tmp_path)]).volumes
    assert kind_for_model(volume_of(kind, contrast, like)) == told


def test_the_kinds_of_the_node_and_of_the_training_are_the_same() -> None:
    from vp_train.tasks.scene import KINDS

    assert set(KINDS) == MODEL_KINDS | {"unknown"}
    assert set(KINDS) - {"T1+C"} <= set(known_kinds())
