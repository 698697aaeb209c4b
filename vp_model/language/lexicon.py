"""Words of prompts (`lexicon.json`): what concepts are called, sequence types, foreign anatomy, common words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Phrases:
    """Phrases that stand for one thing each; a word with `*` stands for all that begin with it."""

    exact: Mapping[str, str]
    """Phrase → what it stands for."""
    open: Mapping[str, Sequence[tuple[tuple[str, ...], str]]]
    """First two letters → phrases with a `*`, as words, and what each stands for."""
    longest: int
    """Words in the longest phrase."""

    def find(self, words: Sequence[str]) -> str | None:
        """What all of these words together stand for."""
        found = self.exact.get(" ".join(words))
        if found is not None:
            return found
        for pattern, meaning in self.open.get(words[0][:2], ()):
            if len(pattern) == len(words) and all(map(_fits, words, pattern)):
                return meaning
        return None


@dataclass(frozen=True)
class Lexicon:
    """All of `lexicon.json`."""

    concepts: Phrases
    kinds: Phrases
    foreign: Phrases
    words: frozenset[str]
    """Words that are no slip and no name of anything unknown."""


@cache
def load_lexicon() -> Lexicon:
    """Reads the data file, once."""
    data = json.loads((Path(__file__).parent / "lexicon.json").read_text(encoding="utf-8"))
    foreign = {"foreign": [term.replace("-", " ") for term in data["foreign"]]}
    return Lexicon(
        _phrases(data["concepts"]), _phrases(data["kinds"]), _phrases(foreign), frozenset(data["words"].split())
    )


def _phrases(listed: Mapping[str, Sequence[str]]) -> Phrases:
    exact: dict[str, str] = {}
    open_: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    longest = 1
    for meaning, phrases in listed.items():
        for phrase in phrases:
            words = tuple(phrase.split())
            longest = max(longest, len(words))
            if "*" not in phrase:
                exact.setdefault(phrase, meaning)
            else:
                open_.setdefault(phrase[:2], []).append((words, meaning))
    return Phrases(exact, open_, longest)


def _fits(word: str, pattern: str) -> bool:
    return word.startswith(pattern[:-1]) if pattern.endswith("*") else word == pattern
