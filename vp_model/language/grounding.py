"""Is a program grounded in its prompt? What it segments must have been asked for, and what was asked for be known.

α always writes something that the grammar allows. This check stands behind it: a structure that the prompt does not
name, or a prompt that names a structure that the weights do not know, ends in a refusal that says what is possible,
never in a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

from vp_model.ontology import Ontology, Structure, normalise, singulars
from vp_model.outcome import Side

LONGEST_TERM = 7
"""Words in the longest term of the ontology."""
ALIKE = 0.82
"""Share of letters in order at which a mistyped term is still recognised."""
NO_STRUCTURE = re.compile(
    r"\b(with)?in(side)? the (left|right) (cerebral )?hemisphere\b"
    r"|\bskull[- ]?strip(ped|ping)?\b|\bspace[- ]occupying\b|\bcent(er|re) of mass\b"
)
"""Phrases that hold a structure's name without asking for it."""


def ungrounded(
    prompt: str, structures: Sequence[tuple[str, Side]], ontology: Ontology, known: Collection[str]
) -> str | None:
    """Why a program does not answer its prompt, for the person who asked; None if it does.

    Args:
        structures: what the program segments: name and side.
        known: names of the structures that the weights can find.
    """
    text = normalise(NO_STRUCTURE.sub(" ", prompt.lower()))
    mentioned = mentions(text, ontology)
    for structure in mentioned:
        if structure.name not in known:
            return f"This model has not learned to find the {structure.name}."
    for name, side in structures:
        structure = ontology.structures[name]
        if not _named(text, structure, ontology):
            return f"The prompt was understood as asking for the {name}, but it does not name it."
        if side in ("left", "right") and _only_other_side(text, side):
            return f"The prompt was understood as asking for the {side} {name}, but it names the other side."
    return None


def mentions(text: str, ontology: Ontology) -> tuple[Structure, ...]:
    """Structures whose terms stand in a normalised text; the longest term wins where terms overlap."""
    words = text.split()
    found: list[Structure] = []
    index = 0
    while index < len(words):
        for length in range(min(LONGEST_TERM, len(words) - index), 0, -1):
            structure = ontology.find(" ".join(words[index : index + length]))
            if structure is not None:
                found.append(structure)
                index += length
                break
        else:
            index += 1
    return tuple(found)


def _named(text: str, structure: Structure, ontology: Ontology) -> bool:
    """Whether a term of the structure, or of a wider pathology, stands in the text, perhaps mistyped."""
    terms = [normalise(term) for term in structure.terms]
    if structure.kind == "pathology":
        terms += [
            normalise(term) for name in ontology.ancestors(structure.name) for term in ontology.structures[name].terms
        ]
    words = text.split()
    for term in terms:
        length = len(term.split())
        for index in range(len(words) - length + 1):
            for candidate in singulars(" ".join(words[index : index + length])):
                if candidate == term or (len(term) > 4 and _alike(candidate, term)):
                    return True
    return False


def _alike(first: str, second: str) -> bool:
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    return matcher.quick_ratio() >= ALIKE and matcher.ratio() >= ALIKE


def _only_other_side(text: str, side: Side) -> bool:
    words = set(re.findall(r"[a-z]+", text))
    other = "right" if side == "left" else "left"
    return other in words and side not in words and not words & {"both", "bilateral", "other", "asymmetry", "sides"}
