"""What a peer that was let in may use up: disk, memory and files of the node, and what it gets told."""

from __future__ import annotations

import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from sqlalchemy import func, select

from tests.vp_node.wire_support.nodes import SENDER, Receiving, make_config, make_instance, receiving, write_instance
from vp_node.config import Config, DicomSection, Peer
from vp_node.database.models import Instance
from vp_node.dicom.sender import echo, send

MEGABYTE = 1 << 20
COMMAND, DATA, LAST = 1, 0, 2
"""Bits of the message control header (PS3.8 E.2)."""
STORE_REQUEST, FIND_REQUEST = 0x0001, 0x0020


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Receiving]:
    with receiving(make_config(tmp_path / "node", maximum_instance_gb=0.002)) as running:
        yield running


@contextmanager
def associated(node: Receiving, syntax: str | None = None) -> Iterator[Association]:
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(MRImageStorage, syntax)
    entity.dimse_timeout = 20
    association = entity.associate("127.0.0.1", node.listener.port, ae_title="VOXELPROMPT")
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.abort()


def fragment(association: Association, control: int, data: bytes) -> None:
    """Sends one P-DATA-TF PDU with one PDV (PS3.8 9.3.5), past pynetdicom's own order of messages."""
    context = association.accepted_contexts[0].context_id
    item = struct.pack(">IBB", len(data) + 2, context, control) + data
    association.dul.socket.socket.sendall(struct.pack(">BBI", 4, 0, len(item)) + item)  # type: ignore[union-attr, operator]


def command(field: int) -> bytes:
    """A request whose data set follows."""
    request = Dataset()
    request.AffectedSOPClassUID = MRImageStorage
    request.CommandField = field
    request.MessageID = 1
    request.Priority = 2
    request.CommandDataSetType = 0x0001
    if field == STORE_REQUEST:
        request.AffectedSOPInstanceUID = "1.2.3"
    encoded = encode(request, True, True)
    assert encoded is not None
    return b"\x00\x00\x00\x00\x04\x00\x00\x00" + struct.pack("<I", len(encoded)) + encoded


def incoming(node: Receiving) -> list[Path]:
    return list((node.config.node.data_folder / "incoming").iterdir())


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.requirement("disk per peer is bounded while a data set is arriving")
def test_a_data_set_that_never_ends_stops_taking_disk_at_the_limit(node: Receiving) -> None:
    with associated(node) as association:
        fragment(association, COMMAND | LAST, command(STORE_REQUEST))
        for _ in range(40):
            fragment(association, DATA, bytes(MEGABYTE // 2))
        time.sleep(1)
        assert sum(path.stat().st_size for path in incoming(node)) < 3 * MEGABYTE
    soon(lambda: not incoming(node))
    assert echo(node.peer, SENDER).reachable


def test_an_instance_over_the_limit_is_told_so(node: Receiving) -> None:
    with associated(node) as association:
        large = make_instance(Rows=2048, Columns=1024, PixelData=bytes(4 * MEGABYTE))
        answer = association.send_c_store(large)
        assert answer.Status & 0xF000 == 0xC000
        assert "larger" in answer.ErrorComment
        assert association.send_c_store(make_instance()).Status == 0
    assert incoming(node) == []


@pytest.mark.requirement("a connection that is lost leaves nothing behind")
def test_half_a_data_set_is_removed_when_its_connection_ends(node: Receiving) -> None:
    with associated(node) as association:
        fragment(association, COMMAND | LAST, command(STORE_REQUEST))
        fragment(association, DATA, bytes(MEGABYTE // 2))
        soon(lambda: bool(incoming(node)))
    soon(lambda: not incoming(node))


@pytest.mark.parametrize("control", [COMMAND, DATA], ids=["command set", "identifier"])
@pytest.mark.requirement("memory per peer is bounded")
def test_a_message_that_is_kept_in_memory_is_cut_off(node: Receiving, control: int) -> None:
    with associated(node) as association:
        if control == DATA:
            fragment(association, COMMAND | LAST, command(FIND_REQUEST))
        with pytest.raises(OSError):
            for _ in range(200):
                fragment(association, control, bytes(MEGABYTE // 2))
                time.sleep(0.005)
    assert echo(node.peer, SENDER).reachable


def test_a_data_set_that_inflates_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with receiving(make_config(tmp_path / "node", maximum_instance_gb=0.05)) as node:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = squeeze.compress(b"\x09\x00\x01\x00UN\x00\x00\xf0\xff\xff\x1f")
        for _ in range(300):
            bomb += squeeze.compress(bytes(MEGABYTE))
        bomb += squeeze.flush()
        with associated(node, DeflatedExplicitVRLittleEndian) as association:
            # Otherwise its own thread may take the answer first, as it does not know that anything was asked.
            association._reactor_checkpoint.clear()
            soon(lambda: association._is_paused)
            fragment(association, COMMAND | LAST, command(STORE_REQUEST))
            fragment(association, DATA | LAST, bomb)
            _, answer = association.dimse.get_msg(block=True)
            association._reactor_checkpoint.set()
        assert answer is not None and answer.Status & 0xF000 == 0xC000  # type: ignore[union-attr, operator]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
        assert incoming(node) == []


def test_a_deflated_instance_is_stored(node: Receiving, tmp_path: Path) -> None:
    dataset = make_instance()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = write_instance(tmp_path / "deflated.dcm", dataset)
    assert [report.outcome for report in send(node.peer, [path], SENDER)] == ["sent"]


@pytest.mark.requirement("who cannot be checked is not let in")
def test_a_peer_whose_host_cannot_be_looked_up_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path / "node")
    dicom = DicomSection(host="127.0.0.1", port=0, minimum_free_disk_gb=0.05)
    broken = Peer(name="broken", ae_title="BROKEN", host="pacs..example")
    with receiving(Config(node=config.node, dicom=dicom, peers=(broken,))) as node:
        assert not echo(node.peer, "BROKEN").reachable


@pytest.mark.requirement("nothing that was acknowledged is ever deleted by a start")
def test_files_that_an_older_index_does_not_know_are_kept(node: Receiving, tmp_path: Path) -> None:
    path = write_instance(tmp_path / "one.dcm", make_instance())
    assert [report.outcome for report in send(node.peer, [path], SENDER)] == ["sent"]
    node.listener.stop()
    with node.sessions.begin() as session:  # as after an older copy of the database was put back
        for row in session.scalars(select(Instance)):
            session.delete(row)
    folder = node.config.node.data_folder
    with receiving(node.config) as again, again.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 0
        assert len(list(folder.rglob("*.dcm"))) == 1
