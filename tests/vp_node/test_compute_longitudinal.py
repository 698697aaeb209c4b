"""A comparison over time says every date, the change and its rate, whatever the program reported."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp_model.outcome import InputVolume, Mask, Measurement, ModelIdentity, Outcome, Transcript
from vp_node.compute.longitudinal import DAYS_PER_YEAR, complete

FIRST = date(2014, 3, 5)


def measured(name: str, value: float, visit: date, unit: str = "ml", **more: object) -> Measurement:
    base = Measurement(name, value, unit, "lesion", "", visit.isoformat(), "lesion", masks=(f"mask-{visit}",))
    return replace(base, **more)  # type: ignore[arg-type]


def outcome(*measurements: Measurement, masks: tuple[Mask, ...] = (), dates: tuple[date, ...]) -> Outcome:
    volumes = tuple(InputVolume(f"v{n}", "T1", day.isoformat(), n - 1) for n, day in enumerate(dates, 1))
    model = ModelIdentity("m", "1", "ab")
    return Outcome("answered", Transcript("", volumes), model, measurements=measurements, masks=masks)


def named(found: Outcome, name: str, unit: str) -> Measurement:
    return next(item for item in found.measurements if (item.name, item.unit) == (name, unit))


@given(before=st.floats(0.01, 1000), after=st.floats(0, 1000), days=st.integers(1, 8000))
def test_change_percent_and_rate_follow_from_the_two_values(before: float, after: float, days: int) -> None:
    later = FIRST + timedelta(days=days)
    found = complete(outcome(measured("volume", before, FIRST), measured("volume", after, later), dates=(FIRST, later)))
    years = days / DAYS_PER_YEAR
    assert named(found, "volume change", "ml").value == pytest.approx(after - before)
    assert named(found, "relative volume change", "%").value == pytest.approx(100 * (after - before) / before)
    assert named(found, "annual volume change", "ml/a").value == pytest.approx((after - before) / years)
    assert named(found, "annual volume change", "%/a").value == pytest.approx(100 * (after - before) / before / years)
    change = named(found, "volume change", "ml")
    assert change.visits == (FIRST.isoformat(), later.isoformat())
    assert change.masks == (f"mask-{FIRST}", f"mask-{later}")


def test_what_the_program_reported_is_not_said_twice() -> None:
    later = FIRST + timedelta(days=81)
    visits = (FIRST.isoformat(), later.isoformat())
    reported = measured("volume change", 5.0, later, visits=visits)
    found = complete(
        outcome(measured("volume", 1, FIRST), measured("volume", 2, later), reported, dates=(FIRST, later))
    )
    assert [item.value for item in found.measurements if item.name == "volume change"] == [5.0]
    assert complete(found) == found


def test_of_three_dates_the_first_and_the_last_are_compared() -> None:
    dates = tuple(FIRST + timedelta(days=100 * n) for n in range(3))
    values = (4.0, 9.0, 6.0)
    found = complete(outcome(*(measured("volume", v, d) for v, d in zip(values, dates, strict=True)), dates=dates))
    assert named(found, "volume change", "ml").value == 2.0


def test_one_date_several_regions_and_refusals_are_left_alone() -> None:
    later = FIRST + timedelta(days=81)
    single = outcome(measured("volume", 1, FIRST), dates=(FIRST,))
    several = outcome(
        measured("volume", 1, FIRST), measured("volume", 2, FIRST), measured("volume", 3, later), dates=(FIRST, later)
    )
    refused = replace(outcome(dates=(FIRST, later)), status="refused")
    for unchanged in (single, several, refused):
        assert complete(unchanged).measurements == unchanged.measurements


def test_nothing_before_has_a_change_but_no_percentage() -> None:
    later = FIRST + timedelta(days=81)
    found = complete(outcome(measured("volume", 0, FIRST), measured("volume", 2, later), dates=(FIRST, later)))
    assert named(found, "volume change", "ml").value == 2
    assert not [item for item in found.measurements if item.unit in ("%", "%/a")]


def test_the_volumes_of_a_change_that_stands_alone_are_counted_from_its_masks() -> None:
    later = FIRST + timedelta(days=81)
    world = np.diag([2.0, 1.0, 5.0, 1.0])
    masks = tuple(
        Mask(f"mask-{day}", "lesion", "", day.isoformat(), n, f"v{n + 1}", "lesion", voxels, world)
        for n, (day, voxels) in enumerate(((FIRST, np.ones((10, 10, 2), bool)), (later, np.ones((10, 10, 3), bool))))
    )
    change = measured("volume change", 1.0, later, visits=(FIRST.isoformat(), later.isoformat()))
    found = complete(outcome(change, masks=masks, dates=(FIRST, later)))
    assert {item.visit: item.value for item in found.measurements if item.name == "volume"} == {
        FIRST.isoformat(): pytest.approx(2.0),
        later.isoformat(): pytest.approx(3.0),
    }
    assert named(found, "annual volume change", "ml/a").value == pytest.approx(1.0 / (81 / DAYS_PER_YEAR))


def test_lengths_change_too() -> None:
    later = FIRST + timedelta(days=365)
    found = complete(
        outcome(
            measured("longest diameter", 10, FIRST, "mm"),
            measured("longest diameter", 13, later, "mm"),
            dates=(FIRST, later),
        )
    )
    assert named(found, "extent change", "mm").value == 3
    assert named(found, "relative extent change", "%").value == pytest.approx(30)
    assert named(found, "annual change", "mm/a").value == pytest.approx(3 / (365 / DAYS_PER_YEAR))
