"""From any term the structure, from any structure its code."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from vp_model.ontology import load_ontology, normalise, private_code, singulars

PAPER_STRUCTURES = [
    "brain",
    "dura",
    "skull cavity",
    "cerebrum",
    "cerebral white matter",
    "cerebral cortex",
    "brainstem",
    "cerebellum",
    "ventricular system",
    "cerebral spinal fluid",
    "amygdala",
    "nucleus accumbens",
    "hippocampus",
    "thalamus",
    "caudate",
    "putamen",
    "dorsal striatum",
    "globus pallidus externus",
    "globus pallidus internus",
    "basal ganglia",
    "hypothalamus",
    "fornix body",
    "fornix crus",
    "fornix column",
    "mammillary body",
    "septal nucleus",
    "subthalamic nucleus",
    "habenula",
    "ventral pallidum",
    "extended amygdala",
    "red nucleus",
    "anterior commissure",
    "posterior commissure",
    "pars compacta",
    "pars reticulata",
    "parabrachial pigmented nucleus",
    "ventral tegmental area",
    "fimbria",
    "septum pellucidum",
    "tectum",
    "pineal gland",
    "superior colliculus",
    "inferior colliculus",
    "cerebral peduncle",
    "medullary pyramid",
    "medial lemniscus",
    "superior cerebellar peduncle",
    "middle cerebellar peduncle",
    "inferior cerebellar peduncle",
    "cerebellar gray matter",
    "cerebellar white matter",
    "lateral ventricle",
    "inferior lateral ventricle",
    "posterior lateral ventricle",
    "anterior lateral ventricle",
    "atrium",
    "third ventricle",
    "fourth ventricle",
    "interventricular foramen",
    "cerebral aqueduct",
    "frontal lobe",
    "parietal lobe",
    "temporal lobe",
    "occipital lobe",
    "cingulate cortex",
    "insular cortex",
    "anterior cingulate cortex",
    "caudal anterior cingulate cortex",
    "rostral anterior cingulate cortex",
    "posterior cingulate cortex",
    "isthmus cingulate cortex",
    "frontal pole",
    "middle frontal gyrus",
    "caudal middle frontal gyrus",
    "rostral middle frontal gyrus",
    "superior frontal gyrus",
    "inferior frontal gyrus",
    "pars opercularis",
    "pars orbitalis",
    "pars triangularis",
    "lateral orbitofrontal cortex",
    "medial orbitofrontal cortex",
    "precentral gyrus",
    "paracentral lobule",
    "inferior parietal lobule",
    "superior parietal lobule",
    "supramarginal gyrus",
    "precuneus",
    "postcentral gyrus",
    "entorhinal cortex",
    "fusiform gyrus",
    "parahippocampal gyrus",
    "temporal pole",
    "inferior temporal gyrus",
    "middle temporal gyrus",
    "superior temporal gyrus",
    "transverse temporal gyrus",
    "cuneus",
    "lingual gyrus",
    "pericalcarine cortex",
]


@pytest.mark.requirement("every structure of the paper's appendix B.4 has a name here")
@pytest.mark.parametrize("term", PAPER_STRUCTURES)
def test_every_structure_of_the_paper_is_known(term: str) -> None:
    spoken = {"cerebral spinal fluid": "cerebrospinal fluid"}.get(term, term)
    assert load_ontology().find(spoken) is not None


def test_terms_are_found_whatever_their_case_plural_and_spelling() -> None:
    ontology = load_ontology()
    for term in ("Hippocampi", "HIPPOCAMPUS", "hippocampal formation"):
        found = ontology.find(term)
        assert found is not None and found.name == "hippocampus"
    assert ontology.find("tumours") == ontology.find("neoplasm")
    assert ontology.find("haemorrhages") == ontology.find("hemorrhage")
    assert ontology.find("grey matter") == ontology.find("cerebral cortex")


def test_what_is_no_part_of_the_brain_is_recognised_as_unknown() -> None:
    for term in ("pancreas", "left knee", "banana", ""):
        assert load_ontology().find(term) is None


def test_a_side_belongs_to_paired_structures_only() -> None:
    ontology = load_ontology()
    resolved = ontology.resolve("right hippocampi")
    assert resolved is not None and resolved[1] == "right"
    assert ontology.resolve("left brainstem") is None
    both = ontology.resolve("thalamus")
    assert both is not None and both[1] == "both"


def test_the_hierarchy_leads_from_glioblastoma_to_lesion() -> None:
    assert load_ontology().ancestors("glioblastoma") == {"glioma", "neoplasm", "mass", "lesion"}


def test_no_term_names_two_structures() -> None:
    owners: dict[str, str] = {}
    for structure in load_ontology().structures.values():
        for term in structure.terms:
            assert owners.setdefault(normalise(term), structure.name) == structure.name, term


def test_no_term_found_by_its_plural_belongs_to_another_structure() -> None:
    """`find` tries singulars: whatever they lead to must be what the term itself leads to."""
    ontology = load_ontology()
    for term, owner in ontology.terms.items():
        found = ontology.find(term)
        assert found is not None and found.name == owner, term
        for singular in singulars(term):
            assert ontology.terms.get(singular, owner) == owner, term


EVERYDAY = {
    "hippo": "hippocampus",
    "hippocampal": "hippocampus",
    "Amyg": "amygdala",
    "NAcc": "nucleus accumbens",
    "LV": "lateral ventricle",
    "3rd vent": "third ventricle",
    "4V": "fourth ventricle",
    "GP": "globus pallidus",
    "vDC": "ventral diencephalon",
    "WM": "cerebral white matter",
    "GM": "cerebral cortex",
    "CSF spaces": "cerebrospinal fluid",
    "parenchyma": "brain",
    "WMHs": "white matter lesion",
    "MS plaques": "white matter lesion",
    "chronic microvascular ischemic changes": "white matter lesion",
    "temporal horns": "inferior lateral ventricle",
    "brain mets": "metastasis",
    "GBM": "glioblastoma",
    "SDH": "subdural hemorrhage",
    "IPH": "intracerebral hemorrhage",
    "lacunes": "lacunar infarct",
    "MCA": "middle cerebral artery territory",
    "PICA territory": "cerebellar artery territory",
    "splenium": "splenium of the corpus callosum",
    "Virchow-Robin spaces": "enlarged perivascular space",
    "AVM": "arteriovenous malformation",
}


@pytest.mark.parametrize("term", EVERYDAY)
def test_everyday_words_and_abbreviations_are_understood(term: str) -> None:
    found = load_ontology().find(term)
    assert found is not None and found.name == EVERYDAY[term]


@pytest.mark.parametrize(
    "unit", ["cc", "ml", "mm", "cm", "v1", "v3", "volume", "left", "size", "brainy", "ct", "flair"]
)
def test_units_and_common_words_name_no_structure(unit: str) -> None:
    assert load_ontology().find(unit) is None


def test_every_structure_has_a_code_and_no_code_names_two() -> None:
    """Sides share the code of their structure; where no public code is known, there is one of the project's own."""
    ontology = load_ontology()
    owners: dict[tuple[str, str], str] = {}
    for structure in ontology.structures.values():
        code = ontology.code(structure)
        assert code.value and len(code.value) <= 16 and code.scheme and 0 < len(code.meaning) <= 64
        assert owners.setdefault((code.scheme, code.value), structure.name) == structure.name
        assert all(0 <= channel <= 255 for channel in structure.color)


def test_public_codes_are_those_of_the_standard() -> None:
    """Every SNOMED CT, DCM and NCIt code that pydicom's dictionary of PS3.16 knows has a meaning that fits its name."""
    unknown = set()
    for structure in load_ontology().structures.values():
        if structure.code is None:
            continue
        entries = [codes for codes in concepts[structure.code.scheme].values() if structure.code.value in codes]
        if not entries:
            unknown.add(structure.name)
            continue
        meanings = {entry[structure.code.value][0].lower() for entry in entries}
        words = {word for term in structure.terms for word in re.findall("[a-z0-9]+", normalise(term))}
        assert any(words & set(re.findall("[a-z0-9]+", normalise(meaning))) for meaning in meanings), structure.name
    assert unknown <= FROM_THE_CODE_LIST, "A code that no source confirms."


FROM_THE_CODE_LIST = {
    "glioma", "glioblastoma", "astrocytoma", "meningioma", "metastasis", "infarct", "lacunar infarct",
    "intracerebral hemorrhage", "subdural hemorrhage", "microbleed", "arachnoid cyst", "gliosis", "necrosis",
}  # fmt: skip
"""Codes that `brain_codes.csv` gives with their source, and pydicom's dictionary may not hold."""


def test_codes_agree_with_the_list_of_brain_codes(shared_data: Path) -> None:
    with (shared_data / "codes" / "brain_codes.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["type code"] for row in csv.DictReader(file)}
    ontology = load_ontology()
    for name in FROM_THE_CODE_LIST:
        code = ontology.structures[name].code
        assert code is not None and f"{code.scheme}:{code.value}" in listed, name


MIDLINE = {
    "brain", "dura", "intracranial cavity", "brainstem", "ventricular system", "cerebrospinal fluid",
    "anterior commissure", "posterior commissure", "septum pellucidum", "tectum", "pineal gland", "third ventricle",
    "fourth ventricle", "cerebral aqueduct",
}  # fmt: skip
"""Of the structures of appendix B.4, those that have no left and right one."""


@pytest.mark.requirement("every structure of the paper's appendix B.4 has a left and a right one, and a DICOM code")
@pytest.mark.parametrize("term", PAPER_STRUCTURES)
def test_every_structure_of_the_paper_has_its_sides_and_a_code(term: str) -> None:
    ontology = load_ontology()
    structure = ontology.find({"cerebral spinal fluid": "cerebrospinal fluid"}.get(term, term))
    assert structure is not None and structure.paired == (structure.name not in MIDLINE)
    for side in ("left", "right"):
        assert ontology.resolve(f"{side} {term}") == ((structure, side) if structure.paired else None)
        assert ontology.side_codes[side].scheme == "SCT"
    code = ontology.code(structure)
    assert code.scheme in ("SCT", "DCM", "NCIt") or code == private_code(structure.name)


NOT_HERE = {
    "281231009": "vessels: no structure of ours is all of them",
    "180933005": "the fifth ventricle is a cavum that few heads have",
    "85756007": "body tissue: says nothing",
    "389080008": "white matter of any part; ours is that of the cerebrum",
    "389081007": "gray matter of any part; ours is the cortex of the cerebrum, or of the cerebellum",
    "372087000": "a primary neoplasm; ours is any",
    "301766008": "a lesion of the brain as a finding; ours is the lesion itself",
    "1373614004": "a newer code of the meningioma",
    "432504007": "an infarction as a disorder; ours is the infarct",
    "1386000": "a haemorrhage as a disorder; ours is the blood",
    "2032001": "an edema as a disorder",
    "32693004": "demyelination; ours are the hyperintensities of any cause",
    "6118003": "a disease",
    "RESCAV": "a private code of others",
}
"""Codes of the list that no structure has, and why."""


def test_every_code_of_the_list_belongs_to_a_structure_or_is_left_out_for_a_reason(shared_data: Path) -> None:
    with (shared_data / "codes" / "brain_codes.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["type code"] for row in csv.DictReader(file)}
    ours = {f"{entry.code.scheme}:{entry.code.value}" for entry in load_ontology().structures.values() if entry.code}
    assert {code.split(":")[1] for code in listed - ours} == set(NOT_HERE)


def test_parents_exist_and_lead_nowhere_in_a_circle() -> None:
    ontology = load_ontology()
    for structure in ontology.structures.values():
        assert set(structure.parents) <= set(ontology.structures)
        assert structure.name not in ontology.ancestors(structure.name)
        if structure.kind == "pathology" and structure.name != "lesion":
            assert "lesion" in ontology.ancestors(structure.name)


def test_hierarchy_of_the_paper_and_its_fourteen_classes_of_pathology_are_there() -> None:
    ontology = load_ontology()
    assert {"neoplasm", "mass", "lesion"} <= ontology.ancestors("glioma")
    classes = [entry for entry in ontology.structures.values() if entry.kind == "pathology"]
    assert len(classes) >= 14
    groups = {entry.group for entry in ontology.structures.values()}
    assert {"vascular territory", "cortical region", "deep", "ventricle", "tissue"} <= groups


def test_descriptors_are_found_by_their_synonyms_and_none_is_ambiguous() -> None:
    ontology = load_ontology()
    owners: dict[str, str] = {}
    for descriptor in ontology.descriptors.values():
        for term in descriptor.terms:
            assert owners.setdefault(normalise(term), descriptor.name) == descriptor.name, term
            assert ontology.describe(term) is descriptor
    bright = ontology.describe("Bright")
    assert bright is not None and (bright.name, bright.aspect) == ("hyperintense", "signal")
    assert ontology.describe("blue") is None


def test_every_structure_is_found_by_each_of_its_terms_with_its_sides() -> None:
    ontology = load_ontology()
    for structure in ontology.structures.values():
        for term in (*structure.terms, *structure.adjectives):
            assert ontology.find(term) is structure
            assert ontology.find(term.upper()) is structure
        sided = ontology.resolve(f"left {structure.name}")
        assert (sided is not None) == structure.paired


def test_reading_the_ontology_loads_no_torch() -> None:
    code = "import sys, vp_model.ontology, vp_model.checkpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("term", "known", "meant"),
    [
        ("lesion", {"white matter lesion", "hippocampus"}, "white matter lesion"),
        ("brain lesions", {"white matter lesion"}, "white matter lesion"),
        ("lesion", {"white matter lesion", "infarct"}, None),
        ("lesion", {"hippocampus"}, None),
        ("abnormality", {"white matter lesion"}, None),
        ("glioma", {"white matter lesion"}, None),
        ("hippocampi", {"hippocampus"}, "hippocampus"),
    ],
)
def test_a_lesion_is_the_only_kind_that_is_known(term: str, known: set[str], meant: str | None) -> None:
    ontology = load_ontology()
    structure = ontology.find(term)
    assert structure is not None
    assert ontology.meant(structure.name, term, known) == meant
