"""Dates in prompts as programs write them: `10 May 2022`, `10.5.2022`, `May 2022` become the session's `2022-05-10`.

A date that could be that of several sessions, or that is one end of an interval ("since 2022"), stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from vp_model.language.spelling import slips_between

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
YEAR = r"(?P<year>(?:19|20)\d\d)"
DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
FORMS = tuple(
    re.compile(rf"(?<![\w-]){form}(?![\w-])", re.IGNORECASE)
    for form in (
        rf"{YEAR}[-/.](?P<month>\d{{1,2}})[-/.]{DAY}",
        rf"(?P<first>\d{{1,2}})[-/.](?P<second>\d{{1,2}})[-/.]{YEAR}",
        rf"{DAY}\.? (?:of )?{MONTH},? {YEAR}",
        rf"{MONTH} {DAY},? {YEAR}",
        rf"{MONTH},? (?:of )?{YEAR}",
        YEAR,
    )
)
OPENING = re.compile(
    r"(?:\b(?:on|of|at|in|from|for|dated|scan|visit|exam|mri|study|session|the)|\()\s*$", re.IGNORECASE
)
"""What stands before the date of one session."""
LONG_MONTHS = ("january", "february", "march", "april", "august", "september", "october", "november", "december")
BEFORE_YEAR = re.compile(r"\b[a-z]{4,}(?=,? (?:19|20)\d\d\b)", re.IGNORECASE)
"""A word where a month stands."""


def with_dates(prompt: str, visits: Collection[str]) -> str:
    """The prompt with the date of the one session that it names put as in `visits` (`2022-05-10`), and the names of
    months spelled right.
    """
    prompt = BEFORE_YEAR.sub(_month, prompt)
    known = sorted({visit for visit in visits if visit})
    for form in FORMS:
        found = list(form.finditer(prompt))
        if len(found) != 1:
            if found:
                return prompt
            continue
        match = found[0]
        fitting = {visit for visit in known for date in _read(match) if visit.startswith(date)}
        if len(fitting) == 1 and OPENING.search(prompt[: match.start()]):
            return prompt[: match.start()] + fitting.pop() + prompt[match.end() :]
        return prompt
    return prompt


def _month(match: re.Match[str]) -> str:
    """The month that a word is with a slip in it; the word itself where it is none."""
    word = match.group().lower()
    near = [month for month in LONG_MONTHS if abs(len(month) - len(word)) < 2 and slips_between(word, month) == 1]
    return near[0].capitalize() if len(near) == 1 else match.group()


def _read(match: re.Match[str]) -> Iterator[str]:
    """What a date can mean: `2022-05-10`, or its beginning where the day or the month is not told."""
    parts = match.groupdict()
    year = parts["year"]
    if "first" in parts:
        yield f"{year}-{int(parts['second']):02}-{int(parts['first']):02}"
        yield f"{year}-{int(parts['first']):02}-{int(parts['second']):02}"
        return
    month, day = parts.get("month"), parts.get("day")
    if month is None:
        yield f"{year}-"
        return
    number = int(month) if month.isdigit() else MONTHS.index(month.lower()) + 1
    yield f"{year}-{number:02}-{int(day):02}" if day else f"{year}-{number:02}-"
