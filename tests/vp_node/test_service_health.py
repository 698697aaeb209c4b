"""A glance at the node says whether it is alive and what needs a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.vp_node.runs_support.index import make_context
from vp_node.database.models import Patient, Study, StudyState
from vp_node.operations.health import Heartbeat, health, read_heartbeats, write_heartbeat

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def beat(folder: Path, worker: str, state: str, at: datetime) -> None:
    write_heartbeat(folder, Heartbeat(worker, 17, state, at, 11112, "test 1 (ab)"))


def test_a_worker_is_alive_while_its_heart_beats(tmp_path: Path) -> None:
    beat(tmp_path, "one", "ready", NOW - timedelta(seconds=30))
    beat(tmp_path, "two", "ready", NOW - timedelta(minutes=5))
    beat(tmp_path, "three", "stopped", NOW)
    alive = {item.worker: item.is_alive(NOW) for item in read_heartbeats(tmp_path)}
    assert alive == {"one": True, "two": False, "three": False}


def test_health_names_what_needs_a_person(tmp_path: Path) -> None:
    context = make_context(tmp_path / "data")
    with context.sessions.begin() as session:
        patient = Patient(key="k", patient_id="p")
        session.add(Study(study_instance_uid="1.2", patient=patient, state=StudyState.HELD))
        session.add(Study(study_instance_uid="1.3", patient=patient, state=StudyState.RECEIVING))
    with context.sessions() as session:
        found = health(context.config, session, NOW)
        assert not found.ok
        assert found.receiving == 1
        assert "No worker is alive" in found.problems[0]
        assert any("1 studies are held" in problem for problem in found.problems)
    beat(context.data_folder, "one", "ready", NOW)
    with context.sessions.begin() as session:
        session.query(Study).update({"state": StudyState.COMPLETE})
    with context.sessions() as session:
        assert health(context.config, session, NOW).ok
