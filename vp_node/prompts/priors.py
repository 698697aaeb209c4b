"""Which earlier studies of the patient a prompt needs, and whether it needs any."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vp_node.studies.volume_set import SeriesSelection

if TYPE_CHECKING:
    from vp_node.config import PriorsSection
    from vp_node.prompts.definition import PromptDefinition


class PriorNeeds(BaseModel):
    """What a prompt says about earlier studies. At its default: one, where the words ask about change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wanted: Literal["auto", "always", "never"] = "auto"
    """`auto`: where the prompt's words ask about change, or its selection wants several sessions."""
    source: str = Field(default="", max_length=64)
    """Name of one of the configuration's `[[prior_sources]]`; empty: its `priors.source`."""
    studies: int | None = Field(default=None, ge=1, le=16)
    """How many; None: one fewer than the sessions of the selection, or the configuration's `priors.studies`."""
    maximum_age_days: int | None = Field(default=None, ge=1)
    """None: the configuration's."""
    modalities: tuple[Literal["MR", "CT"], ...] = ()
    """Empty: what the study that is asked about has."""
    body_parts: tuple[str, ...] = ()
    """Of Body Part Examined, whatever the case; empty: whatever is not known to be another part than the head."""
    series_contain: tuple[str, ...] = ()
    """Only series with one of these in their description; empty: all that may be images."""


def asks_about_change(text: str) -> bool:
    """Whether the words of a prompt ask for a comparison over time (`data/change_words.toml`)."""
    words = _words()
    for pattern in words["no_change"]:
        text = re.sub(pattern, " ", text, flags=re.IGNORECASE)
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in words["about_change"])


def wants_priors(definition: PromptDefinition) -> bool:
    """Whether earlier studies of the patient belong into the prompt's volume set."""
    needs = definition.priors
    if needs.wanted == "auto":
        return definition.selection.sessions > 1 or asks_about_change(definition.text)
    return needs.wanted == "always"


def number_wanted(definition: PromptDefinition, settings: PriorsSection) -> int:
    """How many earlier sessions the prompt is to see; 0 where it wants none."""
    if not wants_priors(definition):
        return 0
    if definition.priors.studies is not None:
        return definition.priors.studies
    return max(definition.selection.sessions - 1, settings.studies)


def selection_with_priors(definition: PromptDefinition, settings: PriorsSection) -> SeriesSelection:
    """The prompt's selection, widened to the earlier sessions that it needs."""
    sessions = 1 + number_wanted(definition, settings)
    if definition.priors.wanted == "never" or sessions <= definition.selection.sessions:
        return definition.selection
    return definition.selection.model_copy(update={"sessions": sessions})


@cache
def _words() -> Mapping[str, Any]:
    return tomllib.loads((resources.files("vp_node.prompts") / "data" / "change_words.toml").read_text("utf-8"))
