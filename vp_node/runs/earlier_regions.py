"""Regions that runs on earlier studies tracked, laid where the patient lies now: a lesion keeps its UID over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_model.outcome import Outcome
from vp_node.database.models import PromptVersion, Run
from vp_node.results.model import TrackedRegion
from vp_node.runs.predecessor import LEFT_RESULTS, tracked_regions
from vp_node.studies.model import ChosenVolume


def regions_of_earlier_studies(
    session: Session, run: Run, volumes: Sequence[ChosenVolume], outcome: Outcome, data_folder: Path
) -> tuple[TrackedRegion, ...]:
    """Of the latest run of the same prompt on each other study that the run takes volumes of, as far as the run laid
    that study on its own."""
    studies = sorted({entry["study_id"] for entry in run.choices if entry["taken"]} - {run.study_id})
    found: list[TrackedRegion] = []
    for study_id in studies:
        runs = session.scalars(
            select(Run)
            .join(PromptVersion)
            .where(
                Run.study_id == study_id,
                PromptVersion.prompt_id == run.prompt_version.prompt_id,
                Run.state.in_(LEFT_RESULTS),
            )
            .order_by(Run.created_at.desc())
        )
        found += next((regions for earlier in runs if (regions := tracked_regions(earlier, data_folder))), ())
    return laid_on(run.study.study_instance_uid, found, volumes, outcome)


def laid_on(
    study_instance_uid: str, regions: Sequence[TrackedRegion], volumes: Sequence[ChosenVolume], outcome: Outcome
) -> tuple[TrackedRegion, ...]:
    """Regions in the frames of reference of a study, by the alignments of the outcome.

    Args:
        regions: of other studies, in their own frames of reference.
        volumes: that the run took, of all studies.
    """
    place = {item.volume: item.world_transform for item in outcome.alignments if item.method != "failed"}
    by_frame: dict[bool, dict[str, str]] = {True: {}, False: {}}
    for item in volumes:
        own = item.volume.study_instance_uid == study_instance_uid
        if item.name in place and item.volume.frame_of_reference_uid:
            by_frame[own].setdefault(item.volume.frame_of_reference_uid, item.name)
    moved = []
    for region in regions:
        name = by_frame[False].get(region.frame_of_reference_uid)
        if name is None:
            continue
        for frame, here in by_frame[True].items():
            there = np.linalg.inv(place[here]) @ place[name]
            points = region.points @ there[:3, :3].T + there[:3, 3]
            moved.append(replace(region, frame_of_reference_uid=frame, points=points))
    return tuple(moved)
