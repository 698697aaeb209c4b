"""kill -9 at any point of running and sending: the node resumes, and exactly one SEG and one SR arrive."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.vp_node.runs_support.nodes import PACS, TestNode, node_in
from tests.vp_node.runs_support.prompts import add_prompt
from tests.vp_node.runs_support.studies import write_phantom
from vp_node.database.models import AuditEvent, Delivery, Result
from vp_node.demo.pacs import received, receiving_pacs

KILL_POINTS = [
    "before gather",
    "after infer",
    "before encode",
    "after encode",
    "after check",
    "after send",
    "amid delivery",
    "after delivery",
]


@pytest.mark.requirement("kill -9 at any point of running and sending ends in exactly one SEG and one SR")
@pytest.mark.timeout(600)
def test_a_run_killed_at_every_step_ends_in_one_seg_and_one_sr(tmp_path: Path) -> None:
    with receiving_pacs(tmp_path / "pacs", PACS) as pacs_port, node_in(tmp_path / "node", pacs_port) as node:
        add_prompt(node.sessions, "volumes", "measure the left hippocampus")
        node.start(KILL_POINTS[0], marker="0")
        node.receive(write_phantom(tmp_path / "study"))
        for number, point in enumerate(KILL_POINTS[1:], 1):
            node.wait_until_killed()
            node.start(point, marker=str(number))
        node.wait_until_killed()
        node.start()
        node.wait_for_states("done")
        assert_one_seg_and_one_sr(node, tmp_path / "pacs")


@pytest.mark.requirement("kill -9 while the model computes")
def test_a_run_killed_while_it_computes_is_computed_again(tmp_path: Path) -> None:
    marker = tmp_path / "computing"
    marker.touch()
    with receiving_pacs(tmp_path / "pacs", PACS) as pacs_port, node_in(tmp_path / "node", pacs_port) as node:
        add_prompt(node.sessions, "volumes", f"wait for {marker} and measure")
        node.start()
        node.receive(write_phantom(tmp_path / "study"))
        node.wait_for_states("inferring")
        node.kill()
        marker.unlink()
        node.start()
        node.wait_for_states("done")
        assert_one_seg_and_one_sr(node, tmp_path / "pacs")


def assert_one_seg_and_one_sr(node: TestNode, pacs: Path) -> None:
    arrived = received(pacs)
    assert {modality: len(paths) for modality, paths in arrived.items()} == {"SEG": 1, "SR": 1}
    with node.sessions() as session:
        results = session.query(Result).all()
        assert sorted(result.role for result in results) == ["seg", "sr"]
        assert {delivery.state for delivery in session.query(Delivery)} == {"sent"}
        uids = {dcmread(path).SOPInstanceUID for paths in arrived.values() for path in paths}
        assert uids == {result.sop_instance_uid for result in results}
        assert session.query(AuditEvent).filter(AuditEvent.action == "run queued").count() == 1
