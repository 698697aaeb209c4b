"""A refusal names what is near, counts the rest and says what lists all; a short list is given as it is."""

from __future__ import annotations

import pytest

from vp_model.checkpoint import open_checkpoint
from vp_model.ontology import load_ontology
from vp_model.program.possible import GROUPS, NEAREST, can_find, everything, in_full, nearest

SERVED = open_checkpoint().served


@pytest.mark.parametrize(
    ("prompt", "first"),
    [
        ("segment the ventricle", {"lateral ventricle", "third ventricle", "fourth ventricle"}),
        ("volume of the frontal pole", {"frontal lobe"}),
        ("measure the white matter", {"cerebral white matter"}),
        ("hippocampal tail", {"hippocampus"}),
        ("thickness of the puttamen", {"putamen"}),
        ("how large are the left basal nuclei", {"basal ganglia"}),
    ],
)
def test_what_is_near_to_a_prompt_comes_first(prompt: str, first: set[str]) -> None:
    assert first <= set(nearest(prompt, SERVED))
    assert can_find(SERVED, prompt).startswith(f"Nearest to it: {nearest(prompt, SERVED)[0]}")


@pytest.mark.parametrize(
    "prompt", ["", "what is the weather today?", "segment the pancreas", "!?", "left right of the"]
)
def test_nothing_is_near_to_what_names_nothing(prompt: str) -> None:
    assert nearest(prompt, SERVED) == ()
    assert can_find(SERVED, prompt).startswith("It can find")


def test_every_structure_is_nearest_to_itself() -> None:
    for name in SERVED:
        assert nearest(f"measure the {name}", SERVED)[0] == name


def test_a_reason_stays_short_whatever_the_weights_know() -> None:
    every = set(load_ontology().structures)
    said = can_find(every, "the gyrus of the white matter")
    assert len(said) < 800
    assert f"It can find {len(every)} structures" in said and "`vp-model show` lists them all" in said
    assert len(nearest("the gyrus of the white matter", every)) <= NEAREST


def test_counts_of_the_groups_make_up_the_whole() -> None:
    said = can_find(SERVED)
    counted = [int(part.split(":")[0]) for part in said.split("(")[1:]]
    assert sum(counted) == len(SERVED)


def test_every_group_of_the_ontology_has_its_words() -> None:
    assert {structure.group for structure in load_ontology().structures.values()} == set(GROUPS)


def test_a_short_list_is_given_whole_and_once() -> None:
    assert can_find({"thalamus", "brainstem"}, "the pons") == "It can find: brainstem, thalamus."
    assert in_full(can_find({"thalamus"}), {"thalamus"}) == "It can find: thalamus."


def test_other_programs_get_every_name() -> None:
    full = in_full(f"This is unknown. {can_find(SERVED)}", SERVED)
    assert full.endswith(everything(SERVED))
    assert all(name in full for name in SERVED)
    assert in_full("The prompt was not understood.", SERVED) == "The prompt was not understood."
