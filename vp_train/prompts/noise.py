"""How people type: cases, punctuation, two spellings of English, slips of the finger.

Slips stay away from numbers, from short words (sides, units, sequence types, abbreviations) and from more than two
words of a prompt: a reader must still know what is asked.
"""

from __future__ import annotations

import random
import re

NEIGHBOURS = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl", "p": "o",
    "a": "qsz", "s": "awdx", "d": "sefc", "f": "drgv", "g": "fthb", "h": "gyjn", "j": "hukm", "k": "jil", "l": "ko",
    "z": "ax", "x": "zsc", "c": "xdv", "v": "cfb", "b": "vgn", "n": "bhm", "m": "nj",
}  # fmt: skip
"""Keys beside each other on an English keyboard."""
SPELLINGS = (
    ("center", "centre"),
    ("gray", "grey"),
    ("color", "colour"),
    ("normalize", "normalise"),
    ("localize", "localise"),
    ("characterize", "characterise"),
    ("visualize", "visualise"),
    ("analyze", "analyse"),
    ("millimeter", "millimetre"),
    ("milliliter", "millilitre"),
    ("centimeter", "centimetre"),
    ("hemorrhage", "haemorrhage"),
    ("tumor", "tumour"),
    ("edema", "oedema"),
    ("favor", "favour"),
    ("ischemic", "ischaemic"),
)
SHORT_FORMS = (
    ("please", "plz"),
    ("please", "pls"),
    ("you", "u"),
    ("and", "&"),
    ("with", "w/"),
    ("without", "w/o"),
    ("what is", "what's"),
    ("what is", "whats"),
    ("how is", "hows"),
    ("i would", "i'd"),
    ("patient", "pt"),
    ("compared to", "cf"),
)
FIXED = frozenset({"flair", "height", "length", "breadth", "weighted"})
"""Words whose slips would read as something else."""
SHORTEST = 6
"""Letters of the shortest word with a slip."""
JOINABLE = re.compile(r"\b(of|in|on|the|is|and|to|for) (the|this|of|a)\b")


def with_noise(text: str, chance: random.Random) -> str:
    """The prompt as typed."""
    text = _other_spelling(text, chance)
    if chance.random() < 0.05:
        text = _shortened(text, chance)
    if chance.random() < 0.06:
        text = JOINABLE.sub(lambda match: match.group(0).replace(" ", ""), text, count=1)
    if chance.random() < 0.06:
        text = re.sub(r"\b(the|a|an) ", "", text)
    slips = chance.choices((0, 1, 2), (80, 16, 4))[0]
    for _ in range(slips):
        text = mistyped(text, chance)
    text = _punctuated(text, chance)
    return _cased(text, chance)


def mistyped(text: str, chance: random.Random) -> str:
    """One letter lost, doubled, exchanged with its neighbour or with a neighbouring key, in a long word."""
    words = [match for match in re.finditer(r"[A-Za-z]+", text) if len(match.group()) >= SHORTEST]
    words = [match for match in words if match.group().lower() not in FIXED]
    if not words:
        return text
    word = chance.choice(words)
    index = chance.randrange(word.start() + 1, word.end() - 2)
    letter = text[index]
    kind = chance.randrange(4)
    if kind == 0:
        return text[:index] + text[index + 1 :]
    if kind == 1:
        return text[:index] + letter + text[index:]
    if kind == 2:
        return text[:index] + text[index + 1] + letter + text[index + 2 :]
    return text[:index] + chance.choice(NEIGHBOURS.get(letter.lower(), letter)) + text[index + 1 :]


def _other_spelling(text: str, chance: random.Random) -> str:
    for american, british in SPELLINGS:
        if american in text and chance.random() < 0.4:
            text = text.replace(american, british)
        elif british in text and chance.random() < 0.2:
            text = text.replace(british, american)
    return text


def _shortened(text: str, chance: random.Random) -> str:
    long, short = chance.choice([pair for pair in SHORT_FORMS if re.search(rf"\b{pair[0]}\b", text)] or [("", "")])
    return re.sub(rf"\b{long}\b", short, text, count=1) if long else text


def _punctuated(text: str, chance: random.Random) -> str:
    if text and text[-1].isalnum() and chance.random() < 0.4:
        asks = re.match(r"(how|what|where|which|is|are|has|have|did|does|do|can|could|would|any)\b", text.lower())
        text += chance.choice("??.!" if asks else "...!")
    if chance.random() < 0.12:
        text = re.sub(r"[,;:'](?=\s|$)", "", text)
    if chance.random() < 0.03:
        text = re.sub(r", ", ",", text)
    if chance.random() < 0.03:
        text = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", " ", text)
    return text


def _cased(text: str, chance: random.Random) -> str:
    style = chance.random()
    if style < 0.35:
        return text[:1].upper() + text[1:]
    if style < 0.40:
        return text.upper()
    if style < 0.43:
        return text.title()
    return text
