"""The values that results are made from and handed over as."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydicom.dataset import Dataset

Role = Literal["seg", "sr", "derived"]


@dataclass(frozen=True)
class RunIdentity:
    """What a run is told apart by; every UID of its results derives from it."""

    run_id: str
    study_instance_uid: str
    prompt_version_id: str
    model_hash: str
    input_digest: str
    predecessor_run_id: str | None = None
    """The run on an earlier revision of the study, or with other weights, that this one follows."""


@dataclass(frozen=True)
class PromptProvenance:
    """Who asked for what."""

    name: str
    version: int
    text: str
    owner: str
    requested_by: str
    requested_at: datetime
    """Timezone-aware; the date and time of all results, so that writing them again gives the same bytes."""


@dataclass(frozen=True, eq=False)
class ResultObject:
    role: Role
    dataset: Dataset
    """With file meta information, ready to be written."""
