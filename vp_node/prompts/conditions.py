"""Conditions of a prompt on a study: a tree of `and`, `or` and `not` over comparisons, written as data.

    {"and": [{"field": "modality", "operator": "equals", "value": "MR"},
             {"not": {"field": "series_description", "operator": "contains", "value": "localizer"}}]}

A study has one patient age, but many series: a comparison holds where one of the values fulfils it. An attribute that
the study does not have counts as empty text, and as a number or date that is in no range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

MAXIMUM_LENGTH = 128
"""Of a text or pattern: the longest attributes (LO, PS3.5 6.2) have 64 characters."""
MAXIMUM_VALUES = 64
MAXIMUM_DEPTH = 10
MAXIMUM_COMPARISONS = 100

FieldKind = Literal["text", "number", "date"]
FIELDS: Mapping[str, FieldKind] = {
    "called_ae_title": "text",
    "calling_ae_title": "text",
    "modality": "text",
    "body_part": "text",
    "study_description": "text",
    "series_description": "text",
    "station": "text",
    "institution": "text",
    "protocol": "text",
    "patient_age": "number",
    "patient_sex": "text",
    "study_date": "date",
}
"""What a comparison may look at; ages in years."""

OPERATORS: Mapping[str, tuple[FieldKind, ...]] = {
    "equals": ("text", "number", "date"),
    "one_of": ("text", "number", "date"),
    "contains": ("text",),
    "matches": ("text",),
    "range": ("number", "date"),
}
"""And the kinds of attributes that they compare. `matches` takes a pattern with `*`, `?` and `[…]`; text is compared
whatever its case."""

Value = str | float | date


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Comparison(_Part):
    """A leaf of the tree."""

    field: str
    operator: str
    value: Value | tuple[Value, ...] | None = None
    """For `equals`, `contains` and `matches`; for `one_of` several."""
    at_least: Value | None = Field(default=None, alias="from")
    at_most: Value | None = Field(default=None, alias="to")
    """For `range`, both included; one of them may be left out."""

    @model_validator(mode="before")
    @classmethod
    def _normalized(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        for key, known in (("field", FIELDS), ("operator", OPERATORS)):
            if isinstance(data.get(key), str):
                data[key] = _known_name(key, data[key], known)
        if "operator" not in data and {"from", "to"} & data.keys():
            data["operator"] = "range"
        kind = FIELDS.get(data.get("field", ""))
        if kind is None:
            return data
        for key in ("value", "from", "to"):
            written = data.get(key)
            if key == "value" and isinstance(written, list | tuple):
                data[key] = tuple(_typed(f"value[{place}]", item, kind) for place, item in enumerate(written))
            elif written is not None:
                data[key] = _typed(key, written, kind)
        return data

    @property
    def wanted(self) -> tuple[Value, ...]:
        """`value` as a tuple."""
        if self.value is None:
            return ()
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @model_validator(mode="after")
    def _complete(self) -> Comparison:
        if FIELDS[self.field] not in OPERATORS[self.operator]:
            fitting = [name for name, kinds in OPERATORS.items() if FIELDS[self.field] in kinds]
            raise ValueError(f"{self.operator!r} does not fit {self.field}; use one of {', '.join(fitting)}")
        if self.operator == "range":
            if self.at_least is None and self.at_most is None:
                raise ValueError("'range' needs from, to or both")
            if self.value is not None:
                raise ValueError("'range' takes no value; it takes from and to")
        elif self.at_least is not None or self.at_most is not None:
            raise ValueError(f"{self.operator!r} takes no from and to; it takes value")
        elif self.value is None:
            raise ValueError(f"{self.operator!r} needs a value")
        elif (self.operator == "one_of") != isinstance(self.value, tuple):
            raise ValueError(f"{self.operator!r} takes {'a list' if self.operator == 'one_of' else 'one value'}")
        elif isinstance(self.value, tuple) and not 1 <= len(self.value) <= MAXIMUM_VALUES:
            raise ValueError(f"'one_of' takes 1 to {MAXIMUM_VALUES} values")
        if self.operator in ("contains", "matches") and not self.value:
            raise ValueError(f"{self.operator!r} needs a value that is not empty")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError("from is greater than to, so that nothing could ever be in the range")
        return self


class And(_Part):
    """Holds where every part holds."""

    parts: tuple[Condition, ...] = Field(alias="and", min_length=1)


class Or(_Part):
    """Holds where one part holds."""

    parts: tuple[Condition, ...] = Field(alias="or", min_length=1)


class Not(_Part):
    part: Condition = Field(alias="not")


def _tag(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return {And: "<and>", Or: "<or>", Not: "<not>", Comparison: "<comparison>"}.get(type(value))
    if not isinstance(value, Mapping):
        return None
    for key in ("and", "or", "not"):
        if key in value:
            return f"<{key}>"
    return "<comparison>" if "field" in value or "operator" in value else None


Condition = Annotated[
    Annotated[And, Tag("<and>")]
    | Annotated[Or, Tag("<or>")]
    | Annotated[Not, Tag("<not>")]
    | Annotated[Comparison, Tag("<comparison>")],
    Discriminator(
        _tag,
        custom_error_type="condition",
        custom_error_message="a condition is a table with `and`, `or` or `not`, or with `field` and `operator`",
    ),
]

for _model in (And, Or, Not):
    _model.model_rebuild()


def comparisons(condition: And | Or | Not | Comparison, depth: int = 1) -> Iterator[tuple[Comparison, int]]:
    """The leaves of a tree, each with its depth."""
    if isinstance(condition, Comparison):
        yield condition, depth
    elif isinstance(condition, Not):
        yield from comparisons(condition.part, depth + 1)
    else:
        for part in condition.parts:
            yield from comparisons(part, depth + 1)


def _known_name(key: str, written: str, known: Mapping[str, Any]) -> str:
    name = written.strip().casefold().replace(" ", "_").replace("-", "_")
    if name in known:
        return name
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}" if close else f"known are {', '.join(known)}"
    raise ValueError(f"{key} {written[:MAXIMUM_LENGTH]!r} is not known; {hint}")


def _typed(key: str, value: Any, kind: FieldKind) -> Value:
    """The value as its attribute's kind; what a file cannot say otherwise (a date in JSON) is read from text."""
    if kind == "text":
        if not isinstance(value, str):
            raise ValueError(f"{key} must be text in quotes")
        if len(value) > MAXIMUM_LENGTH:
            raise ValueError(f"{key} is longer than {MAXIMUM_LENGTH} characters")
        return value
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise ValueError(f"{key} must be a number, not negative and without quotes")
        return float(value)
    if type(value) is date:
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} must be a date: YYYY-MM-DD") from None
