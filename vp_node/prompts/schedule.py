"""When a prompt may run: at once, or in a window of the day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


class Schedule(BaseModel):
    """At once, or from a time of day to another, which may lie on the next day."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    begins: time | None = Field(default=None, alias="from")
    ends: time | None = Field(default=None, alias="to")
    timezone: str = "UTC"
    """IANA name, e.g. `Europe/Vienna`."""
    weekdays: tuple[Weekday, ...] = WEEKDAYS
    """Days on which the window begins."""

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone of the IANA database") from error
        return name

    @model_validator(mode="after")
    def _window_is_whole(self) -> Schedule:
        if (self.begins is None) != (self.ends is None):
            raise ValueError("a window needs both `from` and `to`")
        if self.begins is not None and self.begins == self.ends:
            raise ValueError("a window must not begin and end at the same time")
        if not self.weekdays:
            raise ValueError("a window needs at least one weekday")
        return self

    def opens_at(self, now: datetime) -> datetime | None:
        """None while a run may begin now; else when the window opens next (UTC)."""
        if self.begins is None or self.ends is None:
            return None
        today = now.astimezone(ZoneInfo(self.timezone)).date()
        for offset in range(-1, 9):
            opens, closes = self._window(today + timedelta(days=offset))
            if opens is None or closes is None or closes <= now:
                continue
            return None if opens <= now else opens
        raise AssertionError("a window with a weekday opens within nine days")

    def _window(self, day: date) -> tuple[datetime | None, datetime | None]:
        """Opening and closing (UTC) of the window that begins on a local day."""
        if WEEKDAYS[day.weekday()] not in self.weekdays or self.begins is None or self.ends is None:
            return None, None
        zone = ZoneInfo(self.timezone)
        last = day if self.ends > self.begins else day + timedelta(days=1)
        opens = datetime.combine(day, self.begins, zone).astimezone(UTC)
        closes = datetime.combine(last, self.ends, zone).astimezone(UTC)
        return opens, closes
