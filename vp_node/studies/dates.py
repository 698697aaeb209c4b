"""The visit date of a study, where dates may be empty, redacted or no dates at all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from vp_node.studies.headers import InstanceHeader


def parse_date(value: str) -> date | None:
    """A DICOM date (PS3.5 6.2, VR DA; also the old form with periods), or None where it is none."""
    digits = value.strip().replace(".", "")
    if len(digits) != 8 or not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def visit_of(headers: Iterable[InstanceHeader]) -> tuple[date | None, tuple[str, ...]]:
    """The visit date of the instances of one study, and what is to be said about it.

    The study date is the visit's, also for what was acquired after midnight. Where it is no date, the earliest
    acquisition, series or content date stands for it. Flags: `redacted-date` where something else than a date stands in
    the study date, `no-date` where nothing helps.
    """
    members = list(headers)
    study_dates = sorted({parsed for header in members if (parsed := parse_date(header.study_date))})
    if study_dates:
        return study_dates[0], ()
    flags = ("redacted-date",) if any(header.study_date for header in members) else ()
    for name in ("acquisition_date", "series_date", "content_date"):
        dates = sorted({parsed for header in members if (parsed := parse_date(getattr(header, name)))})
        if dates:
            return dates[0], flags or ("no-study-date",)
    return None, (*flags, "no-date")
