"""Lesions that are to be counted: their number is reported before their volume."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vp_model.language.asked import Asked
from vp_model.language.prompted import VOLUME, Prompted
from vp_model.ontology import load_ontology

SIZE, COUNT = 'task("volume analysis")', "count"
"""The task that counts, too, and the concept of numbers."""
COUNTED = 'report("count"'
VOLUME_OF = re.compile(r'^report\("volume", volume\((?P<region>.+)\)\)$')


def counted_first(statement: str, before: Sequence[str], prompted: Prompted) -> str:
    """A line that reports the volume of lesions whose number is asked for, and not reported yet, as the one that does;
    itself where it may stand.
    """
    volume = VOLUME_OF.match(statement)
    if volume is None or before[:1] != [SIZE] or any(line.strip().startswith(COUNTED) for line in before):
        return statement
    asks = COUNT in prompted.told and VOLUME not in prompted.told and _of_one_lesion(prompted.asked)
    return f"{COUNTED}, count(components({volume['region']})))" if asks else statement


def _of_one_lesion(asked: Sequence[Asked]) -> bool:
    names = {item.name for item in asked}
    return len(names) == 1 and load_ontology().structures[names.pop()].kind == "pathology"
