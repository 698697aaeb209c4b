"""What a program may segment, by the prompt's reading: structures that it names, each as often as it names them and on
the sides that it says.

α is held to this while it writes (`decoding.py`). A structure that the prompt does not name would be refused afterwards
(`grounding.py`); here α cannot write it in the first place, and does not segment one structure twice in place of two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from vp_model.language.asked import SIDES, asked_structures
from vp_model.language.grounding import NEED_NO_NAME
from vp_model.ontology import load_ontology


def wanted_regions(prompt: str, known: Collection[str]) -> Counter[str] | None:
    """How often a program that answers the prompt segments each region at most; None where anything may be segmented:
    the prompt names nothing that is known, or a lesion, whose place and parts are found with the help of anatomy.

    Args:
        known: names of the structures that can be asked for, without sides.
    """
    ontology = load_ontology()
    named = asked_structures(prompt, known)
    if not named or any(ontology.structures[item.name].kind == "pathology" for item in named):
        return None
    wanted: Counter[str] = Counter()
    for name, sides in (*((item.name, item.sides) for item in named), *((name, SIDES) for name in NEED_NO_NAME)):
        structure = ontology.structures[name]
        for part in structure.parts or (name,):
            own = SIDES if ontology.structures[part].paired and not structure.paired else sides
            for side in own if ontology.structures[part].paired else ("",):
                wanted[f"{side} {part}".strip()] += 1
        if structure.parts:  # some weights find an assembled structure as a whole
            wanted.update(f"{side} {name}".strip() for side in (sides if structure.paired else ("",)))
    return wanted
