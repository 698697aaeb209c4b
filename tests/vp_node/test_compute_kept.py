"""Standing prompts of a study share what is the same for all: decoded volumes, their alignment, the sight of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.vp_node.runs_support.agents import TestAgent
from tests.vp_node.runs_support.studies import write_phantom
from vp_model.outcome import Outcome
from vp_node.compute import child
from vp_node.compute.codec import RunJob
from vp_node.compute.kept import Kept
from vp_node.config import AlignmentSection
from vp_node.studies.headers import read_header
from vp_node.studies.model import ChosenVolume
from vp_node.studies.sessions import sessions_of
from vp_node.studies.understanding import understand
from vp_node.studies.volume_set import SeriesSelection, choose


class CountingAgent(TestAgent):
    """Counts how often it had to look at volumes anew."""

    def __init__(self) -> None:
        self.looked = 0

    def sight(self, volumes: Sequence[Any]) -> None:
        self.looked += 1


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_phantom(folder)
    return folder


def chosen_of(folder: Path) -> tuple[ChosenVolume, ...]:
    headers = [read_header(path) for path in sorted(folder.rglob("*.dcm"))]
    return choose(sessions_of(understand(headers).volumes), SeriesSelection()).chosen


def run(agent: TestAgent, kept: Kept, folder: Path, out: Path, prompt: str, **settings: Any) -> list[str]:
    said: list[str] = []
    out.mkdir()
    job = RunJob(prompt, chosen_of(folder), out, AlignmentSection(**settings))
    assert child._run(agent, job.to_json(), said.append, kept)["status"] == "answered"
    return said


def test_a_second_prompt_on_the_same_volumes_decodes_nothing_and_answers_the_same(study: Path, tmp_path: Path) -> None:
    agent, kept = CountingAgent(), Kept()
    first = run(agent, kept, study, tmp_path / "a", "measure")
    second = run(agent, kept, study, tmp_path / "b", "measure")
    assert any(text.startswith("decoding") for text in first)
    assert not any(text.startswith("decoding") for text in second)
    assert agent.looked == 1
    one, two = (Outcome.load(tmp_path / name) for name in "ab")
    assert one.measurements == two.measurements


def test_other_alignment_or_changed_files_are_prepared_anew(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    agent, kept = CountingAgent(), Kept()
    run(agent, kept, folder, tmp_path / "a", "measure")
    run(agent, kept, folder, tmp_path / "b", "measure", finest_mm=2.0)
    assert agent.looked == 2
    path = next(folder.rglob("*.dcm"))
    os.utime(path, ns=(1, 1))
    run(agent, kept, folder, tmp_path / "c", "measure", finest_mm=2.0)
    assert agent.looked == 3


def test_what_is_kept_can_be_given_back(study: Path, tmp_path: Path) -> None:
    agent, kept = CountingAgent(), Kept()
    run(agent, kept, study, tmp_path / "a", "measure")
    kept.forget()
    run(agent, kept, study, tmp_path / "b", "measure")
    assert agent.looked == 2
