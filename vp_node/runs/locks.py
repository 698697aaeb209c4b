"""Locks between the processes of one node: who is which worker, and who does what only one may do at a time.

A lock belongs to the process that took it and is free the moment that process is gone, however it ended: file locks in
the data folder where the database is SQLite (one machine), advisory locks where it is PostgreSQL (several machines).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text


class Locks(Protocol):
    def take(self, name: str) -> bool:
        """Takes a lock until `release` or the end of the process; False where another process or thread holds it."""

    def release(self, name: str) -> None: ...

    def is_held(self, name: str) -> bool:
        """Whether anybody, this process included, holds the lock."""


def locks_for(database: Engine, data_folder: Path) -> Locks:
    """Locks that reach as far as the database does: one machine or several."""
    if database.dialect.name == "postgresql":
        return AdvisoryLocks(database)
    return FileLocks(data_folder / "locks")


@contextmanager
def holding(locks: Locks, name: str) -> Iterator[bool]:
    """Yields whether the lock was taken, and releases it."""
    taken = locks.take(name)
    try:
        yield taken
    finally:
        if taken:
            locks.release(name)


class FileLocks:
    """`flock` on files of a folder; a taken file holds the process id of its holder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        with self._guard:
            if name in self._held:
                return False
            descriptor = self._try(name)
            if descriptor is None:
                return False
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
            self._held[name] = descriptor
            return True

    def release(self, name: str) -> None:
        with self._guard:
            os.close(self._held.pop(name))

    def is_held(self, name: str) -> bool:
        with self._guard:
            if name in self._held:
                return True
            descriptor = self._try(name)
            if descriptor is None:
                return True
            os.close(descriptor)
            return False

    def holder(self, name: str) -> str:
        """Process id of who holds the lock, as text; empty where the file does not tell."""
        try:
            return self._path(name).read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def _try(self, name: str) -> int | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _path(self, name: str) -> Path:
        safe = "".join(character if character.isalnum() or character in "-_" else "-" for character in name)
        return self._folder / f"{safe[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock"


class AdvisoryLocks:
    """Session-level advisory locks of PostgreSQL, all on one connection of their own.

    When the connection is lost the server frees the locks; `take` then answers as if none had ever been taken.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guard = threading.Lock()
        self._connection: Connection | None = None
        self._held: set[str] = set()

    def take(self, name: str) -> bool:
        with self._guard:
            connection = self._connected()
            if name in self._held:
                return False
            taken = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": lock_key(name)}))
            if taken:
                self._held.add(name)
            return taken

    def release(self, name: str) -> None:
        with self._guard:
            self._held.discard(name)
            self._connected().scalar(text("SELECT pg_advisory_unlock(:key)"), {"key": lock_key(name)})

    def is_held(self, name: str) -> bool:
        with self._guard:
            connection = self._connected()
            if name in self._held:
                return True
            key = {"key": lock_key(name)}
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
                return True
            connection.scalar(text("SELECT pg_advisory_unlock(:key)"), key)
            return False

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.invalidated or self._connection.closed:
            self._held.clear()
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._connection


def lock_key(name: str) -> int:
    """A signed 64-bit key, the same on every machine (Python's own hash differs between processes)."""
    return int.from_bytes(hashlib.sha256(f"vp-node:{name}".encode()).digest()[:8], "big", signed=True)
