"""Coded concepts: of the ontology, of measurements and units, and private ones where no public code is known."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode

from vp_model.ontology import Code, load_ontology
from vp_model.outcome import Measurement
from vp_model.program.vocabulary import measurement_names
from vp_node.results.wording import line

PRIVATE_SCHEME = "99VOXELPROMPT"
"""Coding Scheme Designator of codes of this project (PS3.16 8.2: `99` begins a private one)."""

PRIVATE_SCHEME_NAME = "VoxelPrompt Node private codes"

UNIT_MEANINGS = {
    "ml": "milliliter",
    "mm": "millimeter",
    "mm2": "square millimeter",
    "mm3": "cubic millimeter",
    "%": "percent",
    "1": "no units",
    "ml/a": "milliliter per year",
    "mm/a": "millimeter per year",
    "%/a": "percent per year",
    "[hnsf'U]": "Hounsfield unit",
}

DERIVATIONS = {
    "mean intensity": Code("373098007", "SCT", "Mean"),
    "median intensity": Code("373099004", "SCT", "Median"),
    "SD intensity": Code("386136009", "SCT", "Standard Deviation"),
}
"""CID 7464, for intensities: what is measured is the intensity; how it became one number is its derivation."""
_INTENSITY = {
    "MR": Code("110852", "DCM", "MR signal intensity"),
    "CT": Code("112031", "DCM", "Attenuation Coefficient"),
}
_COORDINATES = {
    "center of mass x": "Center of mass, coordinate towards right",
    "center of mass y": "Center of mass, coordinate towards anterior",
    "center of mass z": "Center of mass, coordinate towards head",
}


@dataclass(frozen=True)
class StructureCodes:
    """How a structure is written in SEG and SR."""

    type: CodedConcept
    category: CodedConcept
    laterality: CodedConcept | None
    color: tuple[int, int, int]
    is_anatomy: bool


def coded(code: Code) -> CodedConcept:
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=line(code.meaning))


def coded_from(code: DicomCode) -> CodedConcept:
    """A code of pydicom's dictionary."""
    return CodedConcept.from_code(code)


def private(meaning: str) -> CodedConcept:
    """A private code for a name: its value follows from the name, and fits SH (16 characters)."""
    value = hashlib.sha256(meaning.encode()).hexdigest()[:12].upper()
    return CodedConcept(value=f"VP{value}", scheme_designator=PRIVATE_SCHEME, meaning=line(meaning) or "unnamed")


def structure_codes(name: str, side: str) -> StructureCodes:
    """Codes of a structure; private where the ontology has none (`tissue around x`, `a and b`)."""
    ontology = load_ontology()
    structure = ontology.structures.get(name) or ontology.find(name)
    laterality = coded(ontology.side_codes[side]) if side in ontology.side_codes else None
    if structure is None:
        category = Code("91723000", "SCT", "Anatomical Structure")
        return StructureCodes(private(name), coded(category), laterality, (255, 200, 0), True)
    concept = coded(structure.code) if structure.code is not None else private(structure.name)
    color = _lighter(structure.color) if side == "right" else structure.color
    return StructureCodes(concept, coded(structure.category), laterality, color, structure.kind == "anatomy")


def _lighter(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Half way to white: the ontology has one colour for both sides, and a legend must tell them apart."""
    red, green, blue = ((value + 255) // 2 for value in color)
    return red, green, blue


def brain() -> CodedConcept:
    """Where a pathology lies: the finding site of what has no better one."""
    return structure_codes("brain", "").type


def measurement_code(measurement: Measurement, modality: str) -> tuple[CodedConcept, CodedConcept | None]:
    """Concept name of a measurement, and its derivation (CID 7464) where it has one."""
    if measurement.name in DERIVATIONS and modality in _INTENSITY:
        return coded(_INTENSITY[modality]), coded(DERIVATIONS[measurement.name])
    if measurement.name in _COORDINATES:
        return private(_COORDINATES[measurement.name]), None
    known = measurement_names().get(measurement.name)
    if known is not None and known.code is not None:
        return coded(Code(*known.code)), None
    return private(measurement.name[:1].upper() + measurement.name[1:]), None


@cache
def _answers() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))
    return loaded


def coded_answer(topic: str, text: str) -> tuple[CodedConcept, CodedConcept] | None:
    """Question and answer as codes, where the words of an answer allow one reading (`answers.json`)."""
    name = _answers()["topics"].get(topic)
    if name is None:
        return None
    values = [item for item in _answers()["values"][topic] if re.search(item["pattern"], text, re.IGNORECASE)]
    signs = {json.dumps(item.get("code") or item["private"]) for item in values}
    if topic == "signal intensity" and len(signs) != 1:
        return None
    return (_entry(name), _entry(values[0])) if values else None


def _entry(item: dict[str, Any]) -> CodedConcept:
    return coded(Code(*item["code"])) if "code" in item else private(item["private"])


def places_in(text: str) -> list[tuple[CodedConcept, CodedConcept | None]]:
    """Anatomical structures that a text names, with their side: the longest names first come, at most three."""
    ontology = load_ontology()
    words = re.findall(r"[A-Za-z]+", text.lower())
    found: list[tuple[CodedConcept, CodedConcept | None]] = []
    start = 0
    while start < len(words) and len(found) < 3:
        for length in range(min(5, len(words) - start), 0, -1):
            resolved = ontology.resolve(" ".join(words[start : start + length]))
            code = resolved[0].code if resolved is not None and resolved[0].kind == "anatomy" else None
            if resolved is not None and code is not None:
                side = resolved[1]
                named = any(word in ("left", "right") for word in words[start : start + length])
                laterality = ontology.side_codes.get(side) if named else None
                entry = (coded(code), coded(laterality) if laterality is not None else None)
                if all(entry[0].value != item[0].value for item in found):
                    found.append(entry)
                start += length - 1
                break
        start += 1
    return found


def identify_private_scheme(dataset: Dataset, organization: str) -> None:
    """Coding Scheme Identification Sequence (0008,0110): whose the private codes are (PS3.3 C.12.1.1.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = PRIVATE_SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = organization
    dataset.CodingSchemeIdentificationSequence = [item]


def unit_code(unit: str) -> CodedConcept:
    """UCUM."""
    return CodedConcept(value=unit or "1", scheme_designator="UCUM", meaning=UNIT_MEANINGS.get(unit or "1", unit))
