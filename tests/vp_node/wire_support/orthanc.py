"""A real Orthanc on free loopback ports, for the time of a test."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class OrthancServer:
    ae_title: str
    dicom_port: int
    http_port: int

    @property
    def dicomweb_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """GET, or POST where there is a body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=body)
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 (loopback)
            found: bytes = answer.read()
        return found

    def get(self, path: str) -> Any:
        return json.loads(self.ask(path))

    def studies(self) -> list[str]:
        return list(self.get("/studies"))

    def instances(self) -> list[str]:
        return list(self.get("/instances"))

    def tags(self, instance: str) -> dict[str, Any]:
        return dict(self.get(f"/instances/{instance}/simplified-tags"))

    def file(self, instance: str) -> bytes:
        return self.ask(f"/instances/{instance}/file")

    def send_to_modality(self, modality: str, resource: str) -> None:
        """Routes a study, series or instance to a configured modality by C-STORE, and waits for it."""
        self.ask(f"/modalities/{modality}/store", json.dumps({"Resources": [resource], "Synchronous": True}).encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc_server(
    folder: Path, modalities: Mapping[str, tuple[str, str, int]], dicomweb: bool = False
) -> Iterator[OrthancServer]:
    """Runs while the context is open; skips the test, saying so, where Orthanc, or its plugin, is not installed."""
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not installed: `make components` installs it where it may.")
    if dicomweb and not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed: `make components` installs it where it may.")
    folder.mkdir(parents=True)
    server = OrthancServer("ORTHANC", free_port(), free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": server.ae_title,
        "DicomPort": server.dicom_port,
        "HttpPort": server.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {name: list(where) for name, where in modalities.items()},
        "Plugins": [str(DICOMWEB_PLUGIN)] if dicomweb else [],
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "OverwriteInstances": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        _wait(server, process, folder / "orthanc.log")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(server: OrthancServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.get("/system")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"Orthanc did not start:\n{log.read_text(errors='replace')[-2000:]}")
