"""The data files of prompts: each has a part to train on, and one that is held out to measure generalisation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent


@cache
def read_part(name: str, held_out: bool) -> Mapping[str, Sequence[str]]:
    """The lists of a data file: those to train on, or those kept for measuring."""
    data: dict[str, dict[str, list[str]]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return MappingProxyType(data["held_out" if held_out else "train"])


def slots(held_out: bool = False) -> Mapping[str, Sequence[str]]:
    """Synonyms of each slot."""
    return read_part("slots.json", held_out)


def frames(held_out: bool = False) -> Mapping[str, Sequence[str]]:
    """Sentences around a phrase, by the form of the phrase."""
    return read_part("frames.json", held_out)


def phrases(task: str, held_out: bool = False) -> Mapping[str, Sequence[str]]:
    """What a task can be asked with, by form: `nouns`, `clauses`, `commands`, `questions`."""
    return read_part(f"templates/{task.replace(' ', '_')}.json", held_out)


def task_names() -> tuple[str, ...]:
    """Tasks that have templates."""
    return tuple(sorted(path.stem.replace("_", " ") for path in (FOLDER / "templates").glob("*.json")))
