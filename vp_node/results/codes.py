"""Coded concepts: of the ontology, of measurements and units, and private ones where no public code is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset

from vp_model.ontology import Code, load_ontology
from vp_model.outcome import Measurement
from vp_model.program.vocabulary import measurement_names

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
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning[:64])


def private(meaning: str) -> CodedConcept:
    """A private code for a name: its value follows from the name, and fits SH (16 characters)."""
    value = hashlib.sha256(meaning.encode()).hexdigest()[:12].upper()
    return CodedConcept(value=f"VP{value}", scheme_designator=PRIVATE_SCHEME, meaning=meaning[:64])


def structure_codes(name: str, side: str) -> StructureCodes:
    """Codes of a structure; private where the ontology has none (`tissue around x`, `a and b`)."""
    ontology = load_ontology()
    structure = ontology.structures.get(name) or ontology.find(name)
    laterality = coded(ontology.side_codes[side]) if side in ontology.side_codes else None
    if structure is None:
        category = Code("91723000", "SCT", "Anatomical Structure")
        return StructureCodes(private(name), coded(category), laterality, (255, 200, 0), True)
    concept = coded(structure.code) if structure.code is not None else private(structure.name)
    return StructureCodes(concept, coded(structure.category), laterality, structure.color, structure.kind == "anatomy")


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
