"""Is a program grounded in its prompt? What it segments must have been asked for, on the side that was asked for.

α always writes something that the grammar allows. This check stands behind it: a structure that the prompt does not
name ends in a refusal that says what is possible, never in a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from vp_model.language.placing import holds_lesions, lobe_before_lesions
from vp_model.language.reading import HEMISPHERE, Mention, names, read, read_all
from vp_model.ontology import Ontology, Structure, load_ontology, normalise, singulars
from vp_model.outcome import Side

ALIKE = 0.82
"""Share of letters in order at which a mistyped term is still recognised."""
NEED_NO_NAME = frozenset({"brain"})
"""What a prompt may ask for without naming it: the skull is stripped by keeping the brain."""
HOLDS_LESIONS = "cerebral white matter"
"""Named to say where a lesion lies; a program finds deep white matter by what lies around it."""
HOLD_LESIONS = frozenset({"brain", "cerebrum", HOLDS_LESIONS})
"""Anatomy that holds all lesions, or a side of them."""
JOINING = frozenset({"and", "or", "plus", "vs", "versus", "to", "from", "than", "against"})
LINKING = frozenset(
    {
        "and",
        "or",
        "plus",
        "vs",
        "versus",
        "the",
        "left",
        "right",
        "l",
        "r",
        "lt",
        "rt",
        "both",
        "bilateral",
        "side",
        "sides",
        "sided",
        "of",
        "on",
    }
)
"""Words between the names of a list."""
PART_NOUNS = frozenset(
    {
        "nucleus",
        "nuclei",
        "subfield",
        "subfields",
        "layer",
        "layers",
        "wall",
        "floor",
        "roof",
        "head",
        "tail",
        "tip",
        "pole",
        "horn",
        "genu",
        "splenium",
        "limb",
        "crus",
        "lobule",
    }
)
"""Words for a part, where `of` and a structure follow: `layers of the hippocampus`."""
UNSPECIFIC = (("cortex",), ("white", "matter"), ("gray", "matter"))
"""Names that with a word before them that nobody knows mean something else: `premotor cortex`."""
AFTER_VERBS = frozenset({("over",), ("me",), ("us",), ("it",)})
"""Words after which a part of the body is a verb: `and hand me`."""
PARTS = frozenset(
    {
        "anterior",
        "posterior",
        "superior",
        "inferior",
        "lateral",
        "medial",
        "dorsal",
        "ventral",
        "rostral",
        "caudal",
        "upper",
        "lower",
        "proximal",
        "distal",
        "frontal",
        "parietal",
        "temporal",
        "occipital",
    }
)
"""Words that before a structure's name make it that of a part: `anterior putamen`, `frontal white matter`."""
NO_PART = frozenset(
    {"more", "most", "further", "farther", "is", "are", "lie", "lies", "sit", "sits", "or", "and", "to", "than", "far"}
)
"""Words after which they tell where something lies: `which is more anterior, putamen or caudate`."""
SIDED = frozenset({"the", "left", "right", "both", "bilateral", "l", "r"})
SIDE_WORDS = {"left": frozenset({"left", "l", "lt", "lefts", "lft"}), "right": frozenset({"right", "r", "rt", "rgt"})}
BOTH_WORDS = frozenset(
    {"both", "bilateral", "bilaterally", "other", "asymmetry", "sides", "each", "either", "two", "contralateral"}
)


def ungrounded(
    prompt: str,
    structures: Sequence[tuple[str, Side]],
    ontology: Ontology,
    known: Collection[str],
    shown: Sequence[Collection[str]] = (),
    lobes: Collection[str] = (),
) -> str | None:
    """Why a program does not answer its prompt, for the person who asked; None if it does.

    Args:
        structures: what the program segments: name and side.
        known: names of the structures that the weights can find.
        shown: what each region that it shows was made of (`Inspection.shown`): anatomy that only helps is not shown.
        lobes: places by which it chooses lesions, or all where it says where they lie (`Inspection.lobes`).
    """
    text = normalise(prompt)
    mentioned = names(read(prompt, ontology))
    named = {name for name, _ in structures if name in mentioned or _named(text, ontology.structures[name], ontology)}
    unlearned = sorted(name for name in mentioned if name not in known)
    if structures and not named - NEED_NO_NAME and unlearned and not _only_needs_no_name(structures):
        return f"This model has not learned to find the {unlearned[0]}."
    mentions = read_all(prompt)
    if structures and (beside := _beside_known(mentions, known)):
        return f"This model has not learned to find the {beside}."
    place = lobe_before_lesions(mentions)
    if structures and place and place not in lobes:
        return f"The prompt names the {place}, but it was understood without it."
    if structures and (part := _part_of_known(mentions, known) or _part_named(mentions, known)):
        return f"This model has not learned to find the {part}."
    if disease := _disease_of(mentions, [name for name, _ in structures], known):
        return f"This model has not learned to find the {disease}."
    finds_lesions = any(ontology.structures[name].kind == "pathology" for name, _ in structures)
    for place in _holding_lesions(mentions) if finds_lesions else ():
        if place not in lobes:
            return f"This model cannot tell the lesions within the {place} from others."
    # Parts of a lesion load and its place are found with the help of anatomy that the prompt need not name.
    helped = any(ontology.structures[name].kind == "pathology" for name in named)
    for name, side in structures:
        if name in named:
            one_sided = side in SIDE_WORDS and (name, _other(side)) not in structures
            if one_sided and not helped and _only_other_side(text, side):
                return f"The prompt was understood as asking for the {side} {name}, but it names the other side."
        elif name not in NEED_NO_NAME and not (helped and ontology.structures[name].kind == "anatomy"):
            return f"The prompt was understood as asking for the {name}, but it does not name it."
    for parts in shown:
        if parts and not {*parts} & {*named, *mentioned, *NEED_NO_NAME}:
            return f"The prompt was understood as asking for the {min(parts)} too, but it does not name it."
    overlooked = _overlooked(mentioned, {name for name, _ in structures}, ontology, known) if helped else ""
    if overlooked:
        return f"The prompt names the {overlooked}, but it was understood without it."
    return None


def _beside_known(mentions: Sequence[Mention], known: Collection[str]) -> str:
    """What stands in a list beside a structure that is known, and is none that can be found: a name, or `""`."""
    for index, mention in enumerate(mentions):
        if not _found(mention, known):
            continue
        for step in (1, -1):
            place = index + step
            joined = False
            while 0 <= place < len(mentions) and mentions[place].words[0] in LINKING:
                joined = joined or mentions[place].words[0] in JOINING
                place += step
            verb = place + 1 < len(mentions) and mentions[place + 1].words in AFTER_VERBS
            if joined and not verb and 0 <= place < len(mentions) and _not_found(mentions[place], known):
                return " ".join(mentions[place].words)
    return ""


def _part_of_known(mentions: Sequence[Mention], known: Collection[str]) -> str:
    """A part of a structure that is known, which has no name of its own: `anterior putamen`; or an empty text."""
    for index, (mention, following) in enumerate(pairwise(mentions)):
        before = [other.words[-1] for other in reversed(mentions[max(0, index - 2) : index])]
        if before and before[0] in JOINING and before[1:] and before[1] not in PARTS:
            before = []
        placed = mention.words[0] in PARTS and not (before and before[0] in NO_PART)
        placed = placed and not lobe_before_lesions((mention, following))
        unheard = mention.sort == "strange" and following.words in UNSPECIFIC
        if len(mention.words) == 1 and (placed or unheard) and _found(following, known):
            return " ".join((*mention.words, *following.words))
    return ""


def _part_named(mentions: Sequence[Mention], known: Collection[str]) -> str:
    """A part of a structure that is known, named by a noun: `layers of the hippocampus`; or an empty text."""
    for index, mention in enumerate(mentions[:-2]):
        if mention.words[-1] not in PART_NOUNS or mention.sort == "structure" or mentions[index + 1].words != ("of",):
            continue
        place = index + 2
        while place < len(mentions) and mentions[place].words[0] in SIDED:
            place += 1
        if place < len(mentions) and _found(mentions[place], known):
            return f"{mention.words[-1]} of the {' '.join(mentions[place].words)}"
    return ""


def _disease_of(mentions: Sequence[Mention], segmented: Collection[str], known: Collection[str]) -> str:
    """A disease that cannot be found and is named by its place, where a program takes the place instead: `parietal lobe
    infarct`; or an empty text.
    """
    structures = load_ontology().structures
    diseased: dict[str, str] = {}
    alone: set[str] = set()
    for mention, following in pairwise([*mentions, Mention("word", "", ("",))]):
        if mention.sort != "structure" or structures[mention.name].kind != "anatomy":
            continue
        disease = following.sort == "structure" and structures[following.name].kind == "pathology"
        if disease and not _found(following, known):
            diseased[mention.name] = " ".join((*mention.words, *following.words))
        else:
            alone.add(mention.name)
    return next((words for name, words in diseased.items() if name in {*segmented} - alone), "")


def _found(mention: Mention, known: Collection[str]) -> bool:
    return (
        mention.sort == "structure" and load_ontology().meant(mention.name, " ".join(mention.words), known) is not None
    )


def _not_found(mention: Mention, known: Collection[str]) -> bool:
    """Whether a mention is anatomy that cannot be found. Diseases are left out: prompts tell of them, too."""
    if mention.sort == "foreign":
        return True
    anatomy = mention.sort == "structure" and load_ontology().structures[mention.name].kind == "anatomy"
    return anatomy and mention.words[-1] not in HEMISPHERE and not _found(mention, known)


def _holding_lesions(mentions: Sequence[Mention]) -> list[str]:
    """The anatomy within which a prompt asks for lesions."""
    structures = load_ontology().structures
    return [
        item.name
        for index, item in enumerate(mentions)
        if item.sort == "structure"
        and structures[item.name].kind == "anatomy"
        and item.name not in HOLD_LESIONS
        and item.words[-1] not in HEMISPHERE
        and holds_lesions(mentions, index)
    ]


def _overlooked(mentioned: Collection[str], used: Collection[str], ontology: Ontology, known: Collection[str]) -> str:
    """A structure that the prompt names and a program passes over in favour of one that it does not name, or `""`."""
    anatomy = {name for name in {*mentioned, *used} if ontology.structures[name].kind == "anatomy"}
    if not anatomy & {*used} - {*mentioned}:
        return ""
    for name in sorted(anatomy & {*known} - {*used, *NEED_NO_NAME, HOLDS_LESIONS}):
        if not any(_related(name, other, ontology) for other in used):
            return name
    return ""


def _related(name: str, other: str, ontology: Ontology) -> bool:
    """Whether one is a part of the other, or a narrower concept."""
    first, second = ontology.structures[name], ontology.structures[other]
    wider = (ontology.ancestors(name), ontology.ancestors(other))
    return name in (*second.parts, *wider[1]) or other in (*first.parts, *wider[0])


def _other(side: Side) -> Side:
    return "right" if side == "left" else "left"


def _only_needs_no_name(structures: Sequence[tuple[str, Side]]) -> bool:
    return all(name in NEED_NO_NAME for name, _ in structures)


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
    return bool(words & SIDE_WORDS[_other(side)]) and not words & SIDE_WORDS[side] and not words & BOTH_WORDS
