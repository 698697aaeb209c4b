"""Conditions of prompts: what they hold for, why they say so, and how they are told to be wrong."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings

from tests.vp_node.prompts_support.strategies import conditions, facts
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.errors import PromptError
from vp_node.prompts.files import parse_prompt, prompt_to_toml
from vp_node.prompts.matching import StudyFacts, match

STUDY = StudyFacts(
    called_ae_title=("VOXELPROMPT",),
    modality=("MR", "SR"),
    series_description=("T1 MPRAGE sag", "localizer"),
    study_description=("Brain MR",),
    patient_age=(43.0,),
    study_date=(date(2024, 3, 1),),
)


def definition(conditions: Any = None, **more: Any) -> PromptDefinition:
    return PromptDefinition.from_json(
        {"name": "test", "owner": "Dr. Example", "text": "measure", "conditions": conditions, **more}
    )


def holds(conditions: Any, study: StudyFacts = STUDY) -> bool:
    return match(definition(conditions), study).matched


@given(conditions, conditions, facts)
@settings(max_examples=200, deadline=None)
def test_not_turns_and_into_or(first: Any, second: Any, study: StudyFacts) -> None:
    left = {"not": {"and": [first, second]}}
    right = {"or": [{"not": first}, {"not": second}]}
    assert holds(left, study) == holds(right, study)


@given(conditions, facts)
@settings(max_examples=200, deadline=None)
def test_two_nots_change_nothing_and_one_not_turns_the_verdict(condition: Any, study: StudyFacts) -> None:
    assert holds({"not": {"not": condition}}, study) == holds(condition, study)
    assert holds({"not": condition}, study) != holds(condition, study)


@given(conditions)
@settings(max_examples=200, deadline=None)
def test_a_prompt_survives_being_written_as_json_and_as_toml(condition: Any) -> None:
    written = definition(condition, text='Größe?\n"quoted" \\ \x7f', priority=7, destinations=["sender"])
    assert PromptDefinition.from_json(written.to_json()) == written
    assert parse_prompt(prompt_to_toml(written)) == written


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"field": "modality", "operator": "equals", "value": "mr"}, True),
        ({"field": "modality", "operator": "equals", "value": "M"}, False),
        ({"field": "modality", "operator": "one of", "value": ["CT", "SR"]}, True),
        ({"field": "series description", "operator": "contains", "value": "mprage"}, True),
        ({"field": "series_description", "operator": "matches", "value": "t1*sag"}, True),
        ({"field": "series_description", "operator": "matches", "value": "t1"}, False),
        ({"field": "patient_age", "operator": "range", "from": 18}, True),
        ({"field": "patient_age", "from": 43, "to": 43}, True),
        ({"field": "patient_age", "operator": "range", "to": 42.9}, False),
        ({"field": "study_date", "operator": "range", "from": "2024-03-01", "to": "2024-03-01"}, True),
        ({"field": "study_date", "operator": "range", "from": date(2024, 3, 2)}, False),
        ({"field": "station", "operator": "equals", "value": ""}, True),
        ({"field": "station", "operator": "matches", "value": "*"}, False),
        ({"field": "called_ae_title", "operator": "equals", "value": "OTHER"}, False),
    ],
)
def test_comparisons_hold_where_one_value_fulfils_them(condition: Any, expected: bool) -> None:
    assert holds(condition) is expected


def test_without_conditions_a_prompt_takes_every_study() -> None:
    assert match(definition(), StudyFacts()).matched


def test_an_age_that_is_not_known_is_in_no_range() -> None:
    adult = {"field": "patient_age", "operator": "range", "from": 18}
    assert not holds(adult, StudyFacts())
    (line,) = match(definition(adult), StudyFacts()).explanation
    assert "not known" in line


def test_every_comparison_is_explained_and_the_patient_is_not_quoted() -> None:
    found = match(
        definition(
            {
                "and": [
                    {"field": "modality", "operator": "equals", "value": "CT"},
                    {"not": {"field": "patient_age", "operator": "range", "to": 17}},
                ]
            }
        ),
        STUDY,
    )
    assert found.explanation == (
        "no  all of:",
        "    no  modality is MR, SR, wanted CT",
        "    yes not:",
        "        no  patient age does not fit, wanted to 17",
    )
    assert not found.matched


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"field": "modalty", "operator": "equals", "value": "MR"}, r"conditions: field 'modalty'.*'modality'"),
        ({"and": [{"field": "modality", "operator": "is", "value": "MR"}]}, r"conditions\.and\[0\]: operator 'is'"),
        ({"or": [{"not": {"field": "modality", "operator": "range", "from": "a"}}]}, r"conditions\.or\[0\]\.not: "),
        ({"field": "modality", "operator": "equals"}, "needs a value"),
        ({"field": "modality", "operator": "equals", "value": 3}, "text in quotes"),
        ({"field": "modality", "operator": "one_of", "value": "MR"}, "takes a list"),
        ({"field": "modality", "operator": "one_of", "value": []}, "1 to 64"),
        ({"field": "modality", "operator": "equals", "value": ["MR"]}, "one value"),
        ({"field": "modality", "operator": "contains", "value": ""}, "not empty"),
        ({"field": "modality", "operator": "matches", "value": "*a" * 100}, "longer than 128"),
        ({"field": "patient_age", "operator": "range"}, "from, to or both"),
        ({"field": "patient_age", "operator": "range", "from": 40, "to": 20}, "greater than to"),
        ({"field": "patient_age", "operator": "range", "from": "40"}, "a number"),
        ({"field": "patient_age", "operator": "range", "from": float("nan")}, "a number"),
        ({"field": "study_date", "operator": "range", "from": "March"}, "YYYY-MM-DD"),
        ({"field": "modality", "operator": "equals", "value": "MR", "vaule": 1}, "vaule is no setting"),
        ({"and": []}, "at least 1"),
        ({}, "a condition is a table with"),
        ([], "a condition is a table with"),
        ("MR", "a condition is a table with"),
    ],
)
def test_a_wrong_condition_is_told_with_its_place(condition: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        definition(condition)


def test_conditions_have_a_bounded_depth_and_size() -> None:
    leaf: Any = {"field": "modality", "operator": "equals", "value": "MR"}
    deep = leaf
    for _ in range(10):
        deep = {"not": deep}
    with pytest.raises(PromptError, match="deep"):
        definition(deep)
    with pytest.raises(PromptError, match="more than 100"):
        definition({"or": [leaf] * 101})


def test_a_pattern_that_could_backtrack_for_ever_is_matched_at_once() -> None:
    pattern = {"field": "study_description", "operator": "matches", "value": "*a" * 60 + "b"}
    assert not holds(pattern, StudyFacts(study_description=("a" * 64,)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prioritty": 3}, r"^prioritty is no setting of a prompt\. Did you mean 'priority'\?$"),
        ({"selection": {"kindss": []}}, r"^selection\.kindss is no setting of a prompt\. Did you mean 'kinds'\?$"),
        ({"priority": -1}, r"^priority: .*greater than or equal to 0\.$"),
        ({"name": "../x"}, r"^name: "),
        ({"text": " "}, r"^text: "),
        ({"owner": "a\x1b[2J"}, r"^owner: "),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(more: dict[str, Any], said: str) -> None:
    with pytest.raises(PromptError, match=said):
        definition(**more)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(PromptError) as caught:
        PromptDefinition.from_json({"name": "a", "schedule": {"from": "25:00"}})
    assert str(caught.value).splitlines() == [
        "owner is missing.",
        "text is missing.",
        "schedule.from: must be a time of the day: HH:MM.",
    ]
