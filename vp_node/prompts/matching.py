"""Does a prompt apply to a study? Yes or no, and for each comparison why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from vp_node.database.models import Instance, Prompt, PromptVersion, Series, Study
from vp_node.prompts.conditions import And, Comparison, Not, Or, Value
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.errors import PromptError

LOG = logging.getLogger(__name__)
SHOWN_VALUES = 3
PRIVATE_FIELDS = frozenset({"patient_age", "patient_sex"})
"""Explanations do not quote them."""


@dataclass(frozen=True)
class StudyFacts:
    """What conditions may look at. Attributes of series hold a value for each that differs."""

    called_ae_title: tuple[str, ...] = ()
    calling_ae_title: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    study_description: tuple[str, ...] = ()
    series_description: tuple[str, ...] = ()
    station: tuple[str, ...] = ()
    institution: tuple[str, ...] = ()
    protocol: tuple[str, ...] = ()
    patient_age: tuple[float, ...] = ()
    """Years."""
    patient_sex: tuple[str, ...] = ()
    study_date: tuple[date, ...] = ()


@dataclass(frozen=True)
class MatchResult:
    matched: bool
    explanation: tuple[str, ...]
    """A line for each part of the conditions, indented as they are nested."""


def facts_of(session: Session, study: Study) -> StudyFacts:
    """What is known of a study, without series that hold nothing but results of this node."""
    received = exists().where(Instance.series_id == Series.id, Instance.own_result.is_(False))
    series = session.scalars(select(Series).where(Series.study_id == study.id, received).order_by(Series.id)).all()
    return StudyFacts(
        called_ae_title=_distinct([study.called_ae_title]),
        calling_ae_title=_distinct([study.calling_ae_title]),
        modality=_distinct([item.modality for item in series]),
        body_part=_distinct([item.body_part for item in series]),
        study_description=_distinct([study.description]),
        series_description=_distinct([item.description for item in series]),
        station=_distinct([item.station for item in series]),
        institution=_distinct([study.institution]),
        protocol=_distinct([item.protocol for item in series]),
        patient_age=() if study.patient_age_years is None else (study.patient_age_years,),
        patient_sex=_distinct([study.patient_sex]),
        study_date=() if study.study_date is None else (study.study_date,),
    )


def match(definition: PromptDefinition, facts: StudyFacts) -> MatchResult:
    """Holds a study against the conditions of a prompt."""
    if definition.conditions is None:
        return MatchResult(True, ("the prompt takes every study",))
    return _judge(definition.conditions, facts)


def matching_versions(session: Session, study: Study) -> tuple[PromptVersion, ...]:
    """The current versions of the enabled standing prompts that apply to a study, in order of name."""
    prompts = session.scalars(
        select(Prompt).where(Prompt.standing.is_(True), Prompt.enabled.is_(True)).order_by(Prompt.name)
    ).all()
    if not prompts:
        return ()
    facts = facts_of(session, study)
    current = [prompt.versions[-1] for prompt in prompts if prompt.versions]
    return tuple(version for version in current if _applies(version, facts))


def _applies(version: PromptVersion, facts: StudyFacts) -> bool:
    """A stored definition that can no longer be read leaves out its prompt, and no other."""
    try:
        definition = PromptDefinition.from_json(version.definition)
    except PromptError as error:
        LOG.error("The prompt %r, version %d, is left out: %s", version.prompt.name, version.number, error)
        return False
    return match(definition, facts).matched


def _judge(condition: And | Or | Not | Comparison, facts: StudyFacts) -> MatchResult:
    if isinstance(condition, Comparison):
        held, reason = _compare(condition, facts)
        return MatchResult(held, (f"{_mark(held)} {reason}",))
    if isinstance(condition, Not):
        inner = _judge(condition.part, facts)
        return _combined(not inner.matched, "not:", [inner])
    parts = [_judge(part, facts) for part in condition.parts]
    if isinstance(condition, And):
        return _combined(all(part.matched for part in parts), "all of:", parts)
    return _combined(any(part.matched for part in parts), "one of:", parts)


def _combined(held: bool, title: str, parts: Sequence[MatchResult]) -> MatchResult:
    lines = tuple(f"    {line}" for part in parts for line in part.explanation)
    return MatchResult(held, (f"{_mark(held)} {title}", *lines))


def _mark(held: bool) -> str:
    return "yes" if held else "no "


def _compare(comparison: Comparison, facts: StudyFacts) -> tuple[bool, str]:
    found: tuple[Value, ...] = getattr(facts, comparison.field)
    held = any(_fulfils(value, comparison) for value in found or _nothing(comparison))
    label = comparison.field.replace("_", " ").replace("ae title", "AE title")
    if not found:
        is_there = f"{label} is not known"
    elif comparison.field in PRIVATE_FIELDS:
        is_there = f"{label} {'fits' if held else 'does not fit'}"
    else:
        is_there = f"{label} is {_some(found)}"
    return held, f"{is_there}, wanted {_wanted(comparison)}"


def _nothing(comparison: Comparison) -> tuple[Value, ...]:
    """What stands for an attribute that is not there: empty text, so that `equals ""` finds it."""
    return ("",) if comparison.operator in ("equals", "one_of") else ()


def _fulfils(value: Value, comparison: Comparison) -> bool:
    folded = _folded(value)
    wanted = [_folded(item) for item in comparison.wanted]
    if comparison.operator in ("equals", "one_of"):
        return folded in wanted
    if comparison.operator == "contains":
        return str(wanted[0]) in str(folded)
    if comparison.operator == "matches":
        return fnmatchcase(str(folded), str(wanted[0]))
    low, high = comparison.at_least, comparison.at_most
    return (low is None or value >= low) and (high is None or value <= high)  # type: ignore[operator]


def _folded(value: Value) -> Value:
    return value.strip().casefold() if isinstance(value, str) else value


def _wanted(comparison: Comparison) -> str:
    if comparison.operator == "contains":
        return f'one that contains "{comparison.value}"'
    if comparison.operator == "matches":
        return f'one like "{comparison.value}"'
    if comparison.operator == "range":
        low = f"from {_written(comparison.at_least)}" if comparison.at_least is not None else ""
        high = f"to {_written(comparison.at_most)}" if comparison.at_most is not None else ""
        return f"{low} {high}".strip()
    return " or ".join(_written(item) for item in comparison.wanted)


def _some(values: Sequence[Value]) -> str:
    shown = ", ".join(_written(value) for value in values[:SHOWN_VALUES])
    rest = len(values) - SHOWN_VALUES
    return f"{shown} and {rest} more" if rest > 0 else shown


def _written(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, date):
        return value.isoformat()
    return f'"{value}"' if not value or " " in value else value


def _distinct(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.strip() for value in values if value.strip()))
