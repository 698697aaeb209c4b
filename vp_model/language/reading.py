"""The reading of a prompt: its words in order, and beside them what data alone can tell, for α.

The ontology and the lexicon are data, and looking things up needs no learning. Slips of the pen are mended; names of
structures become the names that programs use, so that a synonym that α never saw still works; what the weights have
not learned, foreign anatomy and words that nobody knows are marked, so that α refuses them; words for a measure, a
side, a moment or a kind of image get their concept, so that new phrasings look like known ones.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from vp_model.language.completion import completed
from vp_model.language.lexicon import load_lexicon
from vp_model.ontology import Ontology, load_ontology, normalise, singulars

LONGEST_TERM = 7
"""Words in the longest term of the ontology."""
SHORTEST_SLIP = 5
"""Letters of the shortest word that is read with a slip in it."""
TWO_SLIPS = 9
"""Letters from which two slips are forgiven."""
COMMON = frozenset(
    {"train", "trains", "grain", "drain", "drains", "lesson", "lessons", "vortex", "crane", "median", "decide"}
)
"""Words that are no slip of an anatomical one."""
RUN_TOGETHER = re.compile(r"\b(of|for|in|on|to|is|and)(the|this|both|all)\b")
WHITE_MATER = re.compile(r"\b(white|gray) mater\b")
"""`mater` is a word of its own (dura mater), and the commonest slip there is."""
OFTEN = 5
"""How many times more terms a word must stand in to be preferred to another that is as near."""
UNLEARNED, FOREIGN, STRANGE, PRESENT, ABSENT, ASKED = "[?]", "[foreign]", "[_]", "[there]", "[absent]", "[asked]"
"""Marks: a structure that the weights have not learned; of another part of the body, or no structure; a word that no
list holds; a sequence type that the study has, or has not; a volume of a sequence type that the prompt names."""
NUMBERED = 9
"""Structures of a prompt that have a number of their own."""
MAXIMUM_WORDS = 160
"""Words of a prompt that are read."""
CONTRAST = "+C"
KINDS = ("T1", "T1+C", "T2", "FLAIR", "PD", "GRE", "SWI", "DWI", "ADC", "CT", "STIR", "PERFUSION", "TOF", "unknown")
HEMISPHERE = frozenset({"hemisphere", "hemispheres"})
"""Words that mostly tell a side ("the thalamus of the left hemisphere"): no mark warns of them."""


@dataclass(frozen=True)
class Mention:
    """Words of a prompt that mean one thing.

    Attributes:
        sort: `structure`, `concept`, `kind`, `foreign`, `strange`, or `word`.
        name: of the structure (canonical, without a side), the concept or the sequence type.
        words: as written, slips mended.
    """

    sort: str
    name: str
    words: tuple[str, ...]


def words_of(prompt: str) -> list[str]:
    """The words of a prompt: lower case, American spelling, slips mended, without punctuation."""
    text = unicodedata.normalize("NFKC", prompt).lower().replace("t2*", "t2 star").replace("\u2019", "'")
    text = re.sub(r"\br/o\b", "rule out", text)
    text = text.replace("&", " and ").replace("%", " percent ").replace("+c", " c").replace(">", " larger than ")
    text = text.replace("<", " smaller than ")
    text = re.sub(r"(?<=\d)(mm|cm|ml|cc)\b", r" \1", text)
    text = normalise(re.sub(r"(?<=\d)[.,](?=\d)", "decimalpoint", text)).replace("decimalpoint", ".")
    text = re.sub(r"(?<![0-9])-|-(?![0-9])", " ", text)
    text = RUN_TOGETHER.sub(r"\1 \2", text.replace("'s ", " ").replace("'", ""))
    words = [_corrected(word) for word in text.split()[:MAXIMUM_WORDS]]
    return WHITE_MATER.sub(r"\1 matter", " ".join(words)).split()


@lru_cache(maxsize=256)
def read_all(prompt: str) -> tuple[Mention, ...]:
    """Everything in a prompt, in order; the longest reading wins where readings overlap."""
    ontology, lexicon = load_ontology(), load_lexicon()
    words = completed(words_of(prompt), _is_anatomy)
    found: list[Mention] = []
    index = 0
    while index < len(words):
        mention = None
        for length in range(min(LONGEST_TERM, len(words) - index), 0, -1):
            part = tuple(words[index : index + length])
            if length > 1 and (words[index] not in _openings() or _only_side(words, index)):
                continue
            if (name := _lookup(" ".join(part), ontology)) is not None:
                mention = Mention("structure", name, part)
            elif (name := lexicon.kinds.find(part)) is not None:
                mention = Mention("kind", name, part)
            elif lexicon.foreign.find(part) is not None:
                mention = Mention("foreign", "", part)
            elif (name := lexicon.concepts.find(part)) is not None:
                mention = Mention("concept", name, part)
            if mention is not None:
                break
        mention = mention or Mention("word" if _ordinary(words[index]) else "strange", "", (words[index],))
        found.append(mention)
        index += len(mention.words)
    return tuple(found)


def _only_side(words: Sequence[str], index: int) -> bool:
    """Whether a word is the side of what stands before it, and begins no phrase: "on the right versus left …"."""
    return tuple(words[max(0, index - 2) : index]) == ("on", "the") and words[index] in ("left", "right")


@dataclass(frozen=True)
class Reading:
    """What α is told of a prompt.

    Attributes:
        text: its words, with marks beside them.
        outline: the marks alone, in order, each structure with its number; and what has digits in it.
        kinds: sequence types that it names.
    """

    text: str
    outline: str
    kinds: tuple[str, ...]


def reading_of(
    prompt: str, known: Collection[str], kinds: Collection[str], chance: random.Random | None = None
) -> Reading:
    """Reads a prompt for weights and a study.

    Args:
        known: names of the structures that the weights have learned.
        kinds: sequence types of the study's volumes.
        chance: in training, forget some words and marks, so that α relies on none alone.
    """
    parts: list[str] = []
    outline: list[str] = []
    asked: list[str] = []
    structures = 0
    forget = 0.0 if chance is None or chance.random() < 0.6 else 0.2

    def forgotten(share: float = 1.0) -> bool:
        return forget > 0 and chance is not None and chance.random() < forget * share

    def say(text: str, *told: str) -> None:
        parts.append(text)
        outline.extend(told)

    for mention in read_all(prompt):
        written = " ".join(mention.words)
        if mention.sort == "structure" and mention.words[-1] in HEMISPHERE and mention.name not in known:
            say(written)
        elif mention.sort == "structure" and (name := load_ontology().meant(mention.name, written, known)) is not None:
            number = f"[#{min(structures := structures + 1, NUMBERED)}]"
            say(f"{number}[{name}]", number, f"[{name}]")
        elif mention.sort == "structure":
            say(f"{written} {UNLEARNED}", UNLEARNED)
        elif mention.sort == "kind":
            asked.append(mention.name)
            presence = _presence(mention.name, kinds)
            say(f"{written} {presence}", kind_mark(mention.name), presence)
        elif mention.sort == "foreign":
            if forgotten(2) and not any(_listed(word) for word in mention.words):
                say(" ".join(f"{word} {STRANGE}" for word in mention.words), STRANGE)
            else:
                say(f"{written} {FOREIGN}", FOREIGN)
        elif mention.sort == "concept":
            if forgotten(0.5):
                say(written)
            else:
                say(f"[{mention.name}]" if forgotten() else f"{written} [{mention.name}]", f"[{mention.name}]")
        elif mention.sort == "strange":
            say(f"{written} {STRANGE}", STRANGE)
        elif any(letter.isdigit() for letter in written):
            say(written, f" {written}")
        elif not forgotten(0.5):
            say(f"{written} {STRANGE}" if forgotten(0.3) and len(written) > 3 else written)
    return Reading(" ".join(parts).replace(" [", "["), "".join(outline), tuple(dict.fromkeys(asked)))


def asked_for(kind: str, asked: Collection[str], kinds: Collection[str]) -> bool:
    """Whether a prompt that names sequence types means a volume of this one; a T1 after contrast agent stands in for a
    plain one that the study lacks.
    """
    return kind in asked or (kind.endswith(CONTRAST) and kind.removesuffix(CONTRAST) in {*asked} - {*kinds})


def marks(known: Collection[str]) -> tuple[str, ...]:
    """All marks that a reading may hold."""
    concepts = load_lexicon().concepts
    names = {*concepts.exact.values(), *(meaning for group in concepts.open.values() for _, meaning in group)}
    numbers = (f"[#{number}]" for number in range(1, NUMBERED + 1))
    fixed = (UNLEARNED, FOREIGN, STRANGE, PRESENT, ABSENT, ASKED, *numbers, *(kind_mark(kind) for kind in KINDS))
    return (*fixed, *(f"[{name}]" for name in sorted(known)), *(f"[{name}]" for name in sorted(names)))


def kind_mark(kind: str) -> str:
    """A volume's sequence type, as α is told."""
    return f"[{kind}]"


def read(prompt: str, ontology: Ontology | None = None) -> tuple[Mention, ...]:
    """Structures that a prompt names, in order."""
    return tuple(mention for mention in read_all(prompt) if mention.sort == "structure")


def names(mentions: Iterable[Mention]) -> frozenset[str]:
    return frozenset(mention.name for mention in mentions)


def _presence(kind: str, kinds: Collection[str]) -> str:
    return PRESENT if kind in kinds or f"{kind}{CONTRAST}" in kinds else ABSENT


def _lookup(phrase: str, ontology: Ontology) -> str | None:
    terms = _joined_terms()
    for candidate in singulars(phrase):
        if candidate in ontology.terms:
            return ontology.terms[candidate]
        if candidate in terms:
            return terms[candidate]
    return None


@lru_cache(maxsize=65536)
def _is_anatomy(phrase: str) -> bool:
    ontology = load_ontology()
    name = _lookup(phrase, ontology)
    return name is not None and ontology.structures[name].kind == "anatomy"


@cache
def _joined_terms() -> dict[str, str]:
    """Terms with a space for each hyphen, without articles, and with `in` for `of`: `gray matter in cerebellum`."""
    ontology = load_ontology()
    plain = {term.replace("-", " "): name for term, name in ontology.terms.items()}
    forms = {
        term.replace(before, after): name
        for term, name in plain.items()
        for before, after in ((" of the ", " of "), (" of ", " in "), (" of the ", " in "))
    }
    return {term: name for term, name in forms.items() if term not in ontology.terms}


@cache
def _openings() -> frozenset[str]:
    """First words of everything that has several."""
    lexicon = load_lexicon()
    phrases = [*load_ontology().terms, *_joined_terms(), *lexicon.concepts.exact, *lexicon.kinds.exact]
    first = {phrase.split()[0] for phrase in (*phrases, *lexicon.foreign.exact)}
    opened = (
        pattern for group in (lexicon.concepts, lexicon.kinds) for rows in group.open.values() for pattern in rows
    )
    return frozenset(first | {words[0] for words, _ in opened})


def _ordinary(word: str) -> bool:
    return len(word) < 2 or not word.isalpha() or _listed(word)


@lru_cache(maxsize=4096)
def _listed(word: str) -> bool:
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
def _corrected(word: str) -> str:
    """The one word of the vocabulary that this is a slip of; the word itself where none is, or several are as near."""
    if len(word) < SHORTEST_SLIP or not word.isalpha() or word in COMMON:
        return word
    if word in _foreign_words() or word.removesuffix("s") in _foreign_words():
        return word
    if _listed(word) and (len(word) < TWO_SLIPS or not _only_begins(word)):
        return word
    allowed = 2 if len(word) >= TWO_SLIPS else 1
    near: dict[str, int] = {}
    for left in _deletions(word, allowed):
        for candidate in _slips().get(left, ()):
            if candidate not in near and (candidate[0] == word[0] or _anatomical(candidate)):
                near[candidate] = _distance(word, candidate)
    if _listed(word):
        near = {candidate: distance for candidate, distance in near.items() if candidate in _vocabulary()}
        allowed = 1
    best = min(near.values(), default=allowed + 1)
    nearest = [candidate for candidate, distance in near.items() if distance == best]
    if best > allowed:
        return word
    meant = {_lookup(candidate, load_ontology()) for candidate in nearest}
    if len(meant) == 1 and None not in meant:
        return min(nearest, key=len)
    stems: Counter[str] = Counter()
    for candidate in nearest:
        stems[candidate.removesuffix("s")] += _vocabulary()[candidate] or 1
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
