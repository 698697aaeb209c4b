"""The library on its own: the examples of docs/LIBRARY.md run, and what they promise of names and odd images holds."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from nilearn.datasets import load_mni152_template

from vp_model.agent import Agent
from vp_model.asking import ask
from vp_model.program.narration import readable
from vp_model.volume import Volume, write_nifti

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def agent() -> Agent:
    return Agent.load()


@pytest.fixture(scope="module")
def brain() -> Volume:
    image = load_mni152_template(resolution=3)
    voxels = torch.from_numpy(np.asarray(image.get_fdata(), dtype=np.float32))
    return Volume(voxels[None], np.asarray(image.affine, dtype=np.float64), kind="T1")


@pytest.mark.requirement("a researcher uses the library on its own")
def test_the_example_of_the_documentation_runs(
    repository: Path, brain: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = brain.world.copy()
    moved[:3, 3] += (3.0, -2.0, 4.0)
    write_nifti(tmp_path / "2024.nii.gz", brain.voxels, brain.world)
    write_nifti(tmp_path / "2025.nii.gz", brain.voxels, moved)
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((repository / "docs" / "LIBRARY.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 — the documentation of this repository
    said = capsys.readouterr().out
    assert "Given: v1 (baseline, T1, 2024-03-01), v2 (follow-up, T1, 2025-03-04)" in said
    assert re.search(r"left lateral ventricle volume \d+\.\d+ ml 2024-03-01", said)
    assert list(tmp_path.glob("left lateral ventricle baseline.nii.gz"))


def test_masks_lie_on_the_volume_of_their_own_name_whatever_the_order(agent: Agent, brain: Volume) -> None:
    moved = brain.world.copy()
    moved[:3, 3] += (3.0, -2.0, 4.0)
    late = Volume(brain.features, moved, "sub-01 late!", "T1", date(2025, 3, 4))
    early = Volume(brain.features, brain.world, "sub-01 early!", "T1", date(2024, 3, 1))
    outcome = ask(agent, "segment the brainstem", [late, early])
    assert outcome.status == "answered"
    worlds = {mask.volume: mask.world for mask in outcome.masks}
    assert set(worlds) == {late.name, early.name}
    np.testing.assert_array_equal(worlds[late.name], late.world)
    np.testing.assert_array_equal(worlds[early.name], early.world)
    assert {item.volume for item in outcome.alignments} == {late.name, early.name}
    assert "Given: v1 (sub-01 early!, T1, 2024-03-01), v2 (sub-01 late!, T1, 2025-03-04)" in readable(
        outcome.transcript
    )


def test_a_name_leaves_a_single_answer_as_it_is(agent: Agent, brain: Volume) -> None:
    plain, named = (agent.run("segment the brainstem", [brain.named(name)]) for name in ("v1", "show me"))
    assert named.masks[0].volume == "show me" and plain.masks[0].volume == "v1"
    np.testing.assert_array_equal(named.masks[0].voxels, plain.masks[0].voxels)


def test_several_prompts_share_what_m_saw_of_volumes_of_any_name(agent: Agent, brain: Volume) -> None:
    scan = brain.named("scan")
    sight = agent.sight([scan])
    apart = agent.run("segment the left thalamus", [scan])
    shared = agent.run("segment the left thalamus", [scan], sight=sight)
    np.testing.assert_array_equal(shared.masks[0].voxels, apart.masks[0].voxels)


def test_a_blank_image_is_refused_not_measured(agent: Agent, brain: Volume) -> None:
    blank = Volume(torch.zeros_like(brain.features), brain.world, kind="T1")
    outcome = agent.run("what is the volume of the left hippocampus?", [blank])
    assert (outcome.status, outcome.measurements) == ("refused", ())
    assert "nothing to see" in outcome.reason


def test_a_change_between_sessions_without_dates_is_measured_without_its_rate(agent: Agent, brain: Volume) -> None:
    volumes = [Volume(brain.features, brain.world, name, "T1", session=index) for index, name in enumerate("ab")]
    outcome = agent.run("how much has the left thalamus grown?", volumes)
    assert outcome.status == "answered", outcome.reason
    names = [item.name for item in outcome.measurements]
    assert "volume change" in names and "annual volume change" not in names
    assert any("dates of the sessions are not known" in text.text for text in outcome.texts)
