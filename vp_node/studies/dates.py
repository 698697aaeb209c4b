"""The visit date of a study, where dates may be empty, redacted or no dates at all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from vp_node.studies.headers import InstanceHeader

_FIRST_SCANS = date(1971, 1, 1)
"""No CT or MR image is older: what says so is a placeholder such as 1900-01-01."""
_MIDNIGHT = timedelta(days=1)


def parse_date(value: str) -> date | None:
    """A DICOM date (PS3.5 6.2, VR DA; also the old form with periods), or None where it is none."""
    digits = value.strip().replace(".", "")
    if len(digits) != 8 or not digits.isdigit():
        return None
    try:
        found = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return found if found >= _FIRST_SCANS else None


def visit_of(headers: Iterable[InstanceHeader]) -> tuple[date | None, tuple[str, ...]]:
    """The visit date of the instances of one study, and what is to be said about it.

    The study date is the visit's, also for what was acquired after midnight, and whenever it was reconstructed. Where
    everything that tells its acquisition was acquired more than a day before it, the study was made later, by an import
    or a reconstruction, and the earliest acquisition is the visit. Where it is no date, the earliest acquisition,
    series or content date stands for it. Flags: `redacted-date` where something else than a date stands in the study
    date, `study-date-later` where the acquisition overrules it, `several-study-dates` where the instances disagree (the
    earliest counts), `no-date` where nothing helps.
    """
    members = list(headers)
    study_dates = sorted({parsed for header in members if (parsed := parse_date(header.study_date))})
    if study_dates:
        acquired = sorted({parsed for header in members if (parsed := parse_date(header.acquisition_date))})
        if acquired and acquired[-1] < study_dates[0] - _MIDNIGHT:
            return acquired[0], ("study-date-later",)
        return study_dates[0], ("several-study-dates",) if len(study_dates) > 1 else ()
    flags = ("redacted-date",) if any(header.study_date for header in members) else ()
    for name in ("acquisition_date", "series_date", "content_date"):
        dates = sorted({parsed for header in members if (parsed := parse_date(getattr(header, name)))})
        if dates:
            return dates[0], flags or ("no-study-date",)
    return None, (*flags, "no-date")
