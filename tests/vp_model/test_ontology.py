"""From any term the structure, from any structure its code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vp_model.ontology import load_ontology, normalise

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


def test_reading_the_ontology_loads_no_torch() -> None:
    code = "import sys, vp_model.ontology, vp_model.checkpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
