"""Does a task match its prompt? Where a single structure lies is no question; a comparison needs two, or two sides."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vp_model.language.asked import Reading
from vp_model.ontology import load_ontology

YEAR = re.compile(r"\b(?:19|20)\d\d\b")
DIFFUSION = 'task("diffusion restriction")'
PLACE, COMPARISON = 'task("location")', 'task("volume comparison")'
SHARE, BRIGHT = (
    'task("relative volume analysis")',
    frozenset({"hyper", "hypo", "intensity", "brighter", "max", "min", "share"}),
)
"""A task, and the concepts that prompts have that ask it of one structure."""
SECOND = re.compile(r"^second\w* = segment\(")
"""The second structure of a program about two."""


@dataclass(frozen=True)
class Prompted:
    """What a prompt says of its task.

    Attributes:
        asked: structures that it names, in order.
        told: its concepts.
        kinds: sequence types that it names.
        words: all of it.
        sessions: the study has several.
    """

    asked: Reading
    told: frozenset[str]
    kinds: tuple[str, ...]
    words: tuple[str, ...]
    sessions: bool


def task_fits(statement: str, prompted: Prompted) -> bool:
    """Whether what a prompt names is enough for a task, or for the second structure of a program."""
    if statement == DIFFUSION:
        restricts = any(word.startswith("restrict") for word in prompted.words)
        return restricts or "diffusion" in prompted.told or "DWI" in prompted.kinds
    if len(prompted.asked) != 1:
        return True
    structure = load_ontology().structures[prompted.asked[0].name]
    if statement == PLACE:
        return structure.kind == "pathology"
    if statement == COMPARISON:
        years = {word[:4] for word in prompted.words if YEAR.match(word)}
        over_time = prompted.sessions and len(years) > 1 and "asymmetry" not in prompted.told
        return structure.paired and not over_time
    if statement == SHARE:
        return structure.kind == "pathology" or bool(prompted.told & BRIGHT)
    return SECOND.match(statement) is None
