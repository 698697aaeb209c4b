"""How a structure and its side are written: `left hippocampus`, `thalami`, `rt. caudate`, `putamen on both sides`."""

from __future__ import annotations

import random
from typing import Literal

from vp_model.language.lexicon import load_lexicon
from vp_model.ontology import Structure, load_ontology
from vp_train.prompts.data import read_part

EXPLICIT = 0.45
"""Share of names for both sides that say so where they need not."""
IRREGULAR = {
    "putamen": "putamina",
    "pallidum": "pallida",
    "accumbens": "accumbens",
    "amygdala": "amygdalae",
    "dura": "dura",
}
PARTIAL = ("periventricular", "juxtacortical", "deep ")
UNCOUNTABLE = frozenset({"matter", "wm", "gm", "cortex", "mantle", "ribbon", "medullare", "diencephalon", "ventraldc"})


def written(
    structure: Structure,
    side: Literal["left", "right", ""],
    chance: random.Random,
    held_out: bool = False,
    explicit: bool = False,
    listed: bool = False,
    plain: bool = False,
    many: bool = False,
) -> str:
    """One of the ways to write a structure.

    Args:
        side: `""` for both sides of a paired structure, or for one that has no sides.
        explicit: both sides are named as such ("both thalami"), because a neighbour in the prompt has a side.
        listed: it stands beside another name: the side must not be read as the other's.
        plain: nothing but the term.
        many: in the plural, mostly.
    """
    term = chance.choice((structure.name, chance.choice(terms_of(structure))))
    if side and _foreign(side, term):
        term = chance.choice([other for other in terms_of(structure) if not _foreign(side, other)] or [term])
    if plain:
        return term
    if many and chance.random() < 0.7:
        term = plural(term, structure)
    suffix = " listed" if listed else ""
    if side:
        form = _form(f"one{suffix}", chance, held_out)
    elif structure.paired and (explicit or chance.random() < EXPLICIT):
        form = _form(f"two{suffix}", chance, held_out)
    else:
        form = _form("plain", chance, held_out)
    short = side[:1]
    return form.format(term=term, plural=plural(term, structure), side=side, s=short, st=f"{short}t")


def terms_of(structure: Structure) -> tuple[str, ...]:
    """Terms that mean all of it: "periventricular lesions" are a part, which a selection asks for."""
    return tuple(term for term in structure.terms if not term.startswith(PARTIAL))


def _foreign(side: str, term: str) -> bool:
    """Whether a name means something else with a side before it: the left atrium is the heart's."""
    return load_lexicon().foreign.find((side, *term.split())) is not None


def adjective(structure: Structure, side: str, chance: random.Random, explicit: bool = False) -> str:
    """An adjective with its side, as before a measure: `left hippocampal`; empty where there is none."""
    if not structure.adjectives:
        return ""
    word = chance.choice(structure.adjectives)
    if side:
        return f"{chance.choice((side, side, side[0], f'{side[0]}t', f'{side}-sided'))} {word}"
    if structure.paired and (explicit or chance.random() < EXPLICIT):
        return f"{chance.choice(('bilateral', 'left and right', 'both', 'l/r'))} {word}"
    return word


def plural(term: str, structure: Structure) -> str:
    """A plural that the ontology recognises; the term itself where there is none, or but one of it in a head."""
    if (not structure.paired and structure.kind == "anatomy") or term.split()[-1] in UNCOUNTABLE:
        return term
    last = term.split()[-1]
    if last in IRREGULAR:
        candidates = [term.removesuffix(last) + IRREGULAR[last]]
    elif last.endswith("us"):
        candidates = [term[:-2] + "i"]
    else:
        candidates = [] if term.endswith("s") else [term[:-1] + "ies" if term.endswith("y") else term + "s"]
    for candidate in candidates:
        found = load_ontology().find(candidate)
        if found is not None and found.name == structure.name:
            return candidate
    return term


def _form(name: str, chance: random.Random, held_out: bool) -> str:
    trained, kept = read_part("sides.json", False)[name], read_part("sides.json", True)[name]
    return chance.choice(kept if held_out and chance.random() < 0.5 else trained)
