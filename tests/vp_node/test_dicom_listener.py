"""The listener with real senders: what it keeps, what it refuses and how it says so."""

from __future__ import annotations

import os
import random
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage, Verification
from sqlalchemy import func, select

from tests.vp_node.wire_support.nodes import SENDER, Receiving, make_config, make_instance, receiving, write_instance
from vp_node.config import Config, DicomSection, Peer
from vp_node.database.engine import create_database_engine, session_factory
from vp_node.database.models import Association, AuditEvent, Instance, Patient, Study, StudyState
from vp_node.dicom.sender import echo, send
from vp_node.intake.digest import dataset_digest


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Receiving]:
    with receiving(make_config(tmp_path / "node")) as running:
        yield running


def count(node: Receiving, table: type) -> int:
    with node.sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def store(node: Receiving, dataset: Dataset, sop_instance_uid: str | None = None) -> Dataset:
    """Sends one data set with pynetdicom and returns the answer."""
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(MRImageStorage)
    association = entity.associate("127.0.0.1", node.listener.port, ae_title="VOXELPROMPT")
    assert association.is_established
    try:
        if sop_instance_uid is not None:
            dataset.SOPInstanceUID = sop_instance_uid
        return association.send_c_store(dataset)
    finally:
        association.release()


@pytest.mark.requirement("0x0000 means that the file is synced and its row committed")
def test_what_is_acknowledged_is_in_the_index_and_on_the_disk(node: Receiving) -> None:
    dataset = make_instance()
    assert store(node, dataset).Status == 0x0000
    with node.sessions() as session:
        row = session.scalars(select(Instance)).one()
        path = node.config.node.data_folder / row.path
        assert row.sop_instance_uid == dataset.SOPInstanceUID
        assert dcmread(path).PixelData == dataset.PixelData
        assert dataset_digest(path) == row.digest
        assert row.series.study.state == StudyState.RECEIVING
        assert row.series.study.calling_ae_title == SENDER


def test_dcmtk_can_echo_and_store(node: Receiving, tmp_path: Path) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("DCMTK is not installed: `make components` installs it where it may.")
    path = write_instance(tmp_path / "a.dcm", make_instance())
    where = ["-aec", "VOXELPROMPT", "127.0.0.1", str(node.listener.port)]
    subprocess.run(["echoscu", *where], check=True, timeout=30)
    subprocess.run(["storescu", *where, str(path)], check=True, timeout=30)
    assert count(node, Instance) == 1


@pytest.mark.requirement("an identical resend is a no-op")
def test_an_identical_resend_changes_nothing(node: Receiving) -> None:
    dataset = make_instance()
    assert [store(node, dataset).Status for _ in range(3)] == [0, 0, 0]
    assert count(node, Instance) == 1
    assert list((node.config.node.data_folder / "incoming").iterdir()) == []


@pytest.mark.requirement("other content under the same UID is kept beside the first, and audited")
def test_other_content_under_one_uid_is_kept_beside_the_first(node: Receiving) -> None:
    first = make_instance()
    assert store(node, first).Status == 0
    first.PixelData = bytes(128)
    assert store(node, first).Status == 0
    assert count(node, Instance) == 2
    with node.sessions() as session:
        assert "instance conflict" in session.scalars(select(AuditEvent.action)).all()


def test_two_patients_without_an_id_are_two_patients(node: Receiving) -> None:
    store(node, make_instance(PatientID=""))
    store(node, make_instance(PatientID=""))
    assert count(node, Patient) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"StudyInstanceUID": None}, "StudyInstanceUID"),
        ({"Rows": 0}, "no size"),
        ({"SeriesInstanceUID": None}, "Series"),
    ],
)
@pytest.mark.requirement("bad input gets a clear DIMSE status, and the node goes on")
def test_what_cannot_be_used_is_refused_with_a_reason(node: Receiving, changes: dict[str, object], said: str) -> None:
    answer = store(node, make_instance(**changes))
    assert answer.Status & 0xF000 == 0xC000
    assert said in answer.ErrorComment
    assert count(node, Instance) == 0
    assert store(node, make_instance()).Status == 0


def test_pixels_that_are_cut_off_are_refused(node: Receiving) -> None:
    answer = store(node, make_instance(PixelData=bytes(32)))
    assert answer.Status & 0xF000 == 0xC000
    assert "truncated" in answer.ErrorComment
    assert count(node, Instance) == 0


def test_a_full_disk_is_said_to_be_a_passing_reason(tmp_path: Path) -> None:
    with receiving(make_config(tmp_path / "node", minimum_free_disk_gb=1e9)) as node:
        assert store(node, make_instance()).Status == 0xA700
        assert count(node, Instance) == 0


@pytest.mark.requirement("unknown peers are refused, and the refusal is audited")
def test_unknown_peers_are_refused_and_audited(tmp_path: Path) -> None:
    known = Peer(name="known", ae_title="KNOWN", host="127.0.0.1")
    elsewhere = Peer(name="elsewhere", ae_title="ELSEWHERE", host="192.0.2.1")
    dicom = DicomSection(host="127.0.0.1", port=0, ae_titles=("VOXELPROMPT", "OTHER"), minimum_free_disk_gb=0.05)
    config = make_config(tmp_path / "node")
    config = Config(node=config.node, dicom=dicom, peers=(known, elsewhere))
    with receiving(config) as node:
        assert echo(node.peer, "KNOWN").reachable
        assert echo(node.peer.model_copy(update={"ae_title": "OTHER"}), "KNOWN").reachable
        for peer, calling in (
            (node.peer, "STRANGER"),
            (node.peer, "ELSEWHERE"),
            (node.peer.model_copy(update={"ae_title": "NOBODY"}), "KNOWN"),
        ):
            report = echo(peer, calling)
            assert not report.reachable
            assert "rejected" in report.message
        with node.sessions() as session:
            refused = session.scalars(select(AuditEvent).where(AuditEvent.action == "association refused")).all()
        assert [event.actor for event in refused] == ["STRANGER", "ELSEWHERE", "KNOWN"]


def test_more_associations_than_allowed_are_rejected_for_now(tmp_path: Path) -> None:
    with receiving(make_config(tmp_path / "node", maximum_associations=2)) as node:
        entity = AE(ae_title=SENDER)
        entity.add_requested_context(Verification)
        held = [entity.associate("127.0.0.1", node.listener.port, ae_title="VOXELPROMPT") for _ in range(3)]
        try:
            assert [association.is_established for association in held] == [True, True, False]
            assert held[2].acceptor.primitive.result == 2  # rejected-transient
        finally:
            for association in held[:2]:
                association.release()


@pytest.mark.requirement("the guard works before negotiation")
def test_a_pdu_that_claims_four_gigabytes_is_cut_off(node: Receiving) -> None:
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=20) as connection:
        connection.sendall(struct.pack(">BBL", 0x01, 0, 0xFFFFFFF0))
        connection.settimeout(20)
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(bytes(1 << 16))
                time.sleep(0.01)
    assert echo(node.peer, SENDER).reachable


def test_half_a_pdu_is_cut_off_in_time(tmp_path: Path) -> None:
    with receiving(make_config(tmp_path / "node", network_timeout_seconds=1)) as node:
        with socket.create_connection(("127.0.0.1", node.listener.port), timeout=20) as connection:
            connection.sendall(struct.pack(">BBL", 0x01, 0, 200) + bytes(20))
            connection.settimeout(15)
            assert connection.recv(10) == b""
        assert echo(node.peer, SENDER).reachable


def test_one_address_holds_no_more_connections_than_its_share(tmp_path: Path) -> None:
    with receiving(make_config(tmp_path / "node", maximum_associations_per_address=3)) as node:
        held = [socket.create_connection(("127.0.0.1", node.listener.port)) for _ in range(4)]
        # The handlers of the four run each in a thread of its own: which one is counted last is not fixed.
        with selectors.DefaultSelector() as readable:
            for connection in held:
                readable.register(connection, selectors.EVENT_READ)
            (key, _), *others = readable.select(10)
        assert not others
        assert key.fileobj.recv(1) == b""
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 10
        while not echo(node.peer, SENDER).reachable:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_what_arrives_after_a_study_was_closed_opens_it_again(node: Receiving) -> None:
    first = make_instance()
    store(node, first)
    with node.sessions.begin() as session:
        session.scalars(select(Study)).one().state = StudyState.COMPLETE
    store(node, make_instance(StudyInstanceUID=first.StudyInstanceUID))
    with node.sessions() as session:
        assert session.scalars(select(Study)).one().state == StudyState.RECEIVING


def test_associations_leave_a_row_that_says_how_they_ended(node: Receiving) -> None:
    store(node, make_instance())
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(Verification)
    entity.associate("127.0.0.1", node.listener.port, ae_title="VOXELPROMPT").abort()
    deadline = time.monotonic() + 10
    while True:
        with node.sessions() as session:
            rows = session.scalars(select(Association).order_by(Association.id)).all()
        if all(row.closed_at for row in rows):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [(row.ended_by, row.instances) for row in rows] == [("released", 1), ("aborted", 0)]


def test_many_senders_at_once_lose_nothing(node: Receiving, tmp_path: Path) -> None:
    study = generate_uid()
    paths = [write_instance(tmp_path / f"{n}.dcm", make_instance(StudyInstanceUID=study)) for n in range(24)]
    reports = []

    def deliver(part: list[Path]) -> None:
        reports.extend(send(node.peer, part, SENDER))

    threads = [threading.Thread(target=deliver, args=(paths[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {report.outcome for report in reports} == {"sent"}
    assert count(node, Instance) == 24
    assert count(node, Study) == 1


LISTEN = """
import sys, time
from pathlib import Path
from tests.vp_node.wire_support.nodes import make_config, receiving
with receiving(make_config(Path(sys.argv[1]), port=int(sys.argv[2]))):
    print("listening", flush=True)
    time.sleep(600)
"""


@pytest.mark.requirement("kill -9 at any moment loses no acknowledged instance")
@pytest.mark.timeout(240)
def test_acknowledged_instances_survive_kill(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "node"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    peer = Peer(name="node", ae_title="VOXELPROMPT", host="127.0.0.1", port=port)
    study = generate_uid()
    paths = [write_instance(tmp_path / f"{n}.dcm", make_instance(StudyInstanceUID=study)) for n in range(60)]
    acknowledged: set[str] = set()
    chance = random.Random(7)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", LISTEN, str(folder), str(port)], stdout=subprocess.PIPE, cwd=repository, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "listening\n"
        killer = threading.Timer(chance.uniform(0.05, 1.5), os.kill, (process.pid, signal.SIGKILL))
        killer.start()
        reports = send(peer, paths, SENDER, timeout_seconds=4)
        acknowledged |= {report.sop_instance_uid for report in reports if report.outcome == "sent"}
        killer.join()
        process.wait()
    with receiving(make_config(folder)) as node, node.sessions() as session:
        rows = session.scalars(select(Instance)).all()
        assert acknowledged
        assert acknowledged <= {row.sop_instance_uid for row in rows}
        for row in rows:
            path = folder / row.path
            assert dataset_digest(path) == row.digest
        stored = {str(path.relative_to(folder)) for path in (folder / "instances").rglob("*.dcm")}
        assert stored == {row.path for row in rows}
        open_rows = session.scalars(select(Association).where(Association.closed_at.is_(None))).all()
        assert open_rows == []


def test_no_patient_data_reaches_the_log(node: Receiving, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        store(node, make_instance())
        store(node, make_instance(Rows=0))
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("vp_node"))
    assert "Secret" not in ours and "SECRET" not in ours


def test_the_index_opens_again_after_a_restart(tmp_path: Path) -> None:
    config = make_config(tmp_path / "node")
    with receiving(config) as node:
        store(node, make_instance())
    sessions = session_factory(create_database_engine(config.database_url))
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 1
