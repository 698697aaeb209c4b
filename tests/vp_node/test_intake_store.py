"""Keeping and indexing, on SQLite and on a real PostgreSQL: what races, what is no value, what a node made itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from tests.vp_node.runs_support.postgres import postgres_server
from tests.vp_node.wire_support.nodes import SENDER, make_config, make_instance, receiving, write_instance
from vp_node.config import Config, DatabaseSection
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import Association, Instance, Study, StudyState, now
from vp_node.dicom.sender import send
from vp_node.intake import store as storing
from vp_node.intake.completeness import Decision, Verdict, close, close_whole_studies
from vp_node.intake.digest import dataset_digest
from vp_node.intake.store import Arrival, Stored, move_durably, store
from vp_node.results.codes import PRIVATE_SCHEME
from vp_node.studies.headers import read_header


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    made = make_config(tmp_path / "node")
    if request.param == "sqlite":
        return made
    return made.model_copy(update={"database": DatabaseSection(url=request.getfixturevalue("postgres"))})


@pytest.fixture
def sessions(config: Config) -> Iterator[sessionmaker[Session]]:
    config.node.data_folder.mkdir(parents=True)
    engine = create_database_engine(config.database_url)
    upgrade(engine)
    yield session_factory(engine)
    engine.dispose()


def arrival(folder: Path, dataset: Dataset) -> Arrival:
    path = write_instance(folder / f"{dataset.SOPInstanceUID}.part", dataset)
    return Arrival(path, read_header(path), dataset_digest(path), "id", "", SENDER, "VOXELPROMPT", "127.0.0.1")


@pytest.mark.requirement("a late series makes a superseding revision")
def test_what_arrives_while_its_study_is_being_closed_opens_it_again(
    config: Config, sessions: sessionmaker[Session]
) -> None:
    folder = config.node.data_folder
    first = make_instance()
    assert store(sessions, folder, arrival(folder, first)) is Stored.NEW
    late = arrival(folder, make_instance(StudyInstanceUID=first.StudyInstanceUID))
    known = select(Study).where(Study.study_instance_uid == str(first.StudyInstanceUID))
    outcome: list[Stored] = []
    thread = threading.Thread(target=lambda: outcome.append(store(sessions, folder, late)))
    with sessions.begin() as session:
        study = session.scalars(known.with_for_update()).one()
        thread.start()
        time.sleep(0.5)  # the late one is being stored, and must wait
        close(session, study, config.completeness, Decision(Verdict.CLOSE, "the study is quiet"), now())
    thread.join(timeout=30)
    assert outcome == [Stored.NEW]
    with sessions() as session:
        assert session.scalars(known).one().state == StudyState.RECEIVING


def test_the_same_instance_from_many_senders_at_once_is_stored_once(
    config: Config, sessions: sessionmaker[Session]
) -> None:
    folder = config.node.data_folder
    dataset = make_instance()
    copies = []
    for number in range(6):
        (folder / str(number)).mkdir()
        copies.append(arrival(folder / str(number), dataset))
    outcomes: list[Stored] = []
    threads = [
        threading.Thread(target=lambda copy=copy: outcomes.append(store(sessions, folder, copy))) for copy in copies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == sorted([Stored.NEW] + 5 * [Stored.IDENTICAL])


def test_a_value_that_the_database_cannot_hold_is_refused_for_good_or_kept(config: Config) -> None:
    with receiving(config) as node:
        path = write_instance(config.node.data_folder / "odd.part", make_instance(StudyDescription="a\0b"))
        (report,) = send(node.peer, [path], SENDER)
        assert report.outcome in ("sent", "refused"), report.message


@pytest.mark.requirement("the node never processes its own results")
def test_what_a_node_made_is_kept_and_not_processed_even_if_the_index_does_not_know_it(tmp_path: Path) -> None:
    scheme, equipment = Dataset(), Dataset()
    scheme.CodingSchemeDesignator = PRIVATE_SCHEME
    equipment.Manufacturer = "any"
    made = make_instance(CodingSchemeIdentificationSequence=[scheme], ContributingEquipmentSequence=[equipment])
    with receiving(make_config(tmp_path / "node")) as node:
        path = write_instance(tmp_path / "derived.dcm", made)
        assert [report.outcome for report in send(node.peer, [path], SENDER)] == ["sent"]
        with node.sessions.begin() as session:
            assert session.scalars(select(Instance)).one().own_result
            for row in session.scalars(select(Association)):
                row.closed_at = now()
        assert close_whole_studies(node.sessions, node.config, now() + timedelta(seconds=400)) == []
        with node.sessions() as session:
            assert session.scalars(select(Study)).one().state == StudyState.OWN_RESULTS


def test_names_of_new_folders_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = os.fsync
    monkeypatch.setattr(
        storing.os, "fsync", lambda number: (synced.append(Path(f"/proc/self/fd/{number}").readlink()), sync(number))[1]
    )
    source = tmp_path / "incoming"
    source.write_bytes(b"x")
    move_durably(source, tmp_path / "a" / "b" / "file")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b", source} <= set(synced)
