"""Conditions as data: a tree of and, or, not over comparisons of what is known of a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator
from pydantic import Discriminator as By

TextField = Literal[
    "called_ae_title",
    "calling_ae_title",
    "modality",
    "body_part",
    "study_description",
    "series_description",
    "station",
    "institution",
    "protocol",
    "patient_sex",
]
RangeField = Literal["patient_age", "study_date"]
LONGEST_PATTERN = 200


@dataclass(frozen=True)
class StudyFacts:
    """What conditions may ask about. Texts of the series are sets: one match among them is a match."""

    called_ae_title: str
    calling_ae_title: str
    modality: frozenset[str]
    body_part: frozenset[str]
    study_description: str
    series_description: frozenset[str]
    station: frozenset[str]
    institution: str
    protocol: frozenset[str]
    patient_sex: str
    patient_age: float | None
    """Years."""
    study_date: date | None

    def texts(self, field: TextField) -> frozenset[str]:
        value = getattr(self, field)
        return value if isinstance(value, frozenset) else frozenset({value})


@dataclass(frozen=True)
class Verdict:
    """Whether a condition holds, and why, line by line."""

    holds: bool
    lines: tuple[str, ...]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Comparison(_Node):
    """A text of the study, compared whatever its case. `matches` knows `*`, `?` and `[…]`."""

    field: TextField
    operator: Literal["equals", "one of", "contains", "matches"]
    value: str | tuple[str, ...]

    @model_validator(mode="after")
    def _value_fits(self) -> Comparison:
        if (self.operator == "one of") != isinstance(self.value, tuple):
            wanted = "a list of texts" if self.operator == "one of" else "one text"
            raise ValueError(f"the operator {self.operator!r} takes {wanted}")
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if not values or any(not value or len(value) > LONGEST_PATTERN for value in values):
            raise ValueError(f"a value must have 1 to {LONGEST_PATTERN} characters")
        return self

    def judge(self, facts: StudyFacts) -> Verdict:
        found = facts.texts(self.field)
        holds = any(self._fits(text.casefold()) for text in found)
        said = ", ".join(sorted(text for text in found if text)) or "empty"
        wanted = " or ".join(self.value) if isinstance(self.value, tuple) else self.value
        name = self.field.replace("_", " ")
        verb = {"equals": "is", "one of": "is one of", "contains": "contains", "matches": "matches"}[self.operator]
        sign = "yes" if holds else "no"
        return Verdict(holds, (f"{sign}: {name} is {said}; the condition: {verb} {wanted}",))

    def _fits(self, text: str) -> bool:
        if isinstance(self.value, tuple):
            return text in {value.casefold() for value in self.value}
        value = self.value.casefold()
        if self.operator == "equals":
            return text == value
        if self.operator == "contains":
            return value in text
        return fnmatchcase(text, value)


class Range(_Node):
    """A number or date of the study between two bounds, both included; what is not known is in no range."""

    field: RangeField
    operator: Literal["range"] = "range"
    lowest: float | date | None = Field(default=None, alias="from")
    highest: float | date | None = Field(default=None, alias="to")

    @model_validator(mode="after")
    def _bounds_fit(self) -> Range:
        bounds = [bound for bound in (self.lowest, self.highest) if bound is not None]
        if not bounds:
            raise ValueError("a range needs `from`, `to` or both")
        wanted = date if self.field == "study_date" else (int, float)
        if not all(isinstance(bound, wanted) for bound in bounds):
            raise ValueError(f"{self.field} takes {'dates' if self.field == 'study_date' else 'years'}")
        if len(bounds) == 2 and bounds[0] > bounds[1]:  # type: ignore[operator]
            raise ValueError("`from` is greater than `to`")
        return self

    def judge(self, facts: StudyFacts) -> Verdict:
        value: Any = getattr(facts, self.field)
        low: Any = self.lowest
        high: Any = self.highest
        holds = value is not None and (low is None or value >= low) and (high is None or value <= high)
        bounds = " ".join(
            f"{word} {bound}" for word, bound in (("from", self.lowest), ("to", self.highest)) if bound is not None
        )
        name = self.field.replace("_", " ")
        known = "inside" if holds else ("unknown" if value is None else "outside")
        # The value itself stays out of the explanation: an age is the patient's.
        return Verdict(holds, (f"{'yes' if holds else 'no'}: {name} is {known}; the condition: {bounds}",))


class All(_Node):
    parts: tuple[Condition, ...] = Field(alias="and", min_length=1)

    def judge(self, facts: StudyFacts) -> Verdict:
        verdicts = [part.judge(facts) for part in self.parts]
        return Verdict(all(verdict.holds for verdict in verdicts), tuple(_lines("all of", verdicts)))


class Some(_Node):
    parts: tuple[Condition, ...] = Field(alias="or", min_length=1)

    def judge(self, facts: StudyFacts) -> Verdict:
        verdicts = [part.judge(facts) for part in self.parts]
        return Verdict(any(verdict.holds for verdict in verdicts), tuple(_lines("any of", verdicts)))


class Not(_Node):
    part: Condition = Field(alias="not")

    def judge(self, facts: StudyFacts) -> Verdict:
        verdict = self.part.judge(facts)
        return Verdict(not verdict.holds, tuple(_lines("not", [verdict])))


def _lines(head: str, verdicts: list[Verdict]) -> Iterator[str]:
    yield f"{head}:"
    for verdict in verdicts:
        for line in verdict.lines:
            yield f"  {line}"


def _kind(value: Any) -> str:
    if isinstance(value, _Node):
        return {"All": "and", "Some": "or", "Not": "not", "Range": "range"}.get(type(value).__name__, "comparison")
    if isinstance(value, dict):
        for key in ("and", "or", "not"):
            if key in value:
                return key
        if value.get("field") in ("patient_age", "study_date"):
            return "range"
    return "comparison"


Condition = Annotated[
    Annotated[Comparison, Tag("comparison")]
    | Annotated[Range, Tag("range")]
    | Annotated[All, Tag("and")]
    | Annotated[Some, Tag("or")]
    | Annotated[Not, Tag("not")],
    By(_kind),
]
"""`{field, operator, value}`, `{field, from, to}`, `{and: […]}`, `{or: […]}` or `{not: …}`."""

for _model in (All, Some, Not):
    _model.model_rebuild()
