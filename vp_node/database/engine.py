"""Opening the index: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

BUSY_TIMEOUT_MILLISECONDS = 30_000
WRITES = "vp_writes"
"""Execution option of connections whose transactions write."""


def create_database_engine(url: str) -> Engine:
    """An engine whose commits are durable.

    SQLite runs with a write-ahead log, so that readers do not wait for writers, and with `synchronous=FULL`, so that a
    commit is on the disk when it returns: the answer to a C-STORE depends on it. Transactions that write
    (`sessions.begin()`) begin IMMEDIATE, because one that reads first and writes later would fail instead of waiting
    when another wrote in between. Those that read (`sessions()`) begin deferred and hold nobody up.
    """
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MILLISECONDS / 1000})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy, not the driver, says when a transaction begins
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")

    return engine


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Brings the tables to the newest revision; two processes that start together do it one after the other."""
    configuration = AlembicConfig()
    configuration.set_main_option("script_location", str(files("vp_node.database").joinpath("migrations")))
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305187)")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)


class Sessions(sessionmaker[Session]):
    """`sessions()` for reading; `sessions.begin()` for one transaction that may write, committed at its end."""

    def begin(self) -> AbstractContextManager[Session]:
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self(bind=self.kw["bind"].execution_options(**{WRITES: True})) as session, session.begin():
            yield session


def session_factory(engine: Engine) -> sessionmaker[Session]:
    return Sessions(engine, expire_on_commit=False)
