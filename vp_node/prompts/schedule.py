"""When the runs of a prompt may begin: at once, or in a time window of the day.

A window belongs to the day on which it opens, and may end on the next. Wall-clock times become instants by the rules of
the time zone: a time that occurs twice opens at its first and closes at its second occurrence; a time that the clocks
skip is moved by what they skip.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AT_ONCE = "at once"
DAYS_AHEAD = 16
"""A weekly window can be skipped once, where the change of the clocks leaves nothing of it."""


class Schedule(BaseModel):
    """At its default: at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    opens: time | None = Field(default=None, alias="from")
    closes: time | None = Field(default=None, alias="to")
    """The same as `from`: a whole day."""
    timezone: str = ""
    """IANA name: `Europe/Berlin`."""
    weekdays: tuple[str, ...] = ()
    """Days on which the window opens (`mon`…); empty: all."""

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data.strip().casefold() != AT_ONCE:
                raise ValueError(f"a schedule is {AT_ONCE!r} or a table with from, to, timezone and weekdays")
            return {}
        return data

    @field_validator("opens", "closes", mode="before")
    @classmethod
    def _wall_clock(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = time.fromisoformat(value)
            except ValueError:
                raise ValueError("must be a time of the day: HH:MM") from None
        if value is not None and (not isinstance(value, time) or value.tzinfo is not None):
            raise ValueError("must be a time of the day without a zone: HH:MM")
        return value

    @field_validator("weekdays", mode="before")
    @classmethod
    def _short_names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        names = [str(item).strip().casefold()[:3] for item in value]
        for written, name in zip(value, names, strict=True):
            if name not in WEEKDAYS:
                raise ValueError(f"{str(written)[:20]!r} is no weekday; use {', '.join(WEEKDAYS)}")
        return tuple(sorted(set(names), key=WEEKDAYS.index))

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"{value[:64]!r} is no time zone that this machine knows; write it as in Europe/Berlin"
            raise ValueError(message) from None
        return value

    @model_validator(mode="after")
    def _complete(self) -> Schedule:
        if (self.opens is None) != (self.closes is None):
            raise ValueError("a time window needs both from and to")
        if self.is_window and not self.timezone:
            raise ValueError("a time window needs a timezone, such as Europe/Berlin")
        return self

    @property
    def is_window(self) -> bool:
        return self.opens is not None or bool(self.weekdays)

    def opens_at(self, now: datetime) -> datetime | None:
        """See `next_start`."""
        return next_start(self, now)

    def __str__(self) -> str:
        if not self.is_window:
            return AT_ONCE
        days = ", ".join(self.weekdays) or "daily"
        hours = f"{self.opens:%H:%M}–{self.closes:%H:%M}" if self.opens and self.closes else "all day"
        return f"{days} {hours} {self.timezone}"


def next_start(schedule: Schedule, now: datetime) -> datetime | None:
    """When a run that is asked for now may begin: None for now, otherwise the opening of the next window in UTC.

    Args:
        now: timezone-aware.

    Raises:
        ValueError: the clocks leave nothing of any window in the next days.
    """
    if not schedule.is_window:
        return None
    today = now.astimezone(ZoneInfo(schedule.timezone)).date()
    for offset in range(-2, DAYS_AHEAD):
        window = _window(schedule, today + timedelta(days=offset))
        if window is None or window[1] <= now:
            continue
        opens, _ = window
        return None if opens <= now else opens
    raise ValueError(f"The schedule ({schedule}) opens on none of the next {DAYS_AHEAD} days.")


def _window(schedule: Schedule, day: date) -> tuple[datetime, datetime] | None:
    """Opening and closing, in UTC, of the window that opens on a day; None where there is none."""
    if schedule.weekdays and WEEKDAYS[day.weekday()] not in schedule.weekdays:
        return None
    zone = ZoneInfo(schedule.timezone)
    from_, to = schedule.opens or time(), schedule.closes or time()
    last_day = day if to > from_ else day + timedelta(days=1)
    opens = datetime.combine(day, from_, zone).astimezone(UTC)
    closes = _last_occurrence(datetime.combine(last_day, to, zone))
    return (opens, closes) if opens < closes else None


def _last_occurrence(wall: datetime) -> datetime:
    """In UTC. `fold=1` means the second occurrence of a time that occurs twice (PEP 495), but for a skipped time it
    would be before the change: that one is moved forward like an opening."""
    first, second = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
    return max(first, second)
