"""When runs may begin, across midnight, weekdays and changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vp_node.prompts.schedule import WEEKDAYS, Schedule, next_start

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns")


def schedule(**settings: Any) -> Schedule:
    return Schedule.model_validate(settings)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


minutes = st.integers(0, 24 * 60 - 1).map(lambda value: time(value // 60, value % 60))
windows = st.builds(
    lambda opens, closes, zone, days: schedule(**{"from": opens, "to": closes}, timezone=zone, weekdays=days),
    minutes,
    minutes,
    st.sampled_from(ZONES),
    st.lists(st.sampled_from(WEEKDAYS), unique=True),
)
instants = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
around_changes = st.sampled_from(
    [datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 10, 27, 1, tzinfo=UTC), datetime(2024, 3, 10, 7, tzinfo=UTC)]
).flatmap(lambda change: st.integers(-3000, 3000).map(lambda offset: change + timedelta(minutes=offset)))


@given(windows, instants | around_changes)
@settings(max_examples=200, deadline=None)
def test_the_next_start_is_later_on_an_allowed_day_and_open(window: Schedule, now: datetime) -> None:
    start = next_start(window, now)
    if start is None:
        return
    assert start > now
    assert next_start(window, start) is None
    local = start.astimezone(ZoneInfo(window.timezone))
    skipped = local.replace(tzinfo=None) != datetime.combine(local.date(), window.opens or time())
    assert not skipped or _clocks_change_near(local)
    if window.weekdays and not skipped:
        assert WEEKDAYS[local.weekday()] in window.weekdays


@given(windows, instants | around_changes, st.floats(0, 0.999))
@settings(max_examples=200, deadline=None)
def test_nothing_is_open_between_now_and_the_next_start(window: Schedule, now: datetime, part: float) -> None:
    start = next_start(window, now)
    if start is not None:
        between = now + (start - now) * part
        assert next_start(window, between) == start


@given(windows, st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)))  # noqa: DTZ001
@settings(max_examples=200, deadline=None)
def test_on_days_without_a_change_of_clocks_a_window_is_what_the_wall_clock_says(
    window: Schedule, wall: datetime
) -> None:
    zone = ZoneInfo(window.timezone)
    local = wall.replace(tzinfo=zone)
    if _clocks_change_near(local, hours=60):
        return
    opens, closes = window.opens or time(), window.closes or time()
    clock = wall.time()
    days = window.weekdays or WEEKDAYS
    today, yesterday = WEEKDAYS[wall.weekday()], WEEKDAYS[wall.weekday() - 1]
    if opens < closes:
        expected = today in days and opens <= clock < closes
    else:
        expected = (today in days and clock >= opens) or (yesterday in days and clock < closes)
    assert (next_start(window, local.astimezone(UTC)) is None) is expected


def _clocks_change_near(local: datetime, hours: int = 26) -> bool:
    near = [(local.astimezone(UTC) + timedelta(hours=step)).astimezone(local.tzinfo) for step in range(-hours, hours)]
    return len({moment.utcoffset() for moment in near}) > 1


def test_at_once_is_always_now() -> None:
    assert next_start(Schedule(), datetime.now(UTC)) is None
    assert Schedule.model_validate("At once") == Schedule()
    assert str(Schedule()) == "at once"


def test_a_window_over_midnight_is_open_after_midnight_and_belongs_to_the_day_before() -> None:
    friday_night = schedule(**{"from": "20:00", "to": "06:00"}, timezone="Europe/Berlin", weekdays=["Friday"])
    assert next_start(friday_night, berlin("2024-03-01 19:59:59")) == berlin("2024-03-01 20:00")
    assert next_start(friday_night, berlin("2024-03-02 05:59:59")) is None
    assert next_start(friday_night, berlin("2024-03-02 06:00")) == berlin("2024-03-08 20:00")
    assert next_start(friday_night, berlin("2024-03-01 05:00")) == berlin("2024-03-01 20:00")


def test_weekdays_without_hours_are_whole_days() -> None:
    weekend = schedule(timezone="Europe/Berlin", weekdays=["sat", "sun"])
    assert next_start(weekend, berlin("2024-03-01 12:00")) == berlin("2024-03-02 00:00")
    assert next_start(weekend, berlin("2024-03-03 23:59")) is None
    assert next_start(weekend, berlin("2024-03-04 00:00")) == berlin("2024-03-09 00:00")


def test_an_opening_that_the_clocks_skip_moves_forward() -> None:
    window = schedule(**{"from": "02:30", "to": "05:00"}, timezone="Europe/Berlin")
    assert next_start(window, datetime(2024, 3, 31, 0, 0, tzinfo=UTC)) == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)


def test_a_window_that_the_clocks_leave_nothing_of_is_skipped() -> None:
    window = schedule(**{"from": "02:30", "to": "03:10"}, timezone="Europe/Berlin", weekdays=["sun"])
    assert next_start(window, datetime(2024, 3, 30, tzinfo=UTC)) == berlin("2024-04-07 02:30")


def test_a_time_that_occurs_twice_opens_at_its_first_and_closes_at_its_second_occurrence() -> None:
    window = schedule(**{"from": "02:15", "to": "02:45"}, timezone="Europe/Berlin")
    assert next_start(window, datetime(2024, 10, 26, 12, tzinfo=UTC)) == datetime(2024, 10, 27, 0, 15, tzinfo=UTC)
    assert next_start(window, datetime(2024, 10, 27, 1, 44, tzinfo=UTC)) is None
    assert next_start(window, datetime(2024, 10, 27, 1, 45, tzinfo=UTC)) == datetime(2024, 10, 28, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"from": "20:00"}, "both from and to"),
        ({"from": "20:00", "to": "06:00"}, "needs a timezone"),
        ({"from": 20, "to": "06:00"}, "HH:MM"),
        ({"from": "20:00Z", "to": "06:00"}, "without a zone"),
        ({"timezone": "Europe/Atlantis"}, "no time zone"),
        ({"weekdays": ["someday"], "timezone": "UTC"}, "no weekday"),
        ({"form": "20:00"}, "form"),
        ("tonight", "at once"),
    ],
)
def test_a_wrong_schedule_is_told(settings: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Schedule.model_validate(settings)
