"""Whatever volumes are called, in whatever order, programs know them as v1, v2, …; contradictions are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vp_model.arrangement import arranged
from vp_model.outcome import DerivedVolume, Mask, Measurement, ModelIdentity, Outcome, Transcript
from vp_model.volume import Volume

FIRST, SECOND = date(2024, 3, 1), date(2025, 3, 4)


def volume(name: str = "", kind: str = "T1", visit: date | None = None, session: int = 0, shift: float = 0.0) -> Volume:
    world = np.diag([2.0, 2.0, 4.0, 1.0])
    world[0, 3] = shift
    return Volume(torch.arange(20.0 * 24 * 12).view(1, 20, 24, 12), world, name, kind, visit, session)


def test_volumes_that_need_nothing_stay_the_objects_that_they_are() -> None:
    volumes = [volume("v1", visit=FIRST), volume("v2", visit=FIRST), volume("v3", visit=SECOND, session=1)]
    found = arranged(volumes)
    assert all(one is other for one, other in zip(found.volumes, volumes, strict=True))
    assert (found.notes, found.apart, found.blank) == ((), (), False)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5, unique=True))
def test_any_names_become_names_of_programs_and_come_back(names: list[str]) -> None:
    found = arranged([volume(name) for name in names])
    assert [found.given[item.name] for item in found.volumes] == names
    assert len({item.name for item in found.volumes}) == len(names)
    assert all(item.name[0] == "v" and item.name[1:].isdigit() for item in found.volumes)


def test_sessions_follow_from_dates_and_volumes_from_sessions() -> None:
    found = arranged([volume("late", visit=SECOND), volume("early", visit=FIRST), volume("late too", visit=SECOND)])
    assert [(item.name, found.given[item.name], item.session) for item in found.volumes] == [
        ("v1", "early", 0),
        ("v2", "late", 1),
        ("v3", "late too", 1),
    ]


def test_sessions_that_are_given_need_no_dates_and_may_be_of_one_day() -> None:
    assert [item.session for item in arranged([volume("b", session=9), volume("a", session=5)]).volumes] == [5, 9]
    assert len(arranged([volume("a", visit=FIRST), volume("b", visit=FIRST, session=1)]).volumes) == 2


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ([], "at least one volume"),
        ([volume("a"), volume("a")], "Two volumes are named 'a'"),
        ([volume("a", visit=SECOND), volume("b", visit=FIRST, session=1)], "Session 1 is of 2024-03-01"),
        ([volume("a", visit=SECOND), volume("b", visit=FIRST), volume("c")], "c has no date"),
        ([volume("a", kind="MPRAGE")], "'MPRAGE', which is none of these: T1, T1\\+C"),
        ([replace(volume("a"), features=torch.zeros(3, 4, 4, 4))], "a holds 3 features"),
        ([replace(volume(), features=torch.zeros(2, 4, 4, 4))], "volume 1 holds 2 features"),
    ],
)
def test_what_is_no_set_for_a_prompt_is_refused_in_words(volumes: list[Volume], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        arranged(volumes)


def test_sequence_types_are_known_in_small_letters() -> None:
    found = arranged([volume("a", kind="flair"), volume("b", kind="t1+c"), volume("c", kind="Unknown")])
    assert [item.kind for item in found.volumes] == ["FLAIR", "T1+C", "unknown"]


def test_values_that_are_no_numbers_become_zero_and_are_counted() -> None:
    broken = volume("scan")
    features = broken.features.clone()
    features[0, 3, 4, 5], features[0, 0, 0, :2] = float("nan"), float("inf")
    found = arranged([replace(broken, features=features)])
    assert torch.isfinite(found.volumes[0].features).all()
    assert found.volumes[0].features[0, 3, 4, 5] == 0
    assert found.notes == ("Voxels of scan that hold no finite number count as 0: 3.",)
    assert torch.isnan(features).any(), "what was given stays as it was"


@pytest.mark.parametrize("value", [0.0, 7.0, float("nan")])
def test_an_image_of_one_value_is_blank(value: float) -> None:
    nothing = replace(volume("scan"), features=torch.full((1, 20, 24, 12), value))
    found = arranged([nothing])
    assert found.blank and "there is nothing to see" in found.notes[-1]
    assert not arranged([nothing, volume("other")]).blank


@pytest.mark.parametrize(("scale", "size"), [(1e-3, "0.04 × 0.048 × 0.048"), (1e3, "40000 × 48000 × 48000")])
def test_a_matrix_that_cannot_be_in_millimetres_is_noticed(scale: float, size: str) -> None:
    scan = volume("scan")
    (note,) = arranged([replace(scan, world=np.diag([scale, scale, scale, 1.0]) @ scan.world)]).notes
    assert note == f"scan covers {size} mm, which is no head: is its world matrix in millimetres?"


def test_volumes_of_one_session_that_lie_apart_are_noticed_by_their_own_names() -> None:
    (note,) = arranged([volume("here"), volume("there", shift=500.0)]).apart
    assert note.startswith("here and there are of one session")
    assert arranged([volume("here"), volume("there", session=1, shift=500.0)]).apart == ()
    assert arranged([volume("here"), volume("beside it", shift=20.0)]).apart == ()


def test_an_outcome_speaks_of_volumes_by_the_names_that_they_came_with() -> None:
    found = arranged([volume("late", visit=SECOND), volume("early", visit=FIRST)])
    grid = np.zeros((2, 2, 2), dtype=np.bool_)
    outcome = Outcome(
        "answered",
        Transcript("prompt", found.inputs),
        ModelIdentity("test", "0", "0" * 64),
        masks=(Mask("m", "brainstem", "", "", 0, "v1", "brainstem", grid, np.eye(4)),),
        measurements=(
            Measurement("volume", 1.0, "ml", "brainstem", "", "", "brainstem"),
            Measurement("mean intensity", 1.0, "1", "brainstem", "", "", "brainstem", volume="v2"),
        ),
        derived=(DerivedVolume("i", "crop", "v2", "T1", np.zeros((2, 2, 2), np.float32), np.eye(4)),),
    )
    told = found.returned(outcome)
    assert [(item.name, item.given) for item in told.transcript.volumes] == [("v1", "early"), ("v2", "late")]
    assert (told.masks[0].volume, told.derived[0].source) == ("early", "late")
    assert [item.volume for item in told.measurements] == ["", "late"]
