"""The bundled checkpoint, as its users meet it: plans, refusals, and runs on a real average brain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from nilearn.datasets import load_mni152_template
from numpy.typing import NDArray
from typer.testing import CliRunner

from vp_model.agent import Agent
from vp_model.checkpoint import BUNDLED, CheckpointError, content_hash, open_checkpoint
from vp_model.cli import app
from vp_model.language.decoding import WrittenStep
from vp_model.language.held import Held
from vp_model.outcome import InputVolume
from vp_model.program.checker import Known
from vp_model.volume import Volume, read_nifti, write_nifti

TWO_VISITS = (InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "T1", "2025-03-04", 1))


@pytest.fixture(scope="module")
def agent() -> Agent:
    return Agent.load()


@pytest.fixture(scope="module")
def brain() -> Volume:
    image = load_mni152_template(resolution=2)
    voxels = torch.from_numpy(np.asarray(image.get_fdata(), dtype=np.float32))
    return Volume(voxels[None], np.asarray(image.affine, dtype=np.float64), name="v1", kind="T1")


@pytest.mark.parametrize(
    ("prompt", "task", "structures"),
    [
        ("Measure the volume of the lateral ventricles", "volume analysis", {"lateral ventricle"}),
        ("segment the left hippocampus", "segmentation", {"hippocampus"}),
        ("How much has the right thalamus changed since the last visit?", "volume change", {"thalamus"}),
    ],
)
def test_usual_prompts_are_planned(agent: Agent, prompt: str, task: str, structures: set[str]) -> None:
    plan = agent.plan(prompt, TWO_VISITS)
    assert (plan.status, plan.task) == ("answered", task)
    assert {name for name, _ in plan.structures} == structures


@pytest.mark.requirement("a prompt that the model does not understand is refused, never answered by a guess")
@pytest.mark.parametrize("prompt", ["segment the pancreas", "measure the habenula", "what is the weather today", "!?"])
def test_what_is_not_known_is_refused_with_a_reason(agent: Agent, prompt: str) -> None:
    plan = agent.plan(prompt, TWO_VISITS)
    assert plan.status == "refused"
    assert plan.reason


def test_a_word_that_names_nothing_is_not_answered_with_something_else(agent: Agent) -> None:
    """Which ventricle is meant is not said: either it is taken for one of them, or the prompt is refused."""
    plan = agent.plan("how far is the lesion from the ventricle", TWO_VISITS)
    assert plan.status == "refused" or any("ventric" in name for name, _ in plan.structures)


def test_a_change_needs_two_sessions(agent: Agent) -> None:
    plan = agent.plan("How much has the right thalamus changed since the last visit?", TWO_VISITS[:1])
    assert plan.status == "refused"


def test_a_run_measures_sides_that_lie_on_their_side(agent: Agent, brain: Volume) -> None:
    outcome = agent.run("Segment the left and right thalamus and report their volumes", [brain])
    assert outcome.status == "answered"
    centers = {
        mask.side: (brain.world @ np.append(np.argwhere(mask.voxels).mean(axis=0), 1.0))[0] for mask in outcome.masks
    }
    assert centers["left"] < 0 < centers["right"]
    volumes = {item.side: item.value for item in outcome.measurements}
    assert 2 < volumes["left"] < 20 and 2 < volumes["right"] < 20
    assert outcome.model.content_hash == content_hash(BUNDLED)


def test_the_same_run_gives_the_same_outcome(agent: Agent, brain: Volume) -> None:
    first, second = (agent.run("segment the brainstem", [brain]) for _ in range(2))
    assert first.summary() == second.summary()


def test_a_question_is_answered_in_the_step_after_its_encoding(
    agent: Agent, brain: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    steps = (
        'task("location")\nfeatures = encode(v1<MOD>)\nprint(features)\n',
        'answer("left frontal lobe")\n',
    )

    class Scripted:
        """α's part of a conversation in two steps."""

        def read(self, text: str, encodings: Sequence[NDArray[np.float32]] = ()) -> None:
            read.append(sum(len(encoding) for encoding in encodings))

        def write(self, known: Known, wanted: Counter[str] | None = None, held: Held | None = None) -> WrittenStep:
            code = steps[len(read) - 1]
            return WrittenStep(code, np.zeros((code.count("<MOD>"), 32), np.float32), len(read) == len(steps))

    monkeypatch.setattr(Agent, "_writer", lambda self: Scripted())
    outcome = agent.run("where is the lesion?", [brain])
    assert outcome.status == "answered", outcome.reason
    assert [(text.topic, text.text) for text in outcome.texts] == [("location", "left frontal lobe")]
    assert read == [0, 1], "ε of one volume comes with the feedback of the first step"


def test_a_folder_that_is_no_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        open_checkpoint(tmp_path)


def test_weights_of_another_size_are_refused_clearly(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(BUNDLED, folder)
    config = json.loads((folder / "config.json").read_text())
    config["language"]["hidden_size"] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="does not fit together"):
        Agent.load(folder)


def test_the_hash_changes_with_any_byte(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(BUNDLED, folder)
    before = content_hash(folder)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert content_hash(folder) != before


def test_the_command_line_writes_masks_on_the_inputs_grid(brain: Volume, tmp_path: Path) -> None:
    source, out = tmp_path / "brain.nii.gz", tmp_path / "out"
    write_nifti(source, brain.voxels, brain.world)
    done = CliRunner().invoke(
        app, ["run", "segment the brainstem", str(source), "--dates", "2024-03-01", "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    (mask,) = answer["masks"]
    assert (mask["structure"], mask["visit"], mask["input"]) == ("brainstem", "2024-03-01", str(source))
    written = read_nifti(out / mask["file"])
    assert written.shape == brain.shape
    np.testing.assert_allclose(written.world, brain.world, atol=1e-5)
    assert (out / "overlay.png").stat().st_size > 1000


def test_exit_codes_tell_refused_from_wrong_use(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["plan", "segment the pancreas", "--json"]).exit_code == 3
    assert runner.invoke(app, ["run", "x", str(tmp_path / "none.nii"), "--out", str(tmp_path)]).exit_code == 2
    assert runner.invoke(app, ["plan", "x", "--dates", "yesterday"]).exit_code == 2


def test_help_loads_no_torch() -> None:
    code = "import sys, vp_model.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
