"""What a version of a prompt says beside its text: where it applies, what it takes, when and where to."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vp_node.prompts.conditions import Condition, StudyFacts, Verdict
from vp_node.prompts.schedule import Schedule
from vp_node.studies.volume_set import SeriesSelection


class PromptDefinition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    conditions: Condition | None = None
    """None: every study."""
    selection: SeriesSelection = SeriesSelection()
    priority: int = Field(default=100, ge=0, le=1000)
    """Lower goes first."""
    destinations: tuple[str, ...] = ()
    """Names of peers, or `sender`; empty: the configuration's default."""
    schedule: Schedule = Schedule()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PromptDefinition:
        """Raises pydantic.ValidationError."""
        return cls.model_validate(data)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def judge(self, facts: StudyFacts) -> Verdict:
        """Whether the conditions hold for a study, and why."""
        if self.conditions is None:
            return Verdict(True, ("yes: there are no conditions",))
        return self.conditions.judge(facts)
