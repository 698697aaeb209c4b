"""The reading of a prompt: which structures of the ontology it names, found by rule and told to α beside the prompt.

The ontology is data, and looking terms up needs no learning: a synonym that α never saw in training, or a slip of the
pen, still becomes the name that programs use. What the weights have not learned is marked, so that α refuses it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

from vp_model.ontology import Ontology, load_ontology, normalise, singulars

LONGEST_TERM = 7
"""Words in the longest term of the ontology."""
SHORTEST_SLIP = 5
"""Letters of the shortest word that is read with a slip in it."""
TWO_SLIPS = 9
"""Letters from which two slips are forgiven."""
COMMON = frozenset({"train", "trains", "grain", "drain", "drains", "lesson", "lessons", "vortex", "crane", "median"})
"""Words that are no slip of an anatomical one."""
RUN_TOGETHER = re.compile(r"\b(of|for|in|on|to)(the|both|all)\b")
WHITE_MATER = re.compile(r"\b(white|gray) mater\b")
"""`mater` is a word of its own (dura mater), and the commonest slip there is."""
OFTEN = 5
"""How many times more terms a word must stand in to be preferred to another that is as near."""
UNLEARNED = "?"
NOTHING = "-"
SEPARATOR = ";"


@dataclass(frozen=True)
class Mention:
    """A structure named in a prompt: its canonical name, without a side, and the words it stands in."""

    name: str
    first: int
    last: int


def read(prompt: str, ontology: Ontology | None = None) -> tuple[Mention, ...]:
    """Structures that a prompt names, in order; the longest term wins where terms overlap."""
    known = ontology or load_ontology()
    text = RUN_TOGETHER.sub(r"\1 \2", normalise(prompt).replace("-", " "))
    words = [_corrected(word) for word in text.split()]
    words = WHITE_MATER.sub(r"\1 matter", " ".join(words)).split()
    found: list[Mention] = []
    index = 0
    while index < len(words):
        for length in range(min(LONGEST_TERM, len(words) - index), 0, -1):
            name = _lookup(" ".join(words[index : index + length]), known)
            if name is not None:
                found.append(Mention(name, index, index + length - 1))
                index += length
                break
        else:
            index += 1
    return tuple(found)


def reading_text(prompt: str, known: Collection[str]) -> str:
    """What α is told: canonical names in order of mention, those that the weights do not know with a mark."""
    names = dict.fromkeys(mention.name for mention in read(prompt))
    return SEPARATOR.join(name if name in known else UNLEARNED + name for name in names) or NOTHING


def _lookup(phrase: str, ontology: Ontology) -> str | None:
    terms = _joined_terms()
    for candidate in singulars(phrase):
        if candidate in ontology.terms:
            return ontology.terms[candidate]
        if candidate in terms:
            return terms[candidate]
    return None


@cache
def _joined_terms() -> dict[str, str]:
    """Terms with a space for each hyphen."""
    ontology = load_ontology()
    return {term.replace("-", " "): name for term, name in ontology.terms.items() if "-" in term}


@cache
def _vocabulary() -> Counter[str]:
    """Every word of a term and its plural, with how many terms hold it."""
    words = Counter(word for term in load_ontology().terms for word in term.replace("-", " ").split())
    return words + Counter({word + "s": count for word, count in words.items() if word + "s" not in words})


@cache
def _slips() -> dict[str, tuple[str, ...]]:
    """Words of the vocabulary by what is left of them when up to two letters are taken out."""
    found: dict[str, set[str]] = {}
    for word in _vocabulary():
        if len(word) >= SHORTEST_SLIP:
            for left in _deletions(word, 2 if len(word) >= TWO_SLIPS else 1):
                found.setdefault(left, set()).add(word)
    return {left: tuple(sorted(words)) for left, words in found.items()}


def _deletions(word: str, count: int) -> set[str]:
    reached = {word}
    for _ in range(count):
        reached |= {part[:place] + part[place + 1 :] for part in reached for place in range(len(part))}
    return reached


@cache
def _corrected(word: str) -> str:
    """The one word of the vocabulary that this is a slip of; the word itself where there is none, or several as near."""
    if len(word) < SHORTEST_SLIP or word in _vocabulary() or word in COMMON:
        return word
    allowed = 2 if len(word) >= TWO_SLIPS else 1
    near: dict[str, int] = {}
    for left in _deletions(word, allowed):
        for candidate in _slips().get(left, ()):
            if candidate not in near:
                near[candidate] = _distance(word, candidate)
    best = min(near.values(), default=allowed + 1)
    nearest = [candidate for candidate, distance in near.items() if distance == best]
    if best > allowed:
        return word
    stems: Counter[str] = Counter()
    for candidate in nearest:
        stems[candidate.removesuffix("s")] += _vocabulary()[candidate]
    ranked = stems.most_common(2)
    if len(ranked) > 1 and ranked[0][1] < OFTEN * ranked[1][1]:
        return word
    return min((candidate for candidate in nearest if candidate.removesuffix("s") == ranked[0][0]), key=len)


def _distance(first: str, second: str) -> int:
    """Damerau's: letters put in, left out, changed, or swapped with their neighbour."""
    rows: list[list[int]] = [list(range(len(second) + 1))]
    for i, a in enumerate(first, 1):
        row = [i]
        for j, b in enumerate(second, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def names(mentions: Iterable[Mention]) -> frozenset[str]:
    return frozenset(mention.name for mention in mentions)
