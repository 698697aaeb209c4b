"""What is possible instead of what was refused: the nearest names, how many there are, and what lists all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from difflib import get_close_matches

from vp_model.ontology import Ontology, Structure, load_ontology, normalise, singulars

COMMAND = "vp-model show"
"""Lists every structure that a checkpoint finds, with its accuracy."""
NAMED_IN_FULL = 12
"""A shorter list than this is given as it is."""
EXAMPLES = 3
NEAREST = 4
LONGEST_PROMPT = 1000
"""Characters that are looked through, as many as α reads."""
LONGEST_TERM = 7
"""Words in the longest term of the ontology."""
ALIKE = 0.75
HOLD_ALL = frozenset({"brain", "cerebrum", "cerebral cortex", "lesion"})
"""To be a part or a kind of these makes no two structures near."""
SAY_NOTHING = frozenset(
    {"left", "right", "of", "the", "and", "in", "to", "a", "both", "part", "lesion", "area", "body"}
)
GROUPS = {
    "tissue": "tissues and large parts",
    "ventricle": "ventricles and their parts",
    "deep": "deep structures",
    "cortical region": "regions of the cortex",
    "vascular territory": "vascular territories",
    "vessel": "vessels",
    "pathology": "pathology",
}
"""Groups of the ontology, as they are called in a sentence."""


def can_find(structures: Collection[str], prompt: str = "") -> str:
    """What the weights can find, in a sentence or three: all of it where that is little, else what is near and a count.

    Args:
        structures: names without sides.
        prompt: what was asked for.
    """
    if len(structures) <= NAMED_IN_FULL:
        return everything(structures)
    near = nearest(prompt, structures)
    ontology = load_ontology()
    groups: dict[str, list[str]] = {title: [] for title in GROUPS.values()}
    for name in sorted(structures):
        groups[GROUPS[ontology.structures[name].group]].append(name)
    counted = "; ".join(
        f"{title} ({len(names)}: {', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''})"
        for title, names in groups.items()
        if names
    )
    begin = f"Nearest to it: {', '.join(near)}. " if near else ""
    return f"{begin}It can find {len(structures)} structures: {counted}. `{COMMAND}` lists them all."


def everything(structures: Collection[str]) -> str:
    """All names, for other programs to read."""
    return f"It can find: {', '.join(sorted(structures))}."


def in_full(reason: str, structures: Collection[str]) -> str:
    """A reason that counts what can be found, with all names: for other programs, which cannot be sent to a command."""
    return f"{reason} {everything(structures)}" if f"`{COMMAND}`" in reason else reason


def nearest(prompt: str, structures: Collection[str]) -> tuple[str, ...]:
    """At most `NEAREST` names that share words with a prompt, or are the whole, a part or a kind of what it names."""
    ontology = load_ontology()
    read = normalise(prompt[:LONGEST_PROMPT]).replace("-", " ").split()
    named, rest = _named(read, ontology)
    spoken = {form for word in read for form in singulars(word)} - SAY_NOTHING
    vocabulary = {word for name in structures for word in name.split()} - SAY_NOTHING
    for word in {*rest} - SAY_NOTHING:
        spoken.update(get_close_matches(word, vocabulary, n=2, cutoff=ALIKE))
    points: Counter[str] = Counter()
    for name in structures:
        points[name] += 2 * len(spoken & {*name.split()})
        points[name] += sum(_kinship(ontology.structures[name], other, ontology) for other in named)
    ranked = sorted((-score, len(name), name) for name, score in points.items() if score > 0)
    best = [name for score, _, name in ranked if 2 * -score >= -ranked[0][0]]
    return tuple(best[:NEAREST])


def _named(words: Sequence[str], ontology: Ontology) -> tuple[list[Structure], list[str]]:
    """The structures that a text names, the longest terms first, and its other words."""
    found: list[Structure] = []
    rest: list[str] = []
    start = 0
    while start < len(words):
        for length in range(min(LONGEST_TERM, len(words) - start), 0, -1):
            structure = ontology.find(" ".join(words[start : start + length]))
            if structure is not None:
                found.append(structure)
                start += length
                break
        else:
            rest.append(words[start])
            start += 1
    return found, rest


def _kinship(one: Structure, other: Structure, ontology: Ontology) -> int:
    """3: one is the other, its whole or its part. 1: both belong to the same."""
    wider, narrower = ontology.ancestors(one.name) - HOLD_ALL, ontology.ancestors(other.name) - HOLD_ALL
    if one.name == other.name or one.name in {*narrower, *other.parts} or other.name in {*wider, *one.parts}:
        return 3
    if one.kind == other.kind == "pathology":
        return 1
    return int(bool(wider & narrower))
