"""What results are made from, besides the outcome and its volumes, and what they are made into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydicom.dataset import Dataset

Role = Literal["seg", "sr", "derived"]


class ResultError(ValueError):
    """An outcome that no object can be made of. Its text names no patient."""


@dataclass(frozen=True)
class RunIdentity:
    """What a run's UIDs follow from: the same run makes the same objects however often it is done."""

    run_id: str
    study_instance_uid: str
    prompt_version_id: str
    model_hash: str
    input_digest: str
    predecessor_run_id: str | None = None
    """The run on the study's earlier revision, or with the earlier model, that this one follows."""


@dataclass(frozen=True)
class PromptProvenance:
    """Who asked for what."""

    name: str
    version: int
    text: str
    owner: str
    requested_by: str = ""
    """`standing prompt`, or the name of the person who asked."""
    requested_at: datetime | None = None
    """When the run was planned: the date and time of its objects, with an offset where aware. Without it the newest
    date and time of the source images stands there, because objects must not change when they are made again."""


@dataclass(frozen=True, eq=False)
class ResultObject:
    """One object, ready to be written as a file (PS3.10)."""

    role: Role
    dataset: Dataset

    @property
    def sop_class_uid(self) -> str:
        return str(self.dataset.SOPClassUID)

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def series_instance_uid(self) -> str:
        return str(self.dataset.SeriesInstanceUID)
