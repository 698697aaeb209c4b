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
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from vp_model.language.completion import completed
from vp_model.language.lexicon import load_lexicon
from vp_model.language.spelling import corrected, listed, mended_names
from vp_model.language.terms import is_anatomy, joined_terms, lookup
from vp_model.ontology import Ontology, load_ontology, normalise

LONGEST_TERM = 7
"""Words in the longest term of the ontology."""
RUN_TOGETHER = re.compile(r"\b(of|for|in|on|to|is|and)(the|this|both|all)\b")
REWORDED = (
    (re.compile(r"\bwithin 5 mm (?:of|from) the ventricles\b"), "near the ventricles"),
    (
        re.compile(
            r"\b(gray matter|white matter|cortex)(?: is| are)?(?: there)? (?:in|within|inside) the cerebellum\b"
        ),
        r"cerebellar \1",
    ),
)
"""What names say in other words, or with others between: `periventricular` is within 5 mm of the lateral ventricles."""
BOTH_SIDES = re.compile(r"\b(left|right|lt|rt|l|r)\s*\+\s*(left|right|lt|rt|l|r)\b")
WHITE_MATER = re.compile(r"\b(white|gray) mater\b")
"""`mater` is a word of its own (dura mater), and the commonest slip there is."""
UNLEARNED, FOREIGN, STRANGE, PRESENT, ABSENT, ASKED = "[?]", "[foreign]", "[_]", "[there]", "[absent]", "[asked]"
"""Marks: a structure that the weights have not learned; of another part of the body, or no structure; a word that no
list holds; a sequence type that the study has, or has not; a volume of a sequence type that the prompt names."""
NUMBERED = 9
"""Structures of a prompt that have a number of their own."""
MAXIMUM_WORDS = 160
"""Words of a prompt that are read."""
CONTRAST = "+C"
KINDS = ("T1", "T1+C", "T2", "FLAIR", "PD", "GRE", "SWI", "DWI", "ADC", "CT", "STIR", "PERFUSION", "TOF", "unknown")
VERB_ENDS = (["me"], ["us"], ["over"])
"""Words after which a part of the body is a verb: `hand me the volume`."""
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
    text = re.sub(r"\bw/o\b", "without", text)
    text = re.sub(r"\bw/(?=\s|\w)", "with ", text)
    text = BOTH_SIDES.sub(r"\1 and \2", text)
    text = text.replace("&", " and ").replace("%", " percent ").replace("+c", " c").replace(">", " larger than ")
    text = text.replace("<", " smaller than ")
    text = re.sub(r"(?<=\d)(mm|cm|ml|cc)\b", r" \1", text)
    text = normalise(re.sub(r"(?<=\d)[.,](?=\d)", "decimalpoint", text)).replace("decimalpoint", ".")
    text = re.sub(r"(?<![0-9])-|-(?![0-9])", " ", text)
    text = RUN_TOGETHER.sub(r"\1 \2", text.replace("'s ", " ").replace("'", ""))
    words = mended_names([corrected(word) for word in text.split()[:MAXIMUM_WORDS]], _is_name)
    text = WHITE_MATER.sub(r"\1 matter", " ".join(words))
    for pattern, name in REWORDED:
        text = pattern.sub(name, text)
    return text.split()


@lru_cache(maxsize=65536)
def _is_name(phrase: str) -> bool:
    """Whether words name a structure or a sequence type."""
    return lookup(phrase) is not None or load_lexicon().kinds.find(tuple(phrase.split())) is not None


@lru_cache(maxsize=256)
def read_all(prompt: str) -> tuple[Mention, ...]:
    """Everything in a prompt, in order; the longest reading wins where readings overlap."""
    lexicon = load_lexicon()
    words = completed(words_of(prompt), is_anatomy)
    found: list[Mention] = []
    index = 0
    while index < len(words):
        mention = None
        for length in range(min(LONGEST_TERM, len(words) - index), 0, -1):
            part = tuple(words[index : index + length])
            if length > 1 and (words[index] not in _openings() or _only_side(words, index)):
                continue
            if (name := lookup(" ".join(part))) is not None:
                mention = Mention("structure", name, part)
            elif (name := lexicon.kinds.find(part)) is not None:
                mention = Mention("kind", name, part)
            elif lexicon.foreign.find(part) is not None and _foreign_here(words, index, length):
                mention = Mention("foreign", "", part)
            elif (name := lexicon.concepts.find(part)) is not None and not _begins_name(words, index, length):
                mention = Mention("concept", name, part)
            if mention is not None:
                break
        mention = mention or Mention("word" if _ordinary(words[index]) else "strange", "", (words[index],))
        found.append(mention)
        index += len(mention.words)
    return tuple(found)


def _foreign_here(words: Sequence[str], index: int, length: int) -> bool:
    """Whether words are foreign anatomy where they stand: no verb ("hand me the volume"), and no beginning of a name
    ("left atrium of the lateral ventricle").
    """
    if words[index + length : index + length + 1] in VERB_ENDS:
        return False
    return not _begins_name(words, index, length)


def _begins_name(words: Sequence[str], index: int, length: int) -> bool:
    """Whether a structure's name begins within some words and goes on after them: "in the middle temporal gyrus"."""
    ends = range(index + length + 1, min(len(words), index + length + LONGEST_TERM) + 1)
    starts = range(index + 1, index + length)
    return any(_names_structure(" ".join(words[start:end])) for start in starts for end in ends)


@lru_cache(maxsize=65536)
def _names_structure(phrase: str) -> bool:
    return lookup(phrase) is not None


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
            if forgotten(2) and not any(listed(word) for word in mention.words):
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


@cache
def _openings() -> frozenset[str]:
    """First words of everything that has several."""
    lexicon = load_lexicon()
    phrases = [*load_ontology().terms, *joined_terms(), *lexicon.concepts.exact, *lexicon.kinds.exact]
    first = {phrase.split()[0] for phrase in (*phrases, *lexicon.foreign.exact)}
    opened = (
        pattern for group in (lexicon.concepts, lexicon.kinds) for rows in group.open.values() for pattern in rows
    )
    return frozenset(first | {words[0] for words, _ in opened})


def _ordinary(word: str) -> bool:
    return len(word) < 2 or not word.isalpha() or listed(word)
