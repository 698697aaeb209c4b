"""Names, synonyms, hierarchy and DICOM codes of what can be asked for (`structures.json`).

Of each term the structure, and of each structure its code. What is not in here is recognised as unknown, so that a
prompt about it can be refused instead of guessed at.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

from vp_model.outcome import Side


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 8.8): code value, coding scheme designator, code meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Structure:
    """An anatomical structure or a pathology."""

    name: str
    """Canonical, lower case, without its side: `hippocampus`."""
    kind: str
    """`anatomy` or `pathology`."""
    group: str
    paired: bool
    """There is a left and a right one."""
    synonyms: tuple[str, ...]
    parents: tuple[str, ...]
    """Names of the wider concepts: a glioma is a neoplasm, a neoplasm is a mass."""
    code: Code | None
    category: Code
    color: tuple[int, int, int]
    """Display colour, sRGB 0–255."""
    adjectives: tuple[str, ...] = ()
    """As in `hippocampal volume`: found like a synonym, but no name of its own."""
    parts: tuple[str, ...] = ()
    """Names of the structures that make it up, all of it: who can find these can find it."""

    @property
    def terms(self) -> tuple[str, ...]:
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Descriptor:
    """A word that tells one finding from another: `hyperintense`, `cystic`, `chronic`."""

    name: str
    aspect: str
    """`signal`, `texture`, `enhancement`, `diffusion`, `component`, `age`, `size`, `number`, `location` or `shape`."""
    synonyms: tuple[str, ...]

    @property
    def terms(self) -> tuple[str, ...]:
        return (self.name, *self.synonyms)


def normalise(term: str) -> str:
    """Lower case, single spaces, no punctuation but inner hyphens, British spelling as American."""
    term = re.sub(
        r"[^a-z0-9\-' ]", " ", term.lower().replace("grey", "gray").replace("haem", "hem").replace("oedema", "edema")
    )
    return " ".join(term.replace("tumour", "tumor").split())


def singulars(term: str) -> Iterator[str]:
    """The term, and what it may be the plural of."""
    yield term
    if term.endswith("ies"):
        yield term[:-3] + "y"
    if term.endswith("es"):
        yield term[:-2]
    if term.endswith("s") and not term.endswith("ss"):
        yield term[:-1]
    if term.endswith("i"):
        yield term[:-1] + "us"


@dataclass(frozen=True)
class Ontology:
    """Everything that has a name."""

    version: int
    structures: Mapping[str, Structure]
    """By canonical name."""
    side_codes: Mapping[str, Code]
    terms: Mapping[str, str]
    """Normalised term → canonical name."""
    descriptors: Mapping[str, Descriptor] = field(default_factory=dict)
    """By canonical name."""
    descriptor_terms: Mapping[str, str] = field(default_factory=dict)
    """Normalised term → canonical name of the descriptor."""

    def find(self, term: str) -> Structure | None:
        """The structure of a term without its side; tolerant of case and plural. None if there is none."""
        for candidate in singulars(normalise(term)):
            if candidate in self.terms:
                return self.structures[self.terms[candidate]]
        return None

    def describe(self, term: str) -> Descriptor | None:
        """The descriptor of a word or phrase: `bright` → hyperintense. None if there is none."""
        name = self.descriptor_terms.get(normalise(term))
        return None if name is None else self.descriptors[name]

    def code(self, structure: Structure) -> Code:
        """The code of a structure: a public one, or this project's own where none is known."""
        return structure.code or private_code(structure.name)

    def resolve(self, region: str) -> tuple[Structure, Side] | None:
        """Structure and side of a region as programs write it: `left hippocampus`, `hippocampus`, `brainstem`."""
        words = normalise(region)
        for side in ("left", "right"):
            if words.startswith(side + " "):
                structure = self.find(words.removeprefix(side + " "))
                return (structure, side) if structure is not None and structure.paired else None  # type: ignore[return-value]
        structure = self.find(words)
        if structure is None:
            return None
        return (structure, "both" if structure.paired else "")

    def meant(self, name: str, term: str, known: Collection[str]) -> str | None:
        """What a term stands for among those known: its structure, or, of "lesion", the only kind that is known.

        Weights that know white matter lesions alone can find no other by "the lesion", and the result says which it is.
        An "abnormality" is too wide for that.

        Args:
            name: the structure that the term names.
        """
        if name in known:
            return name
        if not re.search(r"\blesions?$", term):
            return None
        narrower = [other for other in known if other in self.structures and name in self.ancestors(other)]
        return narrower[0] if len(narrower) == 1 else None

    def assembled(self, names: Collection[str]) -> frozenset[str]:
        """Names of the structures that are not among those given, but of which all parts are."""
        return frozenset(
            structure.name
            for structure in self.structures.values()
            if structure.parts and structure.name not in names and set(structure.parts) <= set(names)
        )

    def ancestors(self, name: str) -> frozenset[str]:
        """Names of all wider concepts of a structure."""
        found: set[str] = set()
        waiting = list(self.structures[name].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting += self.structures[parent].parents
        return frozenset(found)


@cache
def load_ontology() -> Ontology:
    """Reads the data file, once."""
    data = json.loads((Path(__file__).parent / "structures.json").read_text(encoding="utf-8"))
    categories = {kind: Code(*code) for kind, code in data["categories"].items()}
    structures = {
        row["name"]: Structure(
            name=row["name"],
            kind=row["kind"],
            group=row["group"],
            paired=row["paired"],
            synonyms=tuple(row["synonyms"]),
            parents=tuple(row["parents"]),
            code=Code(*row["code"]) if row["code"] else None,
            category=categories[row["kind"]],
            color=tuple(row["color"]),
            adjectives=tuple(row.get("adjectives", ())),
            parts=tuple(row.get("parts", ())),
        )
        for row in data["structures"]
    }
    terms: dict[str, str] = {}
    for structure in structures.values():
        terms.setdefault(normalise(structure.name), structure.name)
    for structure in structures.values():
        for synonym in (*structure.synonyms, *structure.adjectives):
            terms.setdefault(normalise(synonym), structure.name)
    descriptors = {
        row["name"]: Descriptor(row["name"], row["aspect"], tuple(row["synonyms"])) for row in data["descriptors"]
    }
    return Ontology(
        version=data["version"],
        structures=MappingProxyType(structures),
        side_codes=MappingProxyType({side: Code(*code) for side, code in data["sides"].items()}),
        terms=MappingProxyType(terms),
        descriptors=MappingProxyType(descriptors),
        descriptor_terms=MappingProxyType(
            {normalise(term): entry.name for entry in descriptors.values() for term in entry.terms}
        ),
    )


PRIVATE_SCHEME = "99VOXELPROMPT"
"""Coding Scheme Designator of codes of this project (PS3.16 8.2: `99` begins a private one)."""


def private_code(meaning: str) -> Code:
    """The project's own code of a name: its value follows from the name, and fits SH (16 characters)."""
    value = hashlib.sha256(meaning.encode()).hexdigest()[:12].upper()
    return Code(f"VP{value}", PRIVATE_SCHEME, meaning[:64])


FALLBACK_COLOR = (255, 200, 0)


def color_of(name: str) -> tuple[int, int, int]:
    """Display colour of a region by its name in an outcome, which may be no name of the ontology."""
    structure = load_ontology().structures.get(name)
    return structure.color if structure is not None else FALLBACK_COLOR


SIDE_CODES: Mapping[str, Code] = load_ontology().side_codes
