"""What results are made from, besides the outcome and its volumes, and what they are made into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Role = Literal["seg", "sr", "derived", "capture", "pdf"]
ROLES: tuple[Role, ...] = ("seg", "sr", "derived", "capture", "pdf")

Form = Literal["binary", "labelmap", "fractional"]
"""How segmentations are written: one bit a voxel (PS3.3 A.51), a label a voxel (A.92), or an occupancy of 0 to 255."""

FORMS: tuple[Form, ...] = ("binary", "labelmap", "fractional")


class ResultError(ValueError):
    """An outcome that no object can be made of. Its text names no patient."""


@dataclass(frozen=True, eq=False)
class TrackedRegion:
    """A region that has a tracking UID already."""

    type_code: str
    side_code: str
    tracking_id: str
    tracking_uid: str
    frame_of_reference_uid: str
    points: NDArray[np.float64]
    """(n, 3) RAS mm of its voxels."""
    voxel_mm3: float


@dataclass(frozen=True, eq=False)
class Predecessor:
    """The latest run of the same prompt on the same study that left a report."""

    run_id: str
    model: str
    """Name, version and hash in words."""
    same_model: bool
    """With it, this run is a revision of that one; without, the two stand beside each other."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    regions: tuple[TrackedRegion, ...] = ()


@dataclass(frozen=True)
class RunIdentity:
    """What a run's UIDs follow from: the same run makes the same objects however often it is done."""

    run_id: str
    study_instance_uid: str
    prompt_version_id: str
    model_hash: str
    input_digest: str
    predecessor: Predecessor | None = None
    """What it follows, where that left a report."""
    earlier_regions: tuple[TrackedRegion, ...] = ()
    """That runs on earlier studies of the patient tracked, laid into the frames of reference of the study."""


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


@dataclass(frozen=True)
class Picture:
    """An overlay that `vp_model.rendering` drew: a PNG file, and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Wanted:
    """What the destinations of a run take, besides SEG (binary), SR and derived images."""

    forms: tuple[Form, ...] = ("binary",)
    capture: bool = False
    pdf: bool = False
    pictures: tuple[Picture, ...] = field(default=())
    """For the page and the PDF."""


@dataclass(frozen=True, eq=False)
class ResultObject:
    """One object, ready to be written as a file (PS3.10)."""

    role: Role
    dataset: Dataset
    form: Form | None = None
    """Of a segmentation, and of the report that refers to it. None: goes wherever its role goes."""

    @property
    def sop_class_uid(self) -> str:
        return str(self.dataset.SOPClassUID)

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def series_instance_uid(self) -> str:
        return str(self.dataset.SeriesInstanceUID)


def datasets(objects: Sequence[ResultObject]) -> list[Dataset]:
    return [item.dataset for item in objects]
