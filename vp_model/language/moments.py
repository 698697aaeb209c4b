"""The one session of several that a prompt speaks of, and the lines of a program that choose it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vp_model.language.dates import with_dates
from vp_model.language.reading import Mention

MOMENTS = {"first": "earliest", "last": "latest"}
PRESENT = "present"
"""A word for the last session that mostly means all that is there: `in the present scan`."""
VISIT = re.compile(r'(?P<call>\bvisit\(")(?P<date>[^"]+)(?="\))')
DATE = re.compile(r"\d{4}-\d\d-\d\d")
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
OF_ONE_SESSION = 'task("volume analysis")'
"""The task that can measure one session of several."""
CHOSEN = "when = "
OVER_TIME = frozenset({"change", "grow", "compare", "peryear", "each", "both"})
"""Concepts of prompts that speak of more than one session."""


def moment_of(mentions: Sequence[Mention]) -> str:
    """The function of the session that a prompt speaks of alone, `earliest` ("on the first scan") or `latest`."""
    concepts = {mention.name for mention in mentions if mention.sort == "concept"}
    if concepts & OVER_TIME:
        return ""
    found = {
        MOMENTS[mention.name]
        for mention, following in pairwise(mentions)
        if mention.sort == "concept"
        and mention.name in MOMENTS
        and mention.words != (PRESENT,)
        and following.name == "visit"
    }
    return found.pop() if len(found) == 1 else ""


@dataclass(frozen=True)
class Moment:
    """When a prompt asks for something.

    Attributes:
        dates: that it names; `years`: words that are years.
        choice: the line that chooses the one session that it speaks of, or an empty text.
        missed: it names dates, and none of them is that of a session.
    """

    dates: tuple[str, ...]
    years: tuple[str, ...]
    choice: str
    missed: bool

    def right_date(self, statement: str) -> bool:
        """Whether a session that is chosen by its date is one that the prompt names."""
        found = VISIT.search(statement)
        if found is None or self.dates:
            return found is None or found["date"] in self.dates
        return not self.years or found["date"][:4] in self.years

    def dated(self, line: str) -> list[str]:
        """The line with the dates of the prompt in place of its own."""
        return [VISIT.sub(rf"\g<call>{date}", line) for date in self.dates]

    def of_all_sessions(self, statement: str, before: Sequence[str]) -> bool:
        """Whether a volume that is asked for at one session is about to be shown for all, or of another."""
        if not self.choice or self.missed or not before or before[0] != OF_ONE_SESSION:
            return False
        chosen = any(line.startswith(CHOSEN) for line in before)
        other = statement.startswith(CHOSEN) and VISIT.search(statement) is None and statement != self.choice
        return not chosen and (other or statement.startswith(("show(", "for when in visits(")))


def asked_moment(prompt: str, mentions: Sequence[Mention], words: Sequence[str], visits: Collection[str]) -> Moment:
    """When a prompt asks for something.

    Args:
        words: of the prompt as it was read.
        visits: dates of the study's sessions.
    """
    dates = tuple(dict.fromkeys(DATE.findall(with_dates(prompt, visits))))
    choice = ""
    if len(visits) > 1 and len(dates) == 1:
        choice = f'{CHOSEN}visit("{dates[0]}")'
    elif len(visits) > 1 and not dates and (moment := moment_of(mentions)):
        choice = f"{CHOSEN}{moment}(roi)"
    years = tuple(word for word in words if YEAR.fullmatch(word))
    return Moment(dates, years, choice, bool(dates) and not {*dates} & {*visits})
