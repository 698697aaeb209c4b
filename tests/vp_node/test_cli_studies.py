"""What arrived, as the command line tells it: studies, series, volumes with their reasons, folders."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.vp_node.prompts_support.cli import CliNode
from tests.vp_node.runs_support.index import closed_study, receive
from tests.vp_node.runs_support.studies import SHAPE, WORLD, study_uid, write_phantom
from vp_node.cli import app
from vp_node.database.models import Study, StudyState


@pytest.fixture
def node(tmp_path: Path) -> CliNode:
    return CliNode(tmp_path / "node")


def corners(volume: dict[str, Any]) -> np.ndarray:
    ends = [(0, size - 1) for size in volume["shape"]]
    points = np.array([[*point, 1] for point in itertools.product(*ends)], dtype=float)
    return np.array(sorted((np.asarray(volume["world"]) @ points.T).T[:, :3].round(3).tolist()))


def test_studies_series_and_volumes_are_listed_with_reasons(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study")
    closed_study(node.context, paths)
    uid = study_uid(paths)
    (study,) = node.ok("studies", "--json").json
    assert (study["study"], study["state"], study["series"], study["instances"]) == (uid, "complete", 1, SHAPE[2])
    assert uid in node.ok("studies").out
    (series,) = node.ok("series", uid[:40], "--json").json
    assert (series["modality"], series["volumes"], series["own_result"]) == ("MR", 1, False)
    assert "T1 MPRAGE" in node.ok("series", uid[-6:]).out
    found = node.ok("volumes", uid, "--json").json
    (volume,) = found["volumes"]
    assert (volume["name"], volume["kind"], volume["taken"]) == ("v1", "T1", True)
    assert "the only one of kind T1" in volume["reason"]
    np.testing.assert_allclose(corners(volume), corners({"shape": SHAPE, "world": WORLD}), atol=0.01)
    said = node.ok("volumes", uid).out
    assert ("the only one of kind T1" in said, "20×24×10" in said) == (True, True)


def test_nothing_names_a_patient(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study", patient_id="SECRET-ID")
    closed_study(node.context, paths)
    uid = study_uid(paths)
    node.ok("prompts", "add", node.prompt_file())
    node.ok("ask", "measure", uid)
    commands = [
        ["studies"],
        ["series", uid],
        ["volumes", uid],
        ["runs"],
        ["audit"],
        ["prompts", "dry-run", "volumes", "--no-program"],
        ["inspect", str(tmp_path / "study")],
    ]
    for command in commands:
        for more in ([], ["--json"]):
            said = node.ok(*command, *more)
            assert "SECRET" not in said.out + said.err
            assert "Phantom^Test" not in said.out + said.err


def test_volumes_of_a_prompt_have_the_reasons_of_its_selection(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study")
    closed_study(node.context, paths)
    file = Path(node.prompt_file("flair"))
    file.write_text(file.read_text() + '\n[selection]\nkinds = ["FLAIR"]\n')
    node.ok("prompts", "add", str(file))
    (volume,) = node.ok("volumes", study_uid(paths), "--prompt", "flair", "--json").json["volumes"]
    assert (volume["taken"], volume["reason"]) == (False, "its kind, T1, is not one of FLAIR")


def test_a_study_is_named_by_a_part_of_its_uid_that_fits_one_only(node: CliNode, tmp_path: Path) -> None:
    for number in (1, 2):
        closed_study(node.context, write_phantom(tmp_path / str(number), patient_id=f"P{number}", seed=number))
    with node.context.sessions.begin() as session:
        for number, study in enumerate(session.query(Study).order_by(Study.id), 1):
            study.study_instance_uid = f"1.2.840.{number}.77"
    assert node.ok("volumes", "1.2.840.1").code == 0
    assert node.ok("volumes", ".2.77").code == 0
    said = node("volumes", "1.2.840")
    assert (said.code, "more than one study" in said.err) == (3, True)
    assert node("volumes", "%%%%%").code == 3
    assert "too short" in node("volumes", "1").err


def test_a_study_is_completed_by_hand_once(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study")
    receive(node.context, paths)
    uid = study_uid(paths)
    assert "known a moment after it is complete" in node.ok("volumes", uid).out
    assert "revision 1" in node.ok("study", "complete", uid, "--by", "anna").out
    assert node("study", "complete", uid).code == 3
    (closed,) = node.ok("audit", "--action", "study closed", "--json").json
    assert (closed["actor"], closed["subject"]) == ("anna", uid)
    assert [item["study"] for item in node.ok("studies", "--state", "complete", "--json").json] == [uid]
    assert node.ok("studies", "--state", StudyState.HELD, "--json").json == []
    assert node("studies", "--state", "lost").code == 2


def test_a_folder_is_inspected_without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantom(tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("no image")
    found = CliRunner().invoke(app, ["inspect", str(tmp_path / "study"), "--json"])
    assert found.exit_code == 0
    data = json.loads(found.stdout)
    assert [(item["kind"], item["shape"]) for item in data["volumes"]] == [("T1", list(SHAPE))]
    assert [item["file"] for item in data["set_aside"]] == ["notes.txt"]
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "study")])
    assert ("1 volume(s)" in shown.stdout, "notes.txt" in shown.stdout) == (True, True)
    assert CliRunner().invoke(app, ["inspect", str(tmp_path / "nowhere")]).exit_code == 2


@pytest.mark.requirement("vp-node volumes shows volumes whose corners match, or a written reason")
@pytest.mark.parametrize("case", ["ico_mixed_orientation_noise", "ct_philips_tilt_phantom", "ge_localizer_3plane"])
def test_volumes_of_a_real_study_say_where_they_lie_or_why_not(node: CliNode, shared_data: Path, case: str) -> None:
    folder = shared_data / "dicom" / case
    paths = sorted((folder / "dicom").rglob("*.dcm"))
    inspected = node.ok("inspect", str(folder / "dicom"), "--json").json
    by_study: dict[str, list[Path]] = {}
    for path in paths:
        by_study.setdefault(study_uid([path]), []).append(path)
    found: list[dict[str, Any]] = []
    aside = 0
    for uid, group in by_study.items():
        closed_study(node.context, group)
        listed = node.ok("volumes", uid, "--json").json
        found += listed["volumes"]
        aside += len(listed["set_aside"])
    assert sorted(item["identifier"] for item in found) == sorted(item["identifier"] for item in inspected["volumes"])
    assert aside == len([item for item in inspected["set_aside"] if item["instances"]])
    assert all(item["reason"] for item in found)
    by_identifier = {item["identifier"]: item for item in inspected["volumes"]}
    for item in found:
        np.testing.assert_allclose(corners(item), corners(by_identifier[item["identifier"]]), atol=0.001)
