"""Slips of the pen in the words of a prompt: the word of the vocabulary that is nearest, where one is near enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from vp_model.language.lexicon import load_lexicon
from vp_model.language.terms import lookup
from vp_model.ontology import load_ontology, normalise, singulars

SHORTEST_SLIP = 5
"""Letters of the shortest word that is read with a slip in it."""
TWO_SLIPS = 8
"""Letters from which two slips are forgiven."""
COMMON = frozenset(
    {"train", "trains", "grain", "drain", "drains", "lesson", "lessons", "vortex", "crane", "median", "decide"}
)
"""Words that are no slip of an anatomical one."""
TWO_SLIPS_IN_NAME = 6
"""Letters from which two slips are forgiven where the words beside it make a name with the word that is meant."""
LONGEST_NAME = 5
"""Words of the longest name in which a slip is looked for."""
OFTEN = 5
"""How many times more terms a word must stand in to be preferred to another that is as near."""


@lru_cache(maxsize=4096)
def listed(word: str) -> bool:
    """Whether a word is an ordinary one, or stands in a name or a concept."""
    lexicon = load_lexicon()
    return any(
        form in lexicon.words or form in _vocabulary() or lexicon.concepts.find((form,)) is not None
        for form in singulars(word)
    )


def _only_begins(word: str) -> bool:
    """Whether a word is known by its beginning alone: `hyperintensitues` begins as `hyperintense` does."""
    return not any(form in load_lexicon().words or form in _vocabulary() for form in singulars(word))


@cache
def _vocabulary() -> Counter[str]:
    """Every word of a term and its plural, with how many terms hold it."""
    words = Counter(word for term in load_ontology().terms for word in term.replace("-", " ").split())
    return words + Counter({word + "s": count for word, count in words.items() if word + "s" not in words})


@cache
def _slips() -> dict[str, tuple[str, ...]]:
    """Words of the vocabulary by what is left of them when up to two letters are taken out."""
    found: dict[str, set[str]] = {}
    for word in {*_vocabulary(), *load_lexicon().words, *_foreign_words()}:
        if len(word) >= SHORTEST_SLIP:
            for left in _deletions(word, 2 if len(word) >= TWO_SLIPS else 1):
                found.setdefault(left, set()).add(word)
    return {left: tuple(sorted(words)) for left, words in found.items()}


@cache
def _foreign_words() -> frozenset[str]:
    return frozenset(word for term in load_lexicon().foreign.exact for word in term.split())


def _anatomical(word: str) -> bool:
    """Whether a word stands in terms; others are too many to be read into one that begins differently."""
    return word in _vocabulary() or word in _foreign_words()


def _deletions(word: str, count: int) -> set[str]:
    reached = {word}
    for _ in range(count):
        reached |= {part[:place] + part[place + 1 :] for part in reached for place in range(len(part))}
    return reached


@lru_cache(maxsize=65536)
def corrected(word: str) -> str:
    """The one word of the vocabulary that this is a slip of; the word itself where none is, or several are as near."""
    if len(word) < SHORTEST_SLIP or not word.isalpha() or word in COMMON:
        return word
    if word in _foreign_words() or word.removesuffix("s") in _foreign_words():
        return word
    if listed(word) and (len(word) < TWO_SLIPS or not _only_begins(word)):
        return word
    allowed = 2 if len(word) >= TWO_SLIPS else 1
    near: dict[str, int] = {}
    for left in _deletions(word, allowed):
        for candidate in _slips().get(left, ()):
            if candidate not in near and (candidate[0] == word[0] or _anatomical(candidate)):
                near[candidate] = slips_between(word, candidate)
    if listed(word):
        near = {candidate: distance for candidate, distance in near.items() if candidate in _vocabulary()}
        allowed = 1
    best = min(near.values(), default=allowed + 1)
    nearest = [candidate for candidate, distance in near.items() if distance == best]
    if best > allowed:
        return word
    meant = {lookup(candidate) for candidate in nearest}
    if len(meant) == 1 and None not in meant:
        return normalise(min(nearest, key=len))
    stems: Counter[str] = Counter()
    for candidate in nearest:
        stems[candidate.removesuffix("s")] += _vocabulary()[candidate] or 1
    ranked = stems.most_common(2)
    if len(ranked) > 1 and ranked[0][1] < OFTEN * ranked[1][1]:
        return word
    return normalise(min((candidate for candidate in nearest if candidate.removesuffix("s") == ranked[0][0]), key=len))


def mended_names(words: Sequence[str], is_name: Callable[[str], bool]) -> list[str]:
    """The words of a prompt, in which a word that is known to no list is read as the one that makes a name of several
    words with those beside it: `dorsal stratum` → `dorsal striatum`, `cerellar white matter`.

    Args:
        words: as written, and each corrected by itself where it could be.
        is_name: whether words name a structure or a sequence type.
    """
    found = list(words)
    for place, word in enumerate(words):
        if len(word) < SHORTEST_SLIP or not word.isalpha() or _stands_in_list(word) or _in_name(found, place, is_name):
            continue
        allowed = 2 if len(word) >= TWO_SLIPS_IN_NAME else 1
        for candidate, _ in sorted(_near(word, allowed).items(), key=lambda pair: (pair[1], pair[0])):
            if _in_name([*found[:place], candidate, *found[place + 1 :]], place, is_name):
                found[place] = candidate
                break
    return found


def _in_name(words: Sequence[str], place: int, is_name: Callable[[str], bool]) -> bool:
    """Whether the word at a place is a part of a name of several words."""
    for start in range(max(0, place - LONGEST_NAME + 1), place + 1):
        for end in range(max(place + 1, start + 2), min(len(words), start + LONGEST_NAME) + 1):
            if is_name(" ".join(words[start:end])):
                return True
    return False


def _stands_in_list(word: str) -> bool:
    """Whether a word as it is written is an ordinary one or a part of a name."""
    return any(form in load_lexicon().words or form in _vocabulary() for form in singulars(word))


@lru_cache(maxsize=4096)
def _near(word: str, allowed: int) -> dict[str, int]:
    """Words of names that differ from a word by as many slips at most, with how many."""
    near = {
        candidate: slips_between(word, candidate)
        for left in _deletions(word, allowed)
        for candidate in _words_of_names().get(left, ())
    }
    return {candidate: distance for candidate, distance in near.items() if distance <= allowed}


@cache
def _words_of_names() -> dict[str, tuple[str, ...]]:
    """Words of names, with their plurals, by what is left of them when up to two letters are taken out."""
    kinds = (word for phrase in load_lexicon().kinds.exact for word in phrase.split())
    latin = (f"{word[:-2]}i" for word in _vocabulary() if word.endswith("us"))
    found: dict[str, set[str]] = {}
    for word in {*_vocabulary(), *kinds, *latin}:
        if len(word) >= SHORTEST_SLIP and word.isalpha():
            for left in _deletions(word, 2):
                found.setdefault(left, set()).add(word)
    return {left: tuple(sorted(words)) for left, words in found.items()}


def slips_between(first: str, second: str) -> int:
    """How many slips make one word of another (Damerau): letters put in, left out, changed, or swapped."""
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
