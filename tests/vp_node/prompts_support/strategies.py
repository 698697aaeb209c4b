"""Conditions and studies as hypothesis makes them."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import strategies as st

from vp_node.prompts.matching import StudyFacts

WORDS = ("MR", "CT", "brain", "T1 MPRAGE", "FLAIR sag", "", "Größe", "a*b")
TEXT_FIELDS = ("modality", "body_part", "study_description", "series_description", "station", "patient_sex")

words = st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
some_words = st.lists(words, max_size=3).map(lambda items: tuple(item.strip() for item in items if item.strip()))
dates = st.dates(date(2000, 1, 1), date(2030, 12, 31))
ages = st.integers(0, 110).map(float)


def _text_comparisons() -> st.SearchStrategy[dict[str, Any]]:
    fields = st.sampled_from(TEXT_FIELDS)
    filled = words.filter(bool)
    return st.one_of(
        st.fixed_dictionaries({"field": fields, "operator": st.just("equals"), "value": words}),
        st.fixed_dictionaries(
            {"field": fields, "operator": st.just("one_of"), "value": st.lists(words, min_size=1, max_size=3)}
        ),
        st.fixed_dictionaries({"field": fields, "operator": st.sampled_from(["contains", "matches"]), "value": filled}),
    )


def _ranges() -> st.SearchStrategy[dict[str, Any]]:
    def of(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.tuples(values, values).map(
            lambda pair: {"field": field, "operator": "range", "from": min(pair), "to": max(pair)}
        )

    return of("patient_age", ages) | of("study_date", dates)


comparisons = _text_comparisons() | _ranges()
conditions = st.recursive(
    comparisons,
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(lambda items: {"and": items}),
        st.lists(parts, min_size=1, max_size=3).map(lambda items: {"or": items}),
        parts.map(lambda item: {"not": item}),
    ),
    max_leaves=6,
)
facts = st.builds(
    StudyFacts,
    modality=some_words,
    body_part=some_words,
    study_description=some_words,
    series_description=some_words,
    station=some_words,
    patient_sex=some_words,
    patient_age=st.lists(ages, max_size=1).map(tuple),
    study_date=st.lists(dates, max_size=1).map(tuple),
)
