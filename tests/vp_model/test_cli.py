"""`vp-model plan`: what α would run, or the refusal, in the form that other programs read, and in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.vp_model.test_imaging_registration import displaced, phantom
from vp_model.agent import Agent
from vp_model.arrangement import Arranged
from vp_model.cli import KINDS, app
from vp_model.language import reading
from vp_model.outcome import InputVolume, Mask, Outcome, Transcript
from vp_model.program.vocabulary import TASKS
from vp_model.volume import read_nifti, write_nifti

DATES = "2024-03-01,2025-03-04"
TABLE_1 = {
    "delineate the left hippocampus": "segmentation",
    "determine the size of the thalamus": "volume analysis",
    "how much has the lateral ventricle progressed?": "volume change",
    "compute the bilateral asymmetry of the hippocampus": "volume comparison",
    "what percent of the white matter lesion is hyperintense?": "relative volume analysis",
    "what is the lateral width of the brainstem?": "extent analysis",
    "how much has the third ventricle widened?": "extent change",
    "locate the left putamen center of mass": "center of mass",
    "compute the mean thalamus density": "intensity analysis",
    "how hyperintense is the left caudate relative to the right caudate?": "intensity comparison",
    "determine progressive signal loss of the thalamus": "intensity change",
    "where is the white matter lesion?": "location",
    "does the white matter lesion enhance post contrast?": "enhancement",
    "does the white matter lesion restrict diffusion?": "diffusion restriction",
    "characterize signal properties of the white matter lesion": "signal intensity",
    "crop the image around the brainstem": "image cropping",
    "remove the cerebellum signal from the image": "tissue removal",
}
"""The example prompts of Table 1, about structures that the bundled weights know."""
NEEDS = {"enhancement": "T1,T1+C", "diffusion restriction": "DWI,ADC"}


@pytest.fixture(scope="module", autouse=True)
def loaded_once() -> Iterator[Agent]:
    """The command loads α at each call; here it is loaded once."""
    agent = Agent.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Agent, "load", lambda *_, **__: agent)
        yield agent


def planned(prompt: str, *options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["plan", prompt, *options, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_the_prompts_are_those_of_all_tasks_of_the_paper() -> None:
    assert tuple(TABLE_1.values()) == TASKS


@pytest.mark.requirement("vp-model plan prints what α would run, or the refusal, without images")
@pytest.mark.parametrize("prompt", TABLE_1)
def test_a_prompt_of_table_1_is_planned_as_its_task(prompt: str) -> None:
    task = TABLE_1[prompt]
    dates = "2025-03-04,2025-03-04" if task in NEEDS else DATES
    code, plan = planned(prompt, "--dates", dates, "--kinds", NEEDS.get(task, "T1,T1"))
    assert code == 0
    assert list(plan) == ["status", "reason", "task", "structures", "program"]
    assert (plan["status"], plan["reason"], plan["task"]) == ("answered", "", task)
    assert plan["structures"] and all(set(entry) == {"name", "side"} for entry in plan["structures"])
    assert all(entry["side"] in ("left", "right", "both", "") for entry in plan["structures"])
    assert plan["program"].startswith(f'task("{task}")\n')


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("segment the pancreas", (), "It can find: amygdala"),
        ("measure the habenula", (), "It can find: amygdala"),
        ("what is the weather today?", (), "It can do these: segmentation"),
        (
            "how much has the right thalamus changed?",
            ("--dates", "2024-03-01"),
            "Given: an image of unknown kind of 2024",
        ),
        ("does the white matter lesion enhance?", ("--kinds", "T1,FLAIR"), "Given: T1 and FLAIR of"),
    ],
)
def test_a_refusal_says_why_and_what_is_possible(prompt: str, options: tuple[str, ...], said: str) -> None:
    code, plan = planned(prompt, *options)
    assert code == 3
    assert list(plan) == ["status", "reason", "task", "structures", "program"]
    assert plan["status"] == "refused" and said in plan["reason"]


def test_without_json_the_program_stands_in_words_too() -> None:
    done = CliRunner().invoke(app, ["plan", "segment the left hippocampus", "--dates", DATES, "--kinds", "T1,T1"])
    assert done.exit_code == 0
    assert 'roi = segment("left hippocampus", v1<MOD>, v2<MOD>)' in done.stdout
    assert "Finds the left hippocampus on v1 (T1, 2024-03-01) and v2 (T1, 2025-03-04): roi." in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--dates", "yesterday"), "no date"),
        (("--kinds", "XRAY"), "XRAY"),
        (("--dates", DATES, "--kinds", "T1"), "1 values for 2 volumes"),
    ],
)
def test_wrong_options_are_named(options: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["plan", "segment the brainstem", *options])
    assert done.exit_code == 2
    assert said in done.output


def test_sequence_types_may_be_in_small_letters() -> None:
    done = CliRunner().invoke(app, ["plan", "segment the brainstem", "--kinds", "t1, Flair"])
    assert "on v1 (T1) and v2 (FLAIR)" in done.stdout


def test_a_refusal_is_short_for_people_and_whole_for_programs(loaded_once: Agent) -> None:
    short = CliRunner().invoke(app, ["plan", "segment the habenula"]).stdout
    assert "`vp-model show` lists them all" in short and len(short) < 1500
    _, plan = planned("segment the habenula")
    assert all(name in plan["reason"] for name in loaded_once.checkpoint.served)
    listed = CliRunner().invoke(app, ["show"]).stdout
    assert all(name in listed for name in loaded_once.checkpoint.served)


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "a.nii").write_text("no image")
    out = str(tmp_path / "file" / "out")
    done = CliRunner().invoke(app, ["run", "segment the brainstem", str(tmp_path / "a.nii"), "--out", out])
    assert done.exit_code == 2 and "--out" in done.output


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("no image")
    done = CliRunner().invoke(
        app, ["run", "segment the brainstem", str(tmp_path / "a.nii"), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2 and "a.nii cannot be read" in done.output


def test_a_folder_that_is_no_checkpoint_is_named() -> None:
    done = CliRunner().invoke(app, ["show", "--checkpoint", "/nowhere"])
    assert done.exit_code == 1
    assert "config.json is missing" in done.output


def test_the_kinds_of_the_command_line_are_those_that_alpha_knows() -> None:
    assert set(KINDS) == set(reading.KINDS)


@pytest.mark.requirement("rigid co-registration across sessions by SimpleITK")
@pytest.mark.parametrize("register", [True, False])
def test_two_sessions_are_laid_on_each_other_unless_it_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded_once: Agent, register: bool
) -> None:
    """α and m see them in one frame; the masks lie on each file's own grid."""
    scan, shift = phantom(), np.eye(4)
    shift[:3, 3] = (4, -3, 5)
    moved = displaced(scan, shift)
    for name, image in (("a", scan), ("b", moved)):
        write_nifti(tmp_path / f"{name}.nii.gz", image.voxels, image.world)
    worlds = []

    def look(prompt: str, found: Arranged, progress: object) -> Outcome:
        volumes = found.volumes
        worlds.extend(volume.world for volume in volumes)
        box = np.zeros(volumes[0].shape, dtype=np.bool_)
        box[4:9, 4:9, 4:9] = True
        mask = Mask("m1", "brainstem", "", "2024-03-01", 0, "v1", "brainstem", box, volumes[0].world)
        transcript = Transcript(prompt, (InputVolume("v1", "T1", "2024-03-01", 0),))
        return Outcome("answered", transcript, loaded_once.identity, masks=(mask,))

    monkeypatch.setattr(loaded_once, "answer", look)
    done = CliRunner().invoke(
        app,
        [
            "run", "segment the brainstem", str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz"), "--dates", DATES,
            "--out", str(tmp_path / "out"), "--json", "--register" if register else "--no-register",
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    written = read_nifti(tmp_path / "out" / answer["masks"][0]["file"])
    np.testing.assert_allclose(written.world, scan.world, atol=1e-5)
    if register:
        first, second = answer["alignments"]
        assert (first["volume"], first["method"], second["method"]) == ("v1", "rigid", "reference")
        middle = np.append((np.array(scan.voxels.shape) - 1) / 2, 1.0)
        apart = worlds[0] @ middle - worlds[1] @ np.linalg.solve(moved.world, shift @ scan.world @ middle)
        assert np.linalg.norm(apart) < 1.0
    else:
        assert answer["alignments"] == []
        np.testing.assert_allclose(worlds[0], scan.world, atol=1e-5)
