"""Sessions by patient and date, and which volumes a prompt takes, with reasons."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from vp_node.studies.dates import visit_of
from vp_node.studies.headers import InstanceHeader
from vp_node.studies.model import FrameReference, SourceVolume
from vp_node.studies.sessions import sessions_of
from vp_node.studies.volume_set import SeriesSelection, choose

FIRST, SECOND = date(2024, 3, 1), date(2025, 3, 4)


def volume(
    name: str,
    kind: str = "T1",
    visit: date | None = FIRST,
    step: float = 1.0,
    slices: int = 160,
    patient: str = "p",
    study: str | None = None,
    **others: object,
) -> SourceVolume:
    values: dict[str, object] = {
        "identifier": name,
        "patient_key": patient,
        "study_instance_uid": study or f"1.{visit}",
        "series_instance_uid": f"2.{name}",
        "series_number": 1,
        "series_description": name,
        "frame_of_reference_uid": "3",
        "modality": "MR",
        "kind": kind,
        "contrast": "unknown",
        "evidence": (),
        "shape": (256, 256, slices),
        "world": np.diag([1.0, 1.0, step, 1.0]),
        "frames": tuple(FrameReference(f"4.{name}.{k}", "5", Path("x")) for k in range(slices)),
        "visit": visit,
    }
    return SourceVolume(**{**values, **others})  # type: ignore[arg-type]


def names(volumes: list[SourceVolume], **selection: object) -> list[tuple[str, int, str]]:
    chosen = choose(sessions_of(volumes), SeriesSelection(**selection)).chosen  # type: ignore[arg-type]
    return [(item.name, item.session, item.volume.identifier) for item in chosen]


def test_studies_of_one_day_are_one_session_and_sessions_are_in_order() -> None:
    sessions = sessions_of(
        [
            volume("b", visit=SECOND),
            volume("a", study="1.9"),
            volume("c"),
            volume("d", visit=None),
            volume("e", patient="q"),
        ]
    )
    assert [(s.patient_key, s.visit, len(s.volumes)) for s in sessions] == [
        ("p", None, 1),
        ("p", FIRST, 2),
        ("p", SECOND, 1),
        ("q", FIRST, 1),
    ]
    assert len(sessions[1].study_instance_uids) == 2


def test_latest_session_is_taken_unless_more_are_asked_for() -> None:
    volumes = [volume("a"), volume("b", visit=SECOND)]
    assert names(volumes) == [("v1", 0, "b")]
    assert names(volumes, sessions=2) == [("v1", 0, "a"), ("v2", 1, "b")]


def test_distinct_kinds_come_first_and_the_finest_of_each_first() -> None:
    volumes = [
        volume("t1-thick", step=5.0, slices=30),
        volume("t2", "T2"),
        volume("t1-fine"),
        volume("flair", "FLAIR", step=3.0, slices=50),
        volume("t1-post", contrast="post"),
    ]
    assert [name for *_, name in names(volumes)] == ["t1-fine", "t1-post", "flair", "t2", "t1-thick"]


def test_no_more_than_the_limit_per_session_and_the_rest_has_a_reason() -> None:
    volumes = [volume(f"n{i:02}") for i in range(11)]
    result = choose(sessions_of(volumes), SeriesSelection())
    assert [item.name for item in result.chosen] == [f"v{i}" for i in range(1, 9)]
    assert len(result.choices) == 11
    assert all(choice.reason for choice in result.choices)
    assert sum(choice.taken for choice in result.choices) == 8


def test_every_volume_of_every_session_has_a_choice() -> None:
    volumes = [volume("a"), volume("phase", "PHASE", SECOND), volume("b", visit=SECOND), volume("adc", "ADC", SECOND)]
    result = choose(sessions_of(volumes), SeriesSelection())
    assert {choice.volume.identifier: choice.taken for choice in result.choices} == {
        "a": False,
        "phase": False,
        "b": True,
        "adc": False,
    }


@pytest.mark.parametrize("flag", ["missing-slice", "irregular-spacing", "ragged", "single-slice"])
def test_flagged_volumes_are_not_run_unless_asked_for(flag: str) -> None:
    volumes = [volume("a", flags=(flag,))]
    assert names(volumes) == []
    assert names(volumes, flagged_ok=True) == [("v1", 0, "a")]


def test_tilted_and_inverted_volumes_are_taken() -> None:
    assert names([volume("a", "CT", flags=("gantry-tilt", "inverted"))]) == [("v1", 0, "a")]


def test_one_diffusion_direction_stands_for_the_others() -> None:
    def weighted(name: str, b_value: str, direction: str) -> SourceVolume:
        splits = (("b-value", b_value), ("gradient direction", direction))
        return volume(name, "DWI", series_instance_uid="2.dwi", splits=splits)

    volumes = [weighted("b0", "0", "none")] + [weighted(f"d{i}", "1000", f"{i}") for i in range(30)]
    assert sorted(name for *_, name in names(volumes)) == ["b0", "d0"]


def test_selection_narrows_by_what_it_says() -> None:
    volumes = [
        volume("T1 sag", world=np.array([[0, 0, 1, 0], [1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])),
        volume("FLAIR ax", "FLAIR", step=5.0, slices=30),
        volume("T1 ax post", contrast="post"),
    ]
    assert [name for *_, name in names(volumes, orientation="sagittal")] == ["T1 sag"]
    assert next(name for *_, name in names(volumes, kinds=("FLAIR", "T1"))) == "FLAIR ax"
    assert [name for *_, name in names(volumes, contrast="post")] == ["T1 ax post"]
    assert [name for *_, name in names(volumes, contrast="pre")] == ["T1 sag", "FLAIR ax"]
    assert [name for *_, name in names(volumes, max_slice_thickness_mm=2.0)] == ["T1 sag", "T1 ax post"]
    assert [name for *_, name in names(volumes, min_slices=31)] == ["T1 sag", "T1 ax post"]
    assert [name for *_, name in names(volumes, description_contains="flair")] == ["FLAIR ax"]


def test_selection_is_validated_and_survives_json() -> None:
    selection = SeriesSelection(kinds=("T1",), sessions=2)
    assert SeriesSelection.model_validate_json(selection.model_dump_json()) == selection
    for wrong in ({"max_per_session": 9}, {"kind": "T1"}, {"orientation": "oblique"}, {"sessions": 0}):
        with pytest.raises(ValidationError):
            SeriesSelection.model_validate(wrong)


def test_volume_sets_are_of_one_patient() -> None:
    with pytest.raises(ValueError, match="one patient"):
        choose(sessions_of([volume("a"), volume("b", patient="q")]), SeriesSelection())


@pytest.mark.parametrize(
    ("dates", "visit", "flags"),
    [
        ([{"study_date": "20240301"}, {"study_date": "20240301", "acquisition_date": "20240302"}], FIRST, ()),
        # Past midnight, and reconstructed years later.
        ([{"study_date": "20240301", "acquisition_date": "20240302", "content_date": "20290101"}], FIRST, ()),
        ([{"study_date": "20240303", "acquisition_date": "20240302"}], date(2024, 3, 3), ()),
        # The study was made by an import, or a reconstruction, long after the patient was scanned.
        ([{"study_date": "20240601", "acquisition_date": "20240301"}, {}], FIRST, ("study-date-later",)),
        ([{"study_date": "20240301"}, {"study_date": "20240302"}], FIRST, ("several-study-dates",)),
        # Placeholders are no dates.
        ([{"study_date": "19000101", "acquisition_date": "20240301"}], FIRST, ("redacted-date",)),
        ([{"study_date": "2024.03.01"}], FIRST, ()),
        ([{"study_date": "***", "acquisition_date": "20240301"}], FIRST, ("redacted-date",)),
        ([{"study_date": "***", "acquisition_date": "***"}], None, ("redacted-date", "no-date")),
        ([{"series_date": "20240301"}], FIRST, ("no-study-date",)),
        ([{"content_date": "20240399"}], None, ("no-date",)),
        ([{}], None, ("no-date",)),
    ],
)
def test_visit_date_falls_back_and_says_so(
    dates: list[dict[str, str]], visit: date | None, flags: tuple[str, ...]
) -> None:
    headers = [InstanceHeader(Path("x"), "1", "2", "3", "4", "5", "key", **values) for values in dates]  # type: ignore[arg-type]
    assert visit_of(headers) == (visit, flags)
