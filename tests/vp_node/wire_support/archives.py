"""Archives that are asked for earlier studies: Orthanc with DICOMweb, and DCMTK's dcmqrscp."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vp_node.wire_support.orthanc import free_port
from vp_node.config import Peer
from vp_node.dicom.sender import echo, send


def store_all(peer: Peer, paths: Sequence[Path], calling: str = "MODALITY") -> None:
    reports = send(peer, list(paths), calling)
    assert {report.outcome for report in reports} == {"sent"}, [report.message for report in reports][:3]


@contextmanager
def dcmqrscp(folder: Path, node: tuple[str, int]) -> Iterator[Peer]:
    """DCMTK's archive, which knows the node by (AE title, port) on this machine."""
    program = shutil.which("dcmqrscp")
    if program is None:
        pytest.skip("dcmqrscp is not installed: `make components` installs DCMTK where it may.")
    (folder / "database").mkdir(parents=True)
    port = free_port()
    title, node_port = node
    (folder / "dcmqrscp.cfg").write_text(
        f"""NetworkTCPPort  = {port}
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
node = ({title}, localhost, {node_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {folder / "database"} RW (200, 1024mb) ANY
AETable END
"""
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "dcmqrscp.cfg")], stdout=log, stderr=log)
    peer = Peer(name="pacs", ae_title="QRSCP", host="127.0.0.1", port=port)
    try:
        deadline = time.monotonic() + 20
        while not echo(peer, title, 2).reachable:
            assert time.monotonic() < deadline and process.poll() is None, (folder / "log").read_text(errors="replace")
            time.sleep(0.2)
        yield peer
    finally:
        process.terminate()
        process.wait(timeout=20)
