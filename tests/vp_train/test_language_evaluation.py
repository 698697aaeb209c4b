"""Judging α: by the result of what it wrote, with refusals counted apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vp_model.agent import Agent, Plan
from vp_model.outcome import InputVolume
from vp_train.language.evaluation import (
    HandWritten,
    all_shown,
    interval,
    judge_language,
    judge_prompts,
    markdown,
    read_prompts,
)
from vp_train.language.truth import result_of, same_result
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples

REGIONS = (
    *(f"{side} {name}" for name in ("hippocampus", "thalamus", "cerebral white matter") for side in ("left", "right")),
    "brainstem",
    "brain",
    "white matter lesion",
)
COUNT, SEED = 40, 4242
DATA = Path(__file__).parent / "data"
BY_HAND = (
    "prompts_by_hand.json",
    "prompts_by_hand_looked_at.json",
    "prompts_by_hand_unseen.json",
    "prompts_by_hand_further.json",
)
Rewrite = Callable[[str], str]


def agent_that(rewrite: Rewrite) -> Agent:
    """Writes the target program of each prompt, after `rewrite`."""
    programs = {
        (example.prompt, example.scene.volumes): example.program
        for example in islice(examples(make_context(REGIONS), SEED), COUNT)
    }

    def plan(prompt: str, volumes: Sequence[InputVolume]) -> Plan:
        program = rewrite(programs[prompt, tuple(volumes)])
        refused = program.startswith("refuse(")
        return Plan("refused" if refused else "answered", "", "", (), program)

    return cast(Agent, SimpleNamespace(checkpoint=SimpleNamespace(regions=REGIONS, lesions=None), plan=plan))


def judged(rewrite: Rewrite) -> dict[str, Any]:
    return judge_language(agent_that(rewrite), COUNT, held_out=False, seed=SEED)[0]


def test_the_target_programs_are_right() -> None:
    result = judged(lambda program: program)
    assert (result["right"], result["exact"], result["refused_of_good"]) == (1, 1, 0)


def test_another_text_with_the_same_result_is_right_but_not_exact() -> None:
    result = judged(lambda program: program.replace("roi", "region"))
    assert result["right"] == 1
    assert result["exact"] < 0.9


def test_the_other_side_is_wrong() -> None:
    result = judged(lambda program: program.replace('segment("left ', 'segment("right '))
    assert result["right"] < 0.9


def test_refusing_everything_is_calibrated_badly() -> None:
    result = judged(lambda _: 'refuse("not understood")\n')
    assert result["refused_of_good"] == 1
    assert result["right_of_good"] == 0


def test_results_differ_by_one_voxel_of_one_mask() -> None:
    volumes = (InputVolume("v1", "T1", "2024-03-01", 0),)
    first = result_of('show(segment("left thalamus", v1<MOD>))\n', "p", volumes, REGIONS)
    second = result_of('show(erode(segment("left thalamus", v1<MOD>), 1))\n', "p", volumes, REGIONS)
    assert first is not None and second is not None
    assert same_result(first, first)
    assert not same_result(first, second)


def test_what_was_not_found_in_two_places_is_not_the_same_result() -> None:
    volumes = (InputVolume("v1", "T1", "2024-03-01", 0),)
    start = 'roi = segment("left thalamus", v1<MOD>)\nempty = smaller_than(roi, 0)\n'
    found = [
        result_of(f'{start}show({call})\nreport("volume", volume({call}))\n', "p", volumes, REGIONS)
        for call in ('in_lobe(empty, "left frontal lobe")', 'in_lobe(empty, "right frontal lobe")')
    ]
    first, second = found
    assert first is not None and second is not None
    assert same_result(first, first) and not same_result(first, second)


@pytest.mark.parametrize(("part", "whole"), [(0, 50), (50, 50), (49, 50), (1, 2)])
def test_an_interval_holds_its_share(part: int, whole: int) -> None:
    low, high = interval(part, whole)
    assert 0 <= low <= part / whole <= high + 1e-9 <= 1 + 1e-9


@pytest.mark.parametrize("file", BY_HAND)
def test_prompts_by_hand_name_structures_and_reasons_that_exist(file: str) -> None:
    prompts = read_prompts(DATA / file)
    assert len(prompts) > 100
    assert {item.status for item in prompts} == {"answered", "refused"}
    plans = {item.prompt: Plan(item.status, "", item.task, item.structures, "") for item in prompts}  # type: ignore[arg-type]
    agent = cast(Agent, SimpleNamespace(plan=lambda prompt, _: plans[prompt]))
    result, unexpected = judge_prompts(agent, prompts)
    assert not unexpected
    assert "100.0 %" in markdown({"by hand": result})


def test_no_prompt_by_hand_stands_in_two_files() -> None:
    prompts = [item.prompt for file in BY_HAND for item in read_prompts(DATA / file)]
    assert len(set(prompts)) == len(prompts)


def test_a_study_without_an_image_of_what_is_looked_for_judges_nothing() -> None:
    looked_for = [
        example
        for example in islice(examples(make_context(REGIONS), SEED), 400)
        if 'segment("white matter lesion"' in example.program
    ]
    kinds = {kind for example in looked_for for kind in (volume.kind for volume in example.scene.volumes)}
    assert looked_for and all_shown(looked_for[0], {"pineal gland": ("NONE",)})
    assert all(
        all_shown(example, {"white matter lesion": sorted(kind.upper() for kind in kinds)}) for example in looked_for
    )
    assert not any(all_shown(example, {"white matter lesion": ("NONE",)}) for example in looked_for)


def test_by_hand_lesions_may_be_of_any_kind_where_the_prompt_names_no_other() -> None:
    def fits(prompt: str, found: str) -> bool:
        expected = (("white matter lesion", ""), ("hippocampus", "left"))
        item = HandWritten(prompt, ("2024-03-01",), (), "answered", "", "location", expected)
        return item.fits(Plan("answered", "", "location", ((found, ""), ("hippocampus", "left")), ""))

    assert fits("where are the lesions from the left hippocampus", "lesion")
    assert fits("where are the lesions from the left hippocampus", "white matter lesion")
    assert not fits("where are the plaques from the left hippocampus", "lesion")
