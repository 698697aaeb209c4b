"""A prompt as its owner wrote it: the words, the conditions on a study, the series, where the answer goes, and when."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from vp_node.prompts.conditions import MAXIMUM_COMPARISONS, MAXIMUM_DEPTH, Condition, comparisons
from vp_node.prompts.errors import PromptError, describe
from vp_node.prompts.priors import PriorNeeds
from vp_node.prompts.schedule import Schedule
from vp_node.studies.volume_set import SeriesSelection

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._\-]*$")
]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]


class PromptDefinition(BaseModel):
    """Kept as JSON in `PromptVersion.definition`; written by people as TOML or JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    owner: Line
    """Who answers for the prompt; stands in every result."""
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    """What the model is asked."""
    conditions: Condition | None = None
    """On the study; None: every study."""
    selection: SeriesSelection = SeriesSelection()
    priors: PriorNeeds = PriorNeeds()
    """Which earlier studies of the patient are looked for."""
    priority: int = Field(default=100, ge=0, le=1000)
    """Lower goes first."""
    destinations: tuple[Line, ...] = Field(default=(), max_length=16)
    """Names of peers, or `sender`; empty: `delivery.default_destinations` of the configuration."""
    schedule: Schedule = Schedule()

    @field_validator("conditions")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        leaves = list(comparisons(value)) if value is not None else []
        if len(leaves) > MAXIMUM_COMPARISONS:
            raise ValueError(f"{len(leaves)} comparisons are more than {MAXIMUM_COMPARISONS}; use two prompts")
        if max((depth for _, depth in leaves), default=0) > MAXIMUM_DEPTH:
            raise ValueError(f"and, or and not are nested more than {MAXIMUM_DEPTH} deep")
        return value

    @classmethod
    def from_json(cls, data: Any) -> PromptDefinition:
        """Reads plain values, as `to_json`, TOML and JSON files give them.

        Raises:
            PromptError: names the place and the reason for each thing that is wrong.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise PromptError(describe(error, cls)) from error

    def to_json(self) -> dict[str, Any]:
        """Plain values with every default written out, so that a version says the same for ever."""
        return _without_nothing(self.model_dump(mode="json", by_alias=True))


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nothing(item) for item in value]
    return value
