"""The one session of several that a prompt speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from vp_model.language.reading import Mention

MOMENTS = {"first": "earliest", "last": "latest"}
PRESENT = "present"
"""A word for the last session that mostly means all that is there: `in the present scan`."""
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
