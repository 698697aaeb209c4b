"""The tables and their migrations, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, StatementError

from tests.vp_node.runs_support.postgres import postgres_server
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import AuditEvent, Patient
from vp_node.operations.audit import record


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    local = f"sqlite:///{tmp_path / 'node.sqlite'}"
    url = local if request.param == "sqlite" else request.getfixturevalue("postgres")
    made = create_database_engine(url)
    upgrade(made)
    yield made
    made.dispose()


def test_migrations_make_what_the_models_describe(engine: Engine) -> None:
    configuration = AlembicConfig()
    configuration.set_main_option("script_location", str(files("vp_node.database").joinpath("migrations")))
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.check(configuration)


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    upgrade(engine)


def test_times_come_back_aware_and_in_utc(engine: Engine) -> None:
    sessions = session_factory(engine)
    vienna = datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    with sessions.begin() as session:
        session.add(AuditEvent(actor="a", action="clock", at=vienna))
    with sessions() as session:
        found = session.scalars(select(AuditEvent).where(AuditEvent.action == "clock")).all()[-1]
    assert found.at == vienna
    assert found.at.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    sessions = session_factory(engine)
    with pytest.raises(StatementError), sessions.begin() as session:
        session.add(AuditEvent(actor="a", action="b", at=datetime(2026, 3, 1)))  # noqa: DTZ001


def test_the_audit_is_stored_with_the_deed_or_not_at_all(engine: Engine) -> None:
    sessions = session_factory(engine)
    with sessions.begin() as session:
        session.add(Patient(key="twice", patient_id="x"))
    with pytest.raises(IntegrityError), sessions.begin() as session:
        record(session, "node", "must not stay")
        session.add(Patient(key="twice", patient_id="y"))
    with sessions() as session:
        assert "must not stay" not in session.scalars(select(AuditEvent.action)).all()


def test_writers_wait_for_each_other(engine: Engine) -> None:
    sessions = session_factory(engine)
    failures: list[Exception] = []

    def write(name: str) -> None:
        try:
            for number in range(10):
                with sessions.begin() as session:
                    session.scalars(select(AuditEvent).limit(1)).all()
                    record(session, name, f"write {number}")
        except Exception as error:  # noqa: BLE001 (told to the test's thread)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with sessions() as session:
        written = session.scalars(select(AuditEvent).where(AuditEvent.actor.like("writer-%"))).all()
    assert len(written) == 60


def test_who_reads_waits_for_no_writer_and_holds_none_up(engine: Engine) -> None:
    sessions = session_factory(engine)
    with sessions.begin() as writer:
        record(writer, "first", "write")
        writer.flush()
        with sessions() as reader:
            assert reader.scalars(select(AuditEvent).where(AuditEvent.actor == "first")).all() == []
            reader.commit()
    with sessions() as reader:
        before = len(reader.scalars(select(AuditEvent)).all())
        with sessions.begin() as writer:  # while the reader's transaction is open
            record(writer, "second", "write")
        reader.commit()
        assert len(reader.scalars(select(AuditEvent)).all()) == before + 1
