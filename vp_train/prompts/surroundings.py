"""What people write around a request: greetings, thanks, who the patient is, where to look.

None of it changes what is asked for. Clinical context may name findings and sides that are not the target; that text
is given back apart (`Surrounded.context`), so that a check of a prompt's mentions can be judged on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from vp_train.prompts.data import read_part, slots
from vp_train.prompts.tidy import tidy

GREETED, THANKED, LOOKED, TOLD = 0.14, 0.14, 0.14, 0.16
"""Shares of prompts with a greeting, thanks, a mention of the scan, clinical context."""
CONFUSING = 0.12
"""Share of the conditions that name a finding of their own ("a glioma"), which is not what is asked for."""


@dataclass(frozen=True)
class Surrounded:
    """A prompt in its surroundings."""

    text: str
    context: str
    """The clinical context alone; empty where there is none."""


def surrounded(prompt: str, chance: random.Random, held_out: bool = False, modality: str = "") -> Surrounded:
    """Adds surroundings, or none.

    Args:
        modality: `MR` where all images are MR, so that the prompt may say so.
    """
    text, context = prompt, ""
    if chance.random() < LOOKED:
        name = "mr" if modality == "MR" and chance.random() < 0.4 else "scan"
        place = surrounding_word(name, chance, held_out)
        text = f"{text} {place}" if chance.random() < 0.75 else f"{place}, {text}"
    if chance.random() < TOLD:
        text, context = _told(text, chance, held_out)
    if chance.random() < GREETED:
        text = f"{surrounding_word('greeting', chance, held_out)} {text}"
    if chance.random() < THANKED:
        glue = chance.choice((", ", " ", ". ", ". ", "; "))
        text = f"{text}{glue}{surrounding_word('farewell', chance, held_out)}"
    return Surrounded(tidy(text), tidy(context))


def _told(text: str, chance: random.Random, held_out: bool) -> tuple[str, str]:
    """The request with clinical context before or behind it."""
    if chance.random() < 0.35:
        context = surrounding_word("sentence", chance, held_out)
        return (f"{context} {text}" if chance.random() < 0.7 else f"{text}. {context}"), context
    context = surrounding_word("patient", chance, held_out)
    form = chance.random()
    if form < 0.45:
        return f"{context}, {text}", context
    if form < 0.6:
        return f"{context}: {text}", context
    if form < 0.7:
        return f"{context}. {text}", context
    if form < 0.85:
        return f"{text}, {context}", context
    return f"{text} ({context})", context


def surrounding_word(name: str, chance: random.Random, held_out: bool) -> str:
    """A surrounding with its own slots filled."""
    text = _one(name, chance, held_out)
    while "{" in text:
        start, end = text.index("{"), text.index("}")
        inner = text[start + 1 : end]
        if inner == "condition" and chance.random() < CONFUSING:
            inner = "confusing"
        text = text[:start] + _one(inner, chance, held_out) + text[end + 1 :]
    return text


def _one(name: str, chance: random.Random, held_out: bool) -> str:
    trained = read_part("surroundings.json", False)
    if name not in trained:
        return chance.choice(slots()[name])
    kept = read_part("surroundings.json", True).get(name, ())
    return chance.choice(kept if held_out and kept and chance.random() < 0.5 else trained[name])
