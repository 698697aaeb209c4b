"""What a program may segment, by its prompt: nothing that was not named, nothing twice, all in the same volumes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from vp_model.agent import Agent
from vp_model.language.state import initial_text
from vp_model.language.wanted import wanted_regions
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume
from vp_model.program.checker import Known
from vp_model.program.environment import initial_known, region_targets
from vp_model.program.grammar import grammar
from vp_model.program.writer import ProgramWriter

KNOWN = frozenset(
    {"thalamus", "brainstem", "caudate", "putamen", "dorsal striatum", "brain", "white matter lesion", "hippocampus"}
)


def test_a_structure_may_be_segmented_once_on_each_side_for_each_time_that_it_is_named() -> None:
    wanted = wanted_regions("volume of the thalamus and the brainstem", KNOWN)
    assert wanted == Counter({"left thalamus": 1, "right thalamus": 1, "brainstem": 1, "brain": 1})


def test_a_structure_of_one_side_may_be_segmented_on_that_side_alone() -> None:
    wanted = wanted_regions("volume of the left dorsal striatum and the brainstem", KNOWN)
    assert wanted is not None
    assert (wanted["left caudate"], wanted["right caudate"], wanted["right dorsal striatum"]) == (1, 0, 0)


def test_parts_may_be_segmented_for_what_is_put_together_from_them_and_for_themselves() -> None:
    wanted = wanted_regions("outline the dorsal striatum and the right putamen", KNOWN)
    assert wanted is not None
    assert (wanted["right putamen"], wanted["right caudate"], wanted["left hippocampus"]) == (2, 1, 0)


@pytest.mark.parametrize("prompt", ["how are you?", "volume of the pancreas", "where is the white matter lesion?"])
def test_a_prompt_that_names_nothing_known_or_a_lesion_restricts_nothing(prompt: str) -> None:
    assert wanted_regions(prompt, KNOWN) is None


def known() -> Known:
    volumes = [InputVolume(f"v{number}", kind, "2024-03-01", 0) for number, kind in enumerate(("T1", "T2", "CT"), 1)]
    regions = ("left thalamus", "right thalamus", "brainstem")
    return initial_known(volumes, region_targets(load_ontology(), regions))


def segments(grammar: str) -> str:
    """What the rules say of `segment` alone: other operations name places, too."""
    return " ".join(re.findall(r'"segment\(" (.+?) ", " marked', grammar))


def test_after_the_first_segment_the_others_take_the_same_volumes_and_what_is_left() -> None:
    writer = ProgramWriter(known())
    writer.accept('task("segmentation")')
    before = writer.grammar()
    writer.accept('roi_1 = segment("left thalamus", v1<MOD>, v3<MOD>)')
    writer.narrow(frozenset({"brainstem"}), ("v1", "v3"))
    after = writer.grammar()
    assert "thalamus" in segments(before)
    assert "thalamus" not in segments(after) and "brainstem" in segments(after)
    marked = next(line for line in after.splitlines() if line.startswith("marked_0:"))
    assert "v1" in marked and "v3" in marked and "v2" not in marked


def test_grammars_of_volumes_that_go_together_are_not_mixed_up_with_others() -> None:
    free = known()
    assert grammar(free) != grammar(replace(free, together=("v1",))) != grammar(replace(free, together=("v1", "v2")))


def test_alpha_cannot_write_what_it_would_rather_segment() -> None:
    agent = Agent.load()
    volumes = [InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "FLAIR", "2024-03-01", 0)]
    state = initial_text("segment the left hippocampus", volumes, agent.checkpoint.served)
    names = initial_known(volumes, region_targets(load_ontology(), agent.checkpoint.regions))
    written = {}
    for kind, wanted in (("free", None), ("held", Counter({"right hippocampus": 1}))):
        writer = agent._writer()
        writer.read(state)
        written[kind] = writer.write(names, wanted).code
    assert 'segment("left hippocampus"' in written["free"]
    assert "left" not in written["held"] and written["held"].count("segment(") <= 1


@pytest.mark.parametrize(
    "prompt", ["compare the thalamus and the brainstem", "volume of both caudates and the putamen"]
)
def test_all_structures_of_a_program_are_looked_for_in_the_same_volumes(prompt: str) -> None:
    volumes = [InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "FLAIR", "2024-03-01", 0)]
    plan = Agent.load().plan(prompt, volumes)
    calls = [line for line in plan.program.splitlines() if "segment(" in line]
    assert len(calls) > 1 and len({call.split(", ", 1)[1] for call in calls}) == 1
