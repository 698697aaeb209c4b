"""Names of structures as people shorten and turn them: `third and fourth ventricles`, `ventricle, left lateral`.

Both are put as the ontology writes them (`third ventricle and fourth ventricle`, `left lateral ventricle`), so that
they are found there. What would otherwise be read as a name stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

JOINING = frozenset({"and", "or", "vs", "versus", "plus", "to", "than"})
"""Words between two names that may share their last word."""
SIDES = frozenset({"left", "right", "l", "r", "lt", "rt"})
COMPARING = frozenset({"to", "than"})
POSITIONS = frozenset({"anterior", "posterior", "superior", "inferior", "lateral", "medial", "dorsal", "ventral"})
"""Words that before these are mostly no part of a name: `inferior to the middle temporal gyrus`."""
BESIDE = frozenset({"side", "sided"})
"""Words that tell a side and are no part of a name after it: `left side and third ventricle`."""
LONGEST_TURNED = 3
"""Words of the longest name that is recognised in another order."""
LONGEST_NAME = 7
KEYWORDS = 5
"""Words of the longest prompt that may be keywords in any order: `ventricle volume left lateral`."""

IsName = Callable[[str], bool]
"""Whether words are the name of an anatomical structure."""


def completed(words: Sequence[str], is_name: IsName) -> list[str]:
    """The words of a prompt with shortened names completed and turned ones put right."""
    found = _shared(_turned(words, is_name), is_name)
    if len(found) <= KEYWORDS and not any(_name_at(found, place, is_name) for place in range(len(found))):
        return _gathered(found, is_name)
    return found


def _turned(words: Sequence[str], is_name: IsName) -> list[str]:
    found: list[str] = []
    index = 0
    while index < len(words):
        length = _name_at(words, index, is_name)
        if length:
            found += words[index : index + length]
            index += length
            continue
        for length in range(LONGEST_TURNED + 1, 1, -1):
            name = _put_right(words[index : index + length], is_name) if index + length <= len(words) else None
            if name is not None and not any(
                _name_at(words, later, is_name) > 1 for later in range(index + 1, index + length)
            ):
                found += name
                index += length
                break
        else:
            found.append(words[index])
            index += 1
    return found


def _put_right(words: Sequence[str], is_name: IsName) -> list[str] | None:
    """A name whose words are in another order, or have its side between them; None where it is none."""
    sides = [word for word in words if word in SIDES]
    own = [word for word in words if word not in SIDES]
    outside = bool(sides) and (words[0] in SIDES or words[-1] in SIDES)
    if len(sides) > 1 or outside or not 1 < len(own) <= LONGEST_TURNED or any(map(is_name, own)):
        return None
    for order in permutations(own):
        if (sides or list(order) != own) and is_name(" ".join(order)):
            return [*sides, *order]
    return None


def _shared(words: Sequence[str], is_name: IsName) -> list[str]:
    """Every name with its last words, where several share them."""
    found: list[str] = []
    shared: tuple[str, ...] = ()
    unlikely: frozenset[str] = BESIDE
    for word in reversed(words):
        if word in JOINING:
            shared = _last_words(found, is_name)
            unlikely = BESIDE | POSITIONS if word in COMPARING else BESIDE
        else:
            whole = next((last for last in shared if is_name(f"{word} {last}")), None)
            if whole is None or is_name(word) or word in unlikely:
                shared = ()
            else:
                found = [*whole.split(), *found]
        found = [word, *found]
    return found


def _gathered(words: Sequence[str], is_name: IsName) -> list[str]:
    """The two words that make a name together, where there are just two such, beside the side that the words tell."""
    pairs = [
        (first, second, name)
        for first in range(len(words))
        for second in range(first + 1, len(words))
        for name in (f"{words[first]} {words[second]}", f"{words[second]} {words[first]}")
        if is_name(name)
    ]
    if len(pairs) != 1:
        return list(words)
    first, second, name = pairs[0]
    beside = [words[first - 1 : first], words[first + 1 : first + 2]]
    place, other = (first, second) if any(word in SIDES for part in beside for word in part) else (second, first)
    return [
        part
        for index, word in enumerate(words)
        if index != other
        for part in (name.split() if index == place else [word])
    ]


def _last_words(words: Sequence[str], is_name: IsName) -> tuple[str, ...]:
    """What may also end a name before words that begin with a name, perhaps after an article and a side."""
    start = 0
    while start < len(words) and (words[start] in SIDES or words[start] == "the"):
        start += 1
    end = start + _name_at(words, start, is_name)
    return tuple(" ".join(words[place:end]) for place in range(start + 1, end))


def _name_at(words: Sequence[str], start: int, is_name: IsName) -> int:
    """How many words the longest name has that begins at a place; 0 where none does."""
    for length in range(min(LONGEST_NAME, len(words) - start), 0, -1):
        if is_name(" ".join(words[start : start + length])):
            return length
    return 0
