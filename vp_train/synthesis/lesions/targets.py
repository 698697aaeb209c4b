"""Which parts of synthetic lesions a name of the ontology means: kinds, narrower kinds, components of others."""

from __future__ import annotations

from vp_model.ontology import load_ontology
from vp_train.synthesis.lesions.painting import Layer


def is_a(structure: str, name: str) -> bool:
    """Whether a structure of the ontology is what `name` means, or a narrower kind of it: a glioma is a neoplasm."""
    return structure == name or name in load_ontology().ancestors(structure)


def codes_of(layer: Layer, name: str) -> list[int]:
    """Codes of the lesions that are a `name`, without what lies around them, and of components that are one: the blood
    within a glioblastoma is a hemorrhage; edema around it is no part of the neoplasm.

    Components of lesions make no `lesion` of their own: a lesion ends where its own mask ends.
    """
    found: list[int] = []
    for number, lesion in enumerate(layer.lesions):
        own = set(lesion.own) if is_a(lesion.facts.structure, name) else set()
        for component, codes in lesion.masks.items():
            if component != lesion.facts.structure and component == name:
                own.update(codes)
        found += layer.with_codes(number, sorted(own))
    return found
