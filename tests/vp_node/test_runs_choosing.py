"""Which volumes a prompt takes: of the study, and of the patient's earlier ones."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.vp_node.runs_support.index import close, closed_study, make_context, receive
from tests.vp_node.runs_support.studies import move_into_study, study_uid, write_phantom
from vp_node.compute.codec import volume_from_json, volume_to_json
from vp_node.database.models import SetAsideSeries, Study, Volume
from vp_node.runs import understanding
from vp_node.runs.choosing import choose_for
from vp_node.runs.context import RunContext
from vp_node.runs.understanding import not_understood, stored_volumes
from vp_node.studies.headers import read_header
from vp_node.studies.understanding import understand
from vp_node.studies.volume_set import SeriesSelection


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(tmp_path / "data")


def study_on(context: RunContext, folder: Path, visit: date, patient: str = "P1") -> int:
    return closed_study(context, write_phantom(folder, patient_id=patient, visit=visit))


def test_a_volume_survives_json_and_the_moving_of_the_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    headers = [read_header(path) for path in write_phantom(folder)]
    (volume,) = understand(headers).volumes
    data = json.loads(json.dumps(volume_to_json(volume, relative_to=folder)))
    assert str(folder) not in json.dumps(data)
    moved = volume_from_json(data, tmp_path / "elsewhere")
    np.testing.assert_array_equal(moved.world, volume.world)
    assert [frame.path.name for frame in moved.frames] == [frame.path.name for frame in volume.frames]
    assert [frame.stored for frame in moved.frames] == [frame.stored for frame in volume.frames]
    assert all(frame.stored is not None for frame in moved.frames)
    assert moved.frames[0].path.parent == tmp_path / "elsewhere"
    for name in ("identifier", "shape", "visit", "kind", "flags", "splits", "evidence", "patient_key"):
        assert getattr(moved, name) == getattr(volume, name)


def test_a_closed_study_is_understood_once_for_each_revision(context: RunContext, tmp_path: Path) -> None:
    study_id = study_on(context, tmp_path / "first", date(2024, 3, 1))
    with context.sessions() as session:
        assert not_understood(session) == []
        assert session.query(Volume).filter(Volume.study_id == study_id, Volume.revision == 1).count() == 1
    late = write_phantom(tmp_path / "late", seed=1, description="T2 TSE")
    move_into_study(late, study_uid(sorted((tmp_path / "first").glob("*.dcm"))))
    assert receive(context, late) == study_id
    close(context, study_id)
    with context.sessions() as session:
        study = session.get_one(Study, study_id)
        assert study.revision == 2
        assert len(stored_volumes(session, study, context.data_folder)) == 2


def test_a_study_that_cannot_be_understood_is_set_aside_with_the_reason(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(headers: object, rules: object) -> None:
        raise ZeroDivisionError("Doe^John")

    monkeypatch.setattr(understanding, "understand", fail)
    study_id = study_on(context, tmp_path / "first", date(2024, 3, 1))
    with context.sessions() as session:
        (row,) = session.query(SetAsideSeries).filter(SetAsideSeries.study_id == study_id)
        assert "ZeroDivisionError" in row.reason
        assert "Doe" not in row.reason
        assert len(row.sop_instance_uids) == 10
        assert not_understood(session) == []


def test_one_session_is_the_study_that_was_asked_about(context: RunContext, tmp_path: Path) -> None:
    study_on(context, tmp_path / "before", date(2023, 3, 1))
    asked = study_on(context, tmp_path / "asked", date(2024, 3, 1))
    study_on(context, tmp_path / "later", date(2025, 3, 1))
    with context.sessions() as session:
        choice = choose_for(session, session.get_one(Study, asked), SeriesSelection(), context.data_folder)
    assert [(entry["name"], entry["visit"]) for entry in choice.entries] == [("v1", "2024-03-01")]
    assert choice.other_digests == ()


def test_several_sessions_are_the_latest_up_to_the_study_and_never_another_patients(
    context: RunContext, tmp_path: Path
) -> None:
    for year in (2021, 2022, 2023):
        study_on(context, tmp_path / str(year), date(year, 3, 1))
    study_on(context, tmp_path / "other", date(2023, 6, 1), patient="P2")
    asked = study_on(context, tmp_path / "asked", date(2024, 3, 1))
    study_on(context, tmp_path / "later", date(2025, 3, 1))
    with context.sessions() as session:
        study = session.get_one(Study, asked)
        choice = choose_for(session, study, SeriesSelection(sessions=3), context.data_folder)
        digests = {item.study_date: item.input_digest for item in session.query(Study)}
    taken = {entry["name"]: (entry["session"], entry["visit"]) for entry in choice.entries if entry["taken"]}
    assert taken == {"v1": (0, "2022-03-01"), "v2": (1, "2023-03-01"), "v3": (2, "2024-03-01")}
    (left,) = [entry for entry in choice.entries if not entry["taken"]]
    assert left["visit"] == "2021-03-01"
    assert "not among the 3 latest" in left["reason"]
    assert set(choice.other_digests) == {digests[date(2022, 3, 1)], digests[date(2023, 3, 1)]}


def test_studies_of_one_day_are_joined_where_they_answer_one_order(context: RunContext, tmp_path: Path) -> None:
    visit = date(2024, 3, 1)
    asked, second, other, empty, later = (
        write_phantom(tmp_path / str(number), visit=day, seed=number)
        for number, day in enumerate([visit, visit, visit, visit, date(2024, 3, 2)])
    )
    for paths, accession in ((asked, "A77"), (second, "A77"), (other, "A78"), (empty, "0000"), (later, "A77")):
        for path in paths:
            dataset = dcmread(path)
            dataset.AccessionNumber = accession
            dataset.save_as(path)
    asked_id, second_id, *_, later_id = (closed_study(context, paths) for paths in (asked, second, other, empty, later))
    with context.sessions() as session:
        choice = choose_for(session, session.get_one(Study, asked_id), SeriesSelection(), context.data_folder)
        alone = choose_for(session, session.get_one(Study, later_id), SeriesSelection(), context.data_folder)
        kept = json.dumps([row.description for row in session.query(Volume)])
    assert {entry["study_id"] for entry in choice.entries if entry["taken"]} == {asked_id, second_id}
    assert {entry["study_id"] for entry in alone.entries if entry["taken"]} == {later_id}
    assert "A77" not in kept


def test_studies_of_one_day_are_joined_where_they_share_a_frame_of_reference(
    context: RunContext, tmp_path: Path
) -> None:
    """A scan that was filed as two studies is one session; another examination of that day is not part of it."""
    visit = date(2024, 3, 1)
    asked = write_phantom(tmp_path / "asked", visit=visit)
    frame = str(dcmread(asked[0]).FrameOfReferenceUID)
    second = write_phantom(tmp_path / "second", visit=visit, description="T1 second", seed=1)
    move_into_study(second, "1.2.840.99.1", frame)
    elsewhere = write_phantom(tmp_path / "elsewhere", visit=visit, description="T1 elsewhere", seed=2)
    move_into_study(elsewhere, "1.2.840.99.2", "1.2.840.99.3")
    foreign = write_phantom(tmp_path / "foreign", visit=visit, description="T1 foreign", seed=3, patient_id="P2")
    move_into_study(foreign, "1.2.840.99.4", frame)
    asked_id, second_id, *_ = (closed_study(context, paths) for paths in (asked, second, elsewhere, foreign))
    with context.sessions() as session:
        choice = choose_for(session, session.get_one(Study, asked_id), SeriesSelection(), context.data_folder)
        other = session.get_one(Study, second_id)
    assert {(entry["study_id"], entry["session"]) for entry in choice.entries if entry["taken"]} == {
        (asked_id, 0),
        (second_id, 0),
    }
    assert choice.other_digests == (other.input_digest,)
