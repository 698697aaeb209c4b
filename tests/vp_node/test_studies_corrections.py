"""What a site knows better than the headers of its scanners: rules in the database that correct what volumes are."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.vp_node.prompts_support.cli import CliNode
from tests.vp_node.runs_support.index import closed_study, receive
from tests.vp_node.runs_support.studies import study_uid, write_phantom
from vp_node.database.models import StudyState
from vp_node.runs.scheduling import settle_study
from vp_node.studies.corrections import VolumeRule
from vp_node.studies.headers import read_header
from vp_node.studies.understanding import understand


@pytest.fixture
def node(tmp_path: Path) -> CliNode:
    return CliNode(tmp_path / "node")


def test_the_first_rule_that_fits_corrects_a_volume_and_is_its_evidence(tmp_path: Path) -> None:
    headers = [read_header(path) for path in write_phantom(tmp_path, description="COR MPR 3D")]
    assert understand(headers).volumes[0].kind == "T1"
    rules = [
        VolumeRule(name="not this", series_description="*flair*", kind="FLAIR"),
        VolumeRule(name="mpr", series_description="*mpr*", is_kind="t1", kind="gre", contrast="post"),
        VolumeRule(name="too late", modality="MR", kind="T2"),
    ]
    (volume,) = understand(headers, rules).volumes
    assert (volume.kind, volume.contrast) == ("GRE", "post")
    assert "GRE: corrected from T1 by the rule 'mpr'" in volume.evidence
    assert "contrast post: corrected from unknown by the rule 'mpr'" in volume.evidence


def test_a_rule_says_that_a_scanners_body_part_is_wrong(tmp_path: Path) -> None:
    headers = [replace(read_header(path), body_part="CHEST") for path in write_phantom(tmp_path)]
    assert understand(headers).volumes[0].head == "no"
    (volume,) = understand(headers, [VolumeRule(name="mr7", modality="MR", head="yes")]).volumes
    assert volume.head == "yes"
    assert "head yes: corrected from no by the rule 'mr7'" in volume.evidence


def test_a_rule_sets_a_volume_aside_with_its_words(tmp_path: Path) -> None:
    headers = [read_header(path) for path in write_phantom(tmp_path, description="T1 research")]
    rule = VolumeRule(name="research", series_description="*research", set_aside="not for diagnosis")
    understanding = understand(headers, [rule])
    assert understanding.volumes == ()
    (aside,) = understanding.set_aside
    assert aside.reason == "set aside by the rule 'research': not for diagnosis"
    assert len(aside.sop_instance_uids) == len(headers)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "T1"}, "needs a condition"),
        ({"modality": "MR"}, "needs a correction"),
        ({"modality": "MR", "kind": "T9"}, "no kind of volume"),
        ({"is_kind": "T9", "kind": "T1"}, "no kind of volume"),
        ({"modality": "US", "kind": "T1"}, "modality"),
    ],
)
def test_a_rule_that_corrects_nothing_or_everything_is_refused(said: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        VolumeRule.model_validate({"name": "rule", **said})


def test_rules_are_added_listed_audited_and_removed_by_command(node: CliNode) -> None:
    node.ok("rules", "add", "flair", "--series-description", "*dark fl*", "--kind", "flair", "--by", "anna")
    node.ok("rules", "add", "first", "--is-kind", "GRE", "--set-aside", "a scout", "--position", "1", "--by", "anna")
    listed = node.ok("rules", "list", "--json").json
    assert [(rule["name"], rule["position"], rule["by"]) for rule in listed] == [
        ("first", 1, "anna"),
        ("flair", 100, "anna"),
    ]
    assert listed[1]["then"] == "kind FLAIR"
    assert "series_description like '*dark fl*'" in node.ok("rules", "list").out
    again = node("rules", "add", "flair", "--is-kind", "GRE", "--kind", "SWI", "--by", "anna")
    assert (again.code, "there already" in again.err) == (3, True)
    wrong = node("rules", "add", "all", "--kind", "SWI", "--by", "anna")
    assert (wrong.code, "needs a condition" in wrong.err) == (2, True)
    assert "no kind of volume" in node("rules", "add", "odd", "--is-kind", "T7", "--kind", "T1", "--by", "anna").err
    node.ok("rules", "remove", "flair", "--by", "bea")
    assert node("rules", "remove", "flair", "--by", "bea").code == 3
    actions = [(entry["action"], entry["actor"]) for entry in node.ok("audit", "--json").json]
    assert actions.count(("rule added", "anna")) == 2
    assert actions.count(("rule removed", "bea")) == 1


def test_a_rule_corrects_a_study_that_is_here_once_it_is_looked_at_again(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study", description="COR MPR 3D")
    study_id = closed_study(node.context, paths)
    uid = study_uid(paths)
    assert node.ok("volumes", uid, "--json").json["volumes"][0]["kind"] == "T1"
    node.ok("rules", "add", "mpr", "--series-description", "*mpr*", "--kind", "FLAIR", "--by", "anna")
    assert node.ok("volumes", uid, "--json").json["volumes"][0]["kind"] == "T1"
    assert "as revision 2" in node.ok("study", "understand", uid, "--by", "anna").out
    settle_study(node.context, study_id, "0" * 64)
    (volume,) = node.ok("volumes", uid, "--json").json["volumes"]
    assert (volume["kind"], volume["taken"]) == ("FLAIR", True)
    assert any("by the rule 'mpr'" in said for said in volume["evidence"])


def test_a_correction_makes_another_run_and_its_removal_makes_none(node: CliNode, tmp_path: Path) -> None:
    node.ok("prompts", "add", node.prompt_file())
    paths = write_phantom(tmp_path / "study", description="COR MPR 3D")
    study_id, uid = receive(node.context, paths), study_uid(paths)
    node.ok("study", "complete", uid)
    (first,) = settle_study(node.context, study_id, "0" * 64)

    def look_again() -> tuple[str, ...]:
        node.ok("study", "understand", uid, "--by", "anna")
        return settle_study(node.context, study_id, "0" * 64)

    assert look_again() == ()
    node.ok("rules", "add", "mpr", "--series-description", "*mpr*", "--kind", "FLAIR", "--by", "anna")
    (second,) = look_again()
    assert second != first
    assert look_again() == ()
    node.ok("rules", "remove", "mpr", "--by", "anna")
    assert look_again() == ()
    node.ok("rules", "add", "none", "--series-description", "*mpr*", "--set-aside", "a test", "--by", "anna")
    (third,) = look_again()
    assert third not in (first, second)


def test_a_study_that_is_still_arriving_cannot_be_looked_at_again(node: CliNode, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path / "study", visit=date(2024, 3, 1))
    receive(node.context, paths)
    said = node("study", "understand", study_uid(paths), "--by", "anna")
    assert (said.code, StudyState.RECEIVING in said.err) == (3, True)
