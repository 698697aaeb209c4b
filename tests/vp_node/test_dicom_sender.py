"""The sender against real receivers: what arrives, what is tried again, what is given up."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage

from tests.vp_node.wire_support.nodes import SENDER, make_instance, write_instance
from tests.vp_node.wire_support.orthanc import free_port
from vp_node.config import Peer
from vp_node.dicom.sender import echo, send


def peer_at(port: int) -> Peer:
    return Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)


@contextmanager
def receiver(status: int, sop_class: str = MRImageStorage) -> Iterator[Peer]:
    """A receiver that answers every C-STORE with one status: a fault that real peers cannot be asked for."""
    entity = AE(ae_title="PACS")
    entity.add_supported_context(sop_class)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: status)])
    assert server is not None
    try:
        yield peer_at(server.server_address[1])
    finally:
        server.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_instance(tmp_path / "one.dcm", make_instance())


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, "sent"),
        (0xB000, "sent"),
        (0xA700, "retry"),
        (0xA900, "refused"),
        (0xC000, "refused"),
        (0x0122, "refused"),
    ],
)
def test_the_status_says_whether_it_is_worth_another_try(path: Path, status: int, outcome: str) -> None:
    with receiver(status) as peer:
        (report,) = send(peer, [path], SENDER)
    assert (report.outcome, report.status) == (outcome, status)
    assert f"{status:04X}" in report.message


def test_a_peer_that_takes_nothing_of_the_kind_is_not_asked_again(path: Path) -> None:
    with receiver(0x0000, CTImageStorage) as peer:
        (report,) = send(peer, [path], SENDER)
    assert report.outcome == "refused"
    assert "none of the proposed SOP classes" in report.message


def test_an_unreachable_peer_is_tried_again(path: Path) -> None:
    peer = peer_at(free_port())
    (report,) = send(peer, [path], SENDER, timeout_seconds=5)
    assert report.outcome == "retry"
    assert "cannot be reached" in report.message
    assert not echo(peer, SENDER).reachable


def test_what_is_no_dicom_is_reported_and_the_rest_is_sent(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("no DICOM")
    with receiver(0x0000) as peer:
        reports = send(peer, [other, path], SENDER)
    assert [report.outcome for report in reports] == ["refused", "sent"]


def test_dcmtk_receives_what_was_sent(path: Path, tmp_path: Path) -> None:
    if shutil.which("storescp") is None:
        pytest.skip("DCMTK is not installed: `make components` installs it where it may.")
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    server = subprocess.Popen(["storescp", "-od", str(folder), str(port)])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        assert echo(peer_at(port), SENDER).reachable
        (report,) = send(peer_at(port), [path], SENDER)
    finally:
        server.terminate()
        server.wait()
    assert report.outcome == "sent"
    (received,) = folder.iterdir()
    assert dcmread(received).PixelData == dcmread(path).PixelData
