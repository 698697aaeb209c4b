"""From templates to prompts: slots within slots, synonyms, and the ways in which people write."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
SLOT = re.compile(r"\{([a-z][a-z\- ]*)\}")
OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
MAXIMUM_DEPTH = 8


@cache
def slots(held_out: bool = False) -> Mapping[str, Sequence[str]]:
    """Synonyms of each slot: those to train on, or those kept for measuring generalisation."""
    name = "held_out_slots.json" if held_out else "slots.json"
    found: dict[str, list[str]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


@cache
def templates(held_out: bool = False) -> Mapping[str, Sequence[str]]:
    """Templates of each task."""
    name = "held_out_templates.json" if held_out else "templates.json"
    found: dict[str, list[str]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


def expand(template: str, values: Mapping[str, str], chance: random.Random, held_out: bool = False) -> str:
    """Fills a template: `{slot}` by a value or a synonym, which may hold slots again, `[…]` kept half of the time.

    Raises:
        KeyError: a slot has neither value nor synonyms.
    """
    text = template
    for _ in range(MAXIMUM_DEPTH):
        text = OPTIONAL.sub(lambda match: match.group(1) if chance.random() < 0.5 else "", text)
        if not SLOT.search(text):
            break
        text = SLOT.sub(lambda match: _fill(match.group(1), values, chance, held_out), text)
    return " ".join(text.split())


def _fill(slot: str, values: Mapping[str, str], chance: random.Random, held_out: bool) -> str:
    if slot in values:
        return values[slot]
    return chance.choice(slots(held_out)[slot])


def as_people_write(prompt: str, chance: random.Random) -> str:
    """The prompt with another case, punctuation, courtesy, or a typing error, as happens."""
    if chance.random() < 0.12:
        prompt = f"{chance.choice(['hi,', 'hello,', 'dear ai,', 'task:', 'question:', 'ok so'])} {prompt}"
    if chance.random() < 0.15:
        prompt = _mistyped(prompt, chance)
    style = chance.random()
    if style < 0.35:
        prompt = prompt[:1].upper() + prompt[1:]
    elif style < 0.40:
        prompt = prompt.upper()
    return prompt + chance.choice(["", "", "", ".", "?", "!", " "])


def _mistyped(text: str, chance: random.Random) -> str:
    """One letter lost, doubled or exchanged with its neighbour, in a word long enough to be still recognised."""
    words = list(re.finditer(r"[A-Za-z]{6,}", text))
    if not words:
        return text
    word = chance.choice(words)
    index = chance.randrange(word.start() + 1, word.end() - 2)
    kind = chance.randrange(3)
    if kind == 0:
        return text[:index] + text[index + 1 :]
    if kind == 1:
        return text[:index] + text[index] + text[index:]
    return text[:index] + text[index + 1] + text[index] + text[index + 2 :]
