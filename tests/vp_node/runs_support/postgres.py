"""A PostgreSQL server of one's own on a free loopback port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vp_node.runs_support.nodes import free_port

ACCOUNT = "postgres"
"""The server refuses to run as root: it then runs as this user, which Debian's package makes."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yields an SQLAlchemy URL of an empty database; skips the test where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: run `make components` to test with several workers.")
    folder = Path(tempfile.mkdtemp(prefix="vp-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, ACCOUNT)
    port = free_port()
    data = str(folder / "data")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        _run(programs / "initdb", "-D", data, "-U", "vp", "-A", "trust", "--no-sync")
        _run(programs / "pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://vp@127.0.0.1:{port}/postgres"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def _run(program: Path, *arguments: str) -> None:
    prefix = ["runuser", "-u", ACCOUNT, "--"] if os.getuid() == 0 else []
    subprocess.run([*prefix, str(program), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")
