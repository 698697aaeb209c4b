"""Templates in other words: words of a table for others, words that say nothing, keywords in any order.

People say one thing in more ways than any list of templates holds. What a template is sure to mean after an exchange
of single words is learned as well, so that α leans less on the words that happen to stand in the templates. Slots stay
as they are, and only templates to train on are treated.
"""

from __future__ import annotations

import random
import re
from functools import cache

from vp_model.language.lexicon import load_lexicon
from vp_model.ontology import load_ontology
from vp_train.prompts.data import read_part

REWORDED, FILLED, TELEGRAPHIC = 0.4, 0.14, 0.12
"""Shares of templates with other words, with a word more, and, of those of one region, of keywords alone."""
ANY_WORD = 0.4
"""Share of the words put in that may be any ordinary one without a meaning for α."""
SHORTEST_PUT_IN = 4
MOST_REWORDED = 2
"""Exchanges in one template."""
ATTRIBUTE = re.compile(
    r"^(?P<attribute>(?:[^{}]|\{(?!roi|other|whole|bilateral|part)[^{}]*\})+)"
    r" of (?:the )?\{(?P<region>roi|bilateral)\}$"
)
"""A noun phrase that asks for one property of one region: "volume of the {roi}"."""
SLOTS = re.compile(r"(\{[^{}]*\})")
WORDS = re.compile(r"\{[^{}]*\}|[^\s{}]+")
TURNING = frozenset({"without", "except", "instead", "nothing", "none", "neither", "never", "cannot", "only", "leave"})
"""Words that turn a request around."""
LITTLE = frozenset({"of", "the", "a", "an", "in", "for", "its"})
"""Words that keywords do without."""


def attribute_of(phrase: str) -> tuple[str, str] | None:
    """The property and the region's slot of a noun phrase that has one of each: `volume`, `{roi}`."""
    found = ATTRIBUTE.match(phrase)
    return None if found is None else (found["attribute"], "{" + found["region"] + "}")


def paraphrased(template: str, chance: random.Random) -> str:
    """The template, or in a share of cases one that means the same."""
    if chance.random() < REWORDED:
        for _ in range(chance.randrange(1, MOST_REWORDED + 1)):
            template = _reworded(template, chance)
    if chance.random() < FILLED:
        template = _filled(template, chance)
    return template


def keywords(attribute: str, region: str, chance: random.Random) -> str:
    """What is asked for as keywords: "hippocampus volume", "volume, hippocampus"."""
    words = [word for word in WORDS.findall(attribute) if word not in LITTLE]
    if chance.random() < 0.3:
        chance.shuffle(words)
    return chance.choice((" ", " ", ", ", ": ", " - ")).join(chance.sample((" ".join(words), region), 2))


@cache
def _exchanges() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    table = read_part("synonyms.json", False)
    return tuple((re.compile(rf"\b{re.escape(words)}\b"), tuple(others)) for words, others in table.items())


def _reworded(template: str, chance: random.Random) -> str:
    """One of the table's words, where the template holds any, exchanged at one place."""
    parts = SLOTS.split(template)
    places = [
        (index, match, others)
        for index in range(0, len(parts), 2)
        for pattern, others in _exchanges()
        for match in pattern.finditer(parts[index])
    ]
    if not places:
        return template
    index, match, others = chance.choice(places)
    text = parts[index]
    parts[index] = text[: match.start()] + chance.choice(others) + text[match.end() :]
    return "".join(parts)


def _filled(template: str, chance: random.Random) -> str:
    """A word that says nothing, between two others."""
    spaces = [index for index, letter in enumerate(template) if letter == " " and not _inside(template, index)]
    if not spaces:
        return template
    place = chance.choice(spaces)
    words = _meaningless() if chance.random() < ANY_WORD else read_part("fillers.json", False)["anywhere"]
    word = chance.choice(words)
    return f"{template[:place]} {word}{template[place:]}"


@cache
def _meaningless() -> tuple[str, ...]:
    """Ordinary words that are no concept, no part of a name, and not of those that turn a request around."""
    lexicon = load_lexicon()
    names = {word for term in (*load_ontology().terms, *lexicon.foreign.exact) for word in term.split()}
    kinds = {word for phrase in lexicon.kinds.exact for word in phrase.split()}
    phrases = {word for phrase in lexicon.concepts.exact for word in phrase.split()}
    return tuple(
        word
        for word in sorted(lexicon.words - names - kinds - phrases - TURNING)
        if len(word) >= SHORTEST_PUT_IN and lexicon.concepts.find((word,)) is None
    )


def _inside(template: str, index: int) -> bool:
    """Whether a place lies within a slot."""
    return template.rfind("{", 0, index) > template.rfind("}", 0, index)
