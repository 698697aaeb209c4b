"""Names of the ontology as prompts have them: in the plural, without hyphens and articles."""

from __future__ import annotations

from functools import cache, lru_cache

from vp_model.ontology import load_ontology, singulars


def lookup(phrase: str) -> str | None:
    """Canonical name of the structure that words name; None where they name none."""
    ontology = load_ontology()
    terms = joined_terms()
    for candidate in singulars(phrase):
        if candidate in ontology.terms:
            return ontology.terms[candidate]
        if candidate in terms:
            return terms[candidate]
    return None


@lru_cache(maxsize=65536)
def is_anatomy(phrase: str) -> bool:
    """Whether words name an anatomical structure."""
    name = lookup(phrase)
    return name is not None and load_ontology().structures[name].kind == "anatomy"


@cache
def joined_terms() -> dict[str, str]:
    """Terms with a space for each hyphen, without articles, and with `in` for `of`: `gray matter in cerebellum`."""
    ontology = load_ontology()
    plain = {term.replace("-", " "): name for term, name in ontology.terms.items()}
    forms = {
        term.replace(before, after): name
        for term, name in plain.items()
        for before, after in ((" of the ", " of "), (" of ", " in "), (" of the ", " in "))
    }
    return {term: name for term, name in forms.items() if term not in ontology.terms}
