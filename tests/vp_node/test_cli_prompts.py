"""Prompts on the command line: added, edited, switched, tried, asked once, run again."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tests.vp_node.prompts_support.cli import AGENT, CliNode, write_checkpoint
from tests.vp_node.runs_support.index import closed_study, receive
from tests.vp_node.runs_support.studies import study_uid, write_phantom
from vp_node.compute import child
from vp_node.database.models import AuditEvent, Run, RunState


@pytest.fixture
def node(tmp_path: Path) -> CliNode:
    return CliNode(tmp_path / "node")


@pytest.fixture
def study(node: CliNode, tmp_path: Path) -> str:
    paths = write_phantom(tmp_path / "study")
    closed_study(node.context, paths)
    return study_uid(paths)


def test_a_prompt_is_added_shown_edited_and_switched(node: CliNode) -> None:
    assert "version 1, enabled" in node.ok("prompts", "add", node.prompt_file(), "--by", "anna").out
    assert node("prompts", "add", node.prompt_file()).code == 3
    shown = node.ok("prompts", "show", "volumes").out
    again = node.folder / "again.toml"
    again.write_text(shown)
    assert "says this already: version 1" in node.ok("prompts", "edit", "volumes", str(again)).out
    assert "version 2 now" in node.ok("prompts", "edit", "volumes", node.prompt_file(text="measure all")).out
    listed = node.ok("prompts", "list", "--json").json
    assert [(item["name"], item["version"], item["enabled"], item["text"]) for item in listed] == [
        ("volumes", 2, True, "measure all")
    ]
    earlier = node.ok("prompts", "show", "volumes", "--version", "1", "--json").json
    assert earlier["definition"]["text"] == "measure"
    assert [item["version"] for item in earlier["history"]] == [1, 2]
    node.ok("prompts", "disable", "volumes", "--by", "ben")
    assert "already" in node.ok("prompts", "disable", "volumes").out
    assert not node.ok("prompts", "list", "--json").json[0]["enabled"]
    node.ok("prompts", "enable", "volumes")
    assert "volumes" in node.ok("prompts", "list").out
    audited = node.ok("audit", "--subject", "volumes", "--json").json
    assert [(item["action"], item["actor"]) for item in audited][-1] == ("prompt added", "anna")
    assert ("prompt disabled", "ben") in [(item["action"], item["actor"]) for item in audited]


def test_a_prompt_is_edited_in_an_editor(node: CliNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.ok("prompts", "add", node.prompt_file())
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/measure/segment/")
    assert "version 2 now" in node.ok("prompts", "edit", "volumes").out
    monkeypatch.setenv("EDITOR", "false")
    assert node("prompts", "edit", "volumes").code == 1
    monkeypatch.setenv("EDITOR", "/no/editor")
    assert node("prompts", "edit", "volumes").code == 2
    assert node.ok("prompts", "show", "volumes", "--json").json["definition"]["text"] == "segment"


def test_wrong_prompts_are_told_with_file_and_place(node: CliNode) -> None:
    said = node("prompts", "add", node.prompt_file(more="prioritty = 3"))
    assert said.code == 2
    assert "volumes.toml: prioritty is no setting of a prompt. Did you mean 'priority'?" in said.err
    said = node("prompts", "add", node.prompt_file(more='destinations = ["silent"]'))
    assert (said.code, "receives_results = false" in said.err) == (2, True)
    said = node("prompts", "show", "nothing")
    assert (said.code, "vp-node prompts list" in said.err) == (3, True)
    assert node("prompts", "add", "/no/file.toml").code == 2


def test_the_examples_can_be_saved_and_added(node: CliNode) -> None:
    assert "lateral_ventricles" in node.ok("prompts", "examples").out
    path = node.folder / "example.toml"
    path.write_text(node.ok("prompts", "examples", "lateral_ventricles").out)
    node.ok("prompts", "add", str(path), "--disabled")
    assert node("prompts", "examples", "none").code == 3


def test_a_dry_run_shows_match_volumes_reasons_and_the_models_program(
    node: CliNode, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "DEFAULT_AGENT", AGENT)
    file = node.prompt_file()
    (found,) = node.ok("prompts", "dry-run", file, "--json").json
    assert (found["study_instance_uid"], found["matched"], found["taken"]) == (study, True, 1)
    assert found["plan"]["program"] == "# 1 volumes"
    assert "the only one of kind T1" in found["choices"][0]["reason"]
    node.ok("prompts", "add", node.prompt_file("ct", modality="CT"))
    said = node.ok("prompts", "dry-run", "ct", "--no-program", "--study", study[-8:]).out
    assert "modality is MR, wanted CT" in said
    assert "0 of 1 complete studies match" in said
    assert node.ok("prompts", "dry-run", "ct", "--matching", "--no-program", "--json").json == []
    said = node.ok("prompts", "dry-run", file, "--no-program").out
    assert "yes modality is MR, wanted MR" in said
    with node.context.sessions() as session:
        assert session.query(Run).count() == 0


def test_a_dry_run_whose_model_cannot_be_loaded_still_shows_the_match(
    node: CliNode, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "DEFAULT_AGENT", AGENT)
    monkeypatch.setenv("VP_TEST_BROKEN_CHECKPOINT", "1")
    said = node("prompts", "dry-run", node.prompt_file(), "--json")
    assert said.code == 1
    assert said.json[0]["matched"]
    assert said.json[0]["plan"]["status"] == "failed"


def test_asking_once_queues_a_run_and_asking_again_finds_it(node: CliNode, study: str) -> None:
    asked = node.ok("ask", "segment the hippocampus", study[-10:], "--by", "anna", "--destination", "pacs", "--json")
    (run,) = asked.json
    assert (run["state"], run["requested_by"], run["created"], run["study"]) == ("queued", "anna", True, study)
    again = node.ok("ask", "segment the hippocampus", study, "--by", "anna", "--destination", "pacs")
    assert "asked for before" in again.err
    assert len(node.ok("runs", "--json").json) == 1
    assert node.ok("prompts", "list", "--json").json == []
    assert [item["standing"] for item in node.ok("prompts", "list", "--ad-hoc", "--json").json] == [False]
    assert node("ask", "measure", "9999.9").code == 3
    assert node("ask", "measure", study, "--destination", "nobody").code == 2


def test_nothing_is_asked_of_a_study_that_is_still_arriving(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study")
    receive(node.context, paths)
    said = node("ask", "measure", study_uid(paths))
    assert (said.code, "once it is complete" in said.err) == (3, True)
    with node.context.sessions() as session:
        assert session.query(Run).count() == session.query(AuditEvent).count() == 0


def test_reprocessing_says_what_it_would_do_asks_and_does_it(node: CliNode, study: str, tmp_path: Path) -> None:
    closed_study(node.context, write_phantom(tmp_path / "other", visit=date(2025, 1, 1), patient_id="P2", seed=2))
    node.ok("prompts", "add", node.prompt_file())
    plan = node.ok("reprocess", "--dry-run", "--json").json
    assert [item["action"] for item in plan["plan"]] == ["run", "run"]
    assert node.ok("runs", "--json").json == []
    said = node.ok("reprocess", "--prompt", "volumes", answer="n\n").out
    assert ("2 to run" in said, "Nothing was done" in said) == (True, True)
    assert "1 run(s) are queued" in node.ok("reprocess", "--to", "2024-12-31", "--by", "anna", answer="y\n").out
    (run,) = node.ok("runs", "--json").json
    assert (run["study"], run["requested_by"]) == (study, "anna")
    assert node("reprocess", "--json").code == 2
    with node.context.sessions.begin() as session:
        session.query(Run).update({"state": RunState.FAILED})
    failed = node.ok("reprocess", "--failed-only", "--yes", "--json").json
    assert ([item["action"] for item in failed["plan"]], failed["queued"]) == (["retry"], [run["run"]])
    with node.context.sessions.begin() as session:
        session.query(Run).update({"state": RunState.DONE})
    assert [
        item["action"] for item in node.ok("reprocess", "--to", "2024-12-31", "--dry-run", "--json").json["plan"]
    ] == ["nothing"]
    write_checkpoint(node.folder / "checkpoint", "newer")
    old = run["model_hash"][:10]
    newer = node.ok("reprocess", "--model", old, "--dry-run").out
    assert "the model changed since the last run" in newer
    assert "Nothing fits" in node.ok("reprocess", "--study", study, "--model", "ffff", "--dry-run").out
    assert node("reprocess", "--prompt", "typo", "--dry-run").code == 3


def test_a_checkpoint_that_is_none_is_told(node: CliNode, study: str) -> None:
    (node.folder / "checkpoint" / "config.json").unlink()
    said = node("ask", "measure", study)
    assert (said.code, "config.json is missing" in said.err) == (1, True)
    assert node("config", "check").code == 2
    assert node("model").code == 1


def test_the_model_is_described_without_its_weights(node: CliNode) -> None:
    found = node.ok("model", "--json").json
    assert (found["name"], found["structures"][0]["region"]) == ("small", "left hippocampus")
    assert "left hippocampus" in node.ok("model").out
    assert json.dumps(found)
