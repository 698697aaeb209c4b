"""Runs, results, deliveries and peers on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, Comprehensive3DSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from sqlalchemy import select

from tests.vp_node.prompts_support.cli import CliNode
from tests.vp_node.runs_support.agents import TestAgent
from tests.vp_node.runs_support.index import closed_study
from tests.vp_node.runs_support.studies import SHAPE, WORLD, study_uid, write_phantom
from vp_model.outcome import InputVolume, Mask, Measurement, Outcome, Step, Transcript
from vp_node.database.models import Delivery, DeliveryState, Result, Run, RunState
from vp_node.demo.pacs import receiving_pacs


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    folder = tmp_path_factory.mktemp("pacs")
    with receiving_pacs(folder, "TESTPACS") as port:
        yield folder, port


@pytest.fixture
def node(tmp_path: Path, pacs: tuple[Path, int]) -> CliNode:
    return CliNode(tmp_path / "node", port=pacs[1])


@pytest.fixture
def run(node: CliNode, tmp_path: Path) -> str:
    """A queued run; its id."""
    paths = write_phantom(tmp_path / "study")
    closed_study(node.context, paths)
    (asked,) = node.ok("ask", "segment the hippocampus", study_uid(paths), "--by", "anna", "--json").json
    return str(asked["run"])


def answer(node: CliNode, identifier: str) -> None:
    """Gives a run an outcome with one mask and one measurement, an object, and a dead letter."""
    folder = node.folder / "data" / "outcome"
    folder.mkdir()
    mask = Mask(
        identifier="m1",
        structure="hippocampus",
        side="left",
        visit="2024-03-01",
        session=0,
        volume="v1",
        label="left hippocampus",
        voxels=np.indices(SHAPE).sum(axis=0) < 20,
        world=WORLD,
    )
    measurement = Measurement("volume", 3.25, "ml", "hippocampus", "left", "2024-03-01", "left hippocampus", ("m1",))
    volumes = (InputVolume("v1", "T1", "2024-03-01", 0),)
    transcript = Transcript("segment the hippocampus", volumes, (Step('roi = segment("left hippocampus", v1<MOD>)'),))
    Outcome(
        "answered", transcript, TestAgent.identity, task="segmentation", masks=(mask,), measurements=(measurement,)
    ).save(folder)
    with node.context.sessions.begin() as session:
        found = session.get_one(Run, identifier)
        found.state = RunState.DONE
        found.outcome_folder = "outcome"
        found.program = transcript.program
        result = Result(
            run_id=identifier,
            role="seg",
            sop_class_uid="1.2",
            sop_instance_uid="1.2.3.4",
            series_instance_uid="1.2.3",
            path="runs/1.dcm",
            digest="d",
        )
        result.deliveries.append(
            Delivery(destination="pacs", state=DeliveryState.DEAD, attempts=12, last_error="pacs did not answer")
        )
        session.add(result)


def test_a_run_is_listed_shown_and_found_by_the_beginning_of_its_id(node: CliNode, run: str) -> None:
    (listed,) = node.ok("runs", "--state", "queued", "--json").json
    assert listed["run"] == run
    assert node.ok("runs", "--state", "failed", "--json").json == []
    assert run[:8] in node.ok("runs", "--study", listed["study"]).out
    assert node.ok("runs", "--prompt", listed["prompt"], "--json").json == [listed]
    assert node("runs", "--state", "lost").code == 2
    shown = node.ok("run", "show", run[:6], "--json").json
    assert (shown["text"], shown["owner"], shown["choices"][0]["name"]) == ("segment the hippocampus", "anna", "v1")
    said = node.ok("run", "show", run.upper()[:8]).out
    assert ("segment the hippocampus" in said, "the only one of kind T1" in said) == (True, True)
    assert node("run", "show", "00000000").code == 3


def test_a_run_is_cancelled_retried_and_only_in_states_that_allow_it(node: CliNode, run: str) -> None:
    assert node("run", "retry", run).code == 3
    node.ok("run", "cancel", run[:8], "--by", "ben")
    said = node("run", "cancel", run)
    assert (said.code, "nothing to cancel" in said.err) == (3, True)
    assert "attempt 2" in node.ok("run", "retry", run).out
    audited = [(item["actor"], item["action"]) for item in node.ok("audit", "--subject", run, "--json").json]
    assert ("ben", "run cancelled") in audited
    assert node.ok("audit", "--actor", "ben", "--since", "2001-01-01", "--json").json
    assert node.ok("audit", "--since", "2999-01-01", "--json").json == []


def test_an_answer_is_shown_with_measurements_objects_and_pictures(node: CliNode, run: str) -> None:
    said = node("results", "show", run)
    assert (said.code, "is queued and has no answer" in said.err) == (3, True)
    answer(node, run)
    said = node.ok("results", "show", run[:8], "--output", str(node.folder / "pictures"))
    for part in ("left hippocampus", "3.25", "ml", "segment(", "1.2.3.4"):
        assert part in said.out
    (picture,) = (node.folder / "pictures").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = node.ok("results", "show", run, "--json").json
    assert shown["outcome"]["measurements"][0]["value"] == 3.25
    (listed,) = node.ok("results", "--run", run, "--json").json
    assert (listed["role"], listed["delivered"]) == ("seg", {"pacs": "dead"})
    assert "pacs: dead" in node.ok("results").out


def test_the_transcript_is_found_by_any_uid_of_what_the_run_made(node: CliNode, run: str) -> None:
    answer(node, run)
    report = Dataset()
    item = Dataset()
    item.UID = "2.25.77"
    report.ContentSequence = [item]
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = Comprehensive3DSRStorage
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.5")
    report.save_as(node.context.data_folder / "report.dcm", enforce_file_format=True)
    with node.context.sessions.begin() as session:
        (made,) = session.scalars(select(Result))
        made.deliveries[0].transaction_uid = "2.25.99"
        session.add(
            Result(
                run_id=run,
                role="sr",
                sop_class_uid=str(report.SOPClassUID),
                sop_instance_uid="1.2.3.5",
                series_instance_uid="1.2.6",
                path="report.dcm",
                digest="d",
            )
        )
    for uid in ("1.2.3.4", "1.2.3", "1.2.3.5", "1.2.6", "2.25.77", "2.25.99"):
        shown = node.ok("results", "show", uid, "--json").json
        assert shown["run"] == run and shown["outcome"]["steps"][0]["code"].startswith("roi = segment(")
    told = node("results", "show", "2.25.78")
    assert (told.code, "has the UID" in told.err) == (3, True)


def test_a_picture_of_images_that_cannot_be_decoded_is_told(node: CliNode, run: str) -> None:
    answer(node, run)
    for path in (node.folder / "data" / "instances").rglob("*.dcm"):
        path.write_bytes(path.read_bytes()[:1200])
    said = node("results", "show", run, "--output", str(node.folder / "pictures"))
    assert said.code == 1
    assert said.err.strip()
    assert "Phantom" not in said.err


def test_dead_letters_are_listed_and_sent_again(node: CliNode, run: str) -> None:
    answer(node, run)
    (dead,) = node.ok("deliveries", "--dead", "--json").json
    assert (dead["destination"], dead["last_error"]) == ("pacs", "pacs did not answer")
    assert "pacs did not answer" in node.ok("deliveries").out
    assert "sent again" in node.ok("deliveries", "resend", str(dead["id"])).out
    assert node.ok("deliveries", "--dead", "--json").json == []
    (pending,) = node.ok("deliveries", "--run", run, "--json").json
    assert (pending["state"], pending["attempts"]) == ("pending", 0)
    assert node("deliveries", "resend", "999").code == 3
    with node.context.sessions.begin() as session:
        session.query(Delivery).update({"state": DeliveryState.DEAD})
    assert "1 deliveries" in node.ok("run", "retry", run).out
    assert node.ok("runs", "--json").json[0]["state"] == "sending"


def test_a_file_that_breaks_the_rules_is_told(node: CliNode, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"no DICOM")
    said = node("check", str(tmp_path / "x.dcm"), "--json")
    assert said.code == 1
    assert said.json[0]["severity"] == "error"
    assert node("check", str(tmp_path / "none.dcm")).code == 2


def test_status_is_1_where_no_worker_is_alive(node: CliNode, run: str) -> None:
    said = node("status", "--json")
    assert (said.code, said.json["ok"], said.json["waiting"]) == (1, False, 1)
    assert "vp-node serve" in node("status").out


def test_peers_are_listed_and_asked_whether_they_answer(node: CliNode) -> None:
    assert [item["name"] for item in node.ok("peers", "--json").json] == ["pacs", "silent"]
    assert "answered" in node.ok("echo", "pacs").out
    said = node("echo", "silent")
    assert (said.code, "cannot be reached" in said.err) == (1, True)
    said = node("echo", "nobody")
    assert (said.code, "Known: pacs, silent" in said.err) == (3, True)
    asked = node("peers", "--echo", "--json")
    assert (asked.code, [item["answers"] for item in asked.json]) == (1, [True, False])


def test_a_folder_is_sent_and_what_is_no_instance_is_left_out(
    node: CliNode, pacs: tuple[Path, int], tmp_path: Path
) -> None:
    paths = write_phantom(tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("no image")
    said = node.ok("send", str(tmp_path / "study"), "pacs", "--json").json
    assert (said["sent"], said["not_sent"], said["no_instances"]) == (len(paths), 0, 1)
    received = {str(dcmread(path).SOPInstanceUID) for path in pacs[0].glob("MR-*.dcm")}
    assert {str(dcmread(path).SOPInstanceUID) for path in paths} <= received
    said = node("send", str(paths[0]), "silent")
    assert (said.code, "1 not sent" in said.err) == (1, True)


def test_a_test_object_is_stored_at_a_peer_and_a_second_time_it_is_the_same(tmp_path: Path) -> None:
    received = []

    def store(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    entity = AE(ae_title="TESTPACS")
    entity.add_supported_context(SecondaryCaptureImageStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        node = CliNode(tmp_path / "node", port=server.server_address[1])
        assert "VPNODE-TEST" in node.ok("send-test", "pacs").out
        uid = node.ok("send-test", "pacs", "--json").json["sop_instance_uid"]
    finally:
        server.shutdown()
    assert [str(item.SOPInstanceUID) for item in received] == [uid, uid]
    assert (received[0].PatientID, received[0].Rows, len(received[0].PixelData)) == ("VPNODE-TEST", 64, 64 * 64)


def test_a_peer_that_takes_no_test_object_is_told(node: CliNode) -> None:
    said = node("send-test", "pacs")  # the small PACS takes no secondary captures
    assert (said.code, said.out) == (1, "")
    assert "TESTPACS" in said.err
