"""Codes of structures, sides, measurements and units; a private scheme for what has none."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from highdicom.sr import CodedConcept

from vp_model.ontology import Code, load_ontology
from vp_model.program.vocabulary import measurement_names

PRIVATE_SCHEME = "99VOXELPROMPT"
LONGEST_VALUE, LONGEST_MEANING = 16, 64
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
UNIT_MEANINGS = {
    "ml": "milliliter",
    "mm": "millimeter",
    "mm2": "square millimeter",
    "%": "percent",
    "1": "no units",
    "[hnsf'U]": "Hounsfield unit",
    "ml/a": "milliliter per year",
    "mm/a": "millimeter per year",
    "%/a": "percent per year",
}
DEFAULT_COLOR = (255, 200, 0)


@dataclass(frozen=True)
class RegionCodes:
    """How a region is coded in SEG and SR."""

    category: CodedConcept
    type: CodedConcept
    side: CodedConcept | None
    color: tuple[int, int, int]


def region_codes(structure: str, side: str) -> RegionCodes:
    """Codes of a structure by its name in an outcome, which may be no name of the ontology (`tissue around …`)."""
    ontology = load_ontology()
    known = ontology.structures.get(structure)
    laterality = ontology.side_codes.get(side)
    return RegionCodes(
        category=concept(known.category if known else ANATOMICAL_STRUCTURE),
        type=concept(known.code) if known and known.code else private(structure),
        side=concept(laterality) if laterality and side in ("left", "right", "both") else None,
        color=known.color if known else DEFAULT_COLOR,
    )


def measurement_code(name: str) -> CodedConcept:
    """The name of a measurement: a standard code where there is one, else a private one."""
    entry = measurement_names().get(name)
    if entry is not None and entry.code is not None:
        value, scheme, meaning = entry.code
        return CodedConcept(value, scheme, meaning)
    return private(name)


def unit_code(unit: str) -> CodedConcept:
    """A UCUM unit; a unit of arbitrary intensity is `1`."""
    return CodedConcept(unit, "UCUM", UNIT_MEANINGS.get(unit, unit))


def private(name: str) -> CodedConcept:
    """A code of this project's own scheme, made from the name; the same name has the same code."""
    words = re.findall(r"[A-Za-z0-9]+", name.upper())
    value = "_".join(words)
    if len(value) > LONGEST_VALUE:
        value = f"{value[:9]}_{hashlib.sha256(name.encode()).hexdigest()[:6].upper()}"
    return CodedConcept(value or "UNNAMED", PRIVATE_SCHEME, name[:1].upper() + name[1:LONGEST_MEANING])


def concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)
