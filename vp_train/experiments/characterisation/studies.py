"""Synthetic studies of one session that show one lesion each (B.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from vp_model.volume import Volume
from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.planning import StudyPlan, StudySettings, plan_study
from vp_train.synthesis.study import SyntheticStudy


def plain_settings(given: Mapping[str, Any]) -> StudySettings:
    """One session with lesions, nothing hidden or spoiled.

    Args:
        given: `protocols`, `kinds` of lesions, and whatever else `StudySettings` has.
    """
    wanted = dict(given)
    return replace(
        StudySettings(),
        several=0.0,
        sparsified=0.0,
        masked=0.0,
        corrupted=0.0,
        lesioned=1.0,
        protocols=tuple(wanted.pop("protocols")),
        kinds=tuple(wanted.pop("kinds")),
        **wanted,
    )


def single_lesions(
    settings: StudySettings,
    subjects: Sequence[Subject],
    anatomies: Sequence[Anatomy],
    labels: Labels,
    seed: int,
) -> Iterator[StudyPlan | None]:
    """Plans of studies without end, of one subject after the other; None for one that shows more lesions, or none."""
    number = 0
    while True:
        index = number % len(subjects)
        plan = plan_study(subjects[index], labels, Chance.seeded(seed + number), settings, anatomies[index])
        yield plan if len(plan.scene.lesions) == 1 else None
        number += 1


def volumes_of(study: SyntheticStudy) -> list[Volume]:
    """As the agent takes them."""
    return [
        Volume(
            image.placed.features[0],
            image.placed.world,
            volume.name,
            volume.kind,
            date.fromisoformat(volume.visit) if volume.visit else None,
            volume.session,
        )
        for image, volume in zip(study.images, study.scene.volumes, strict=True)
    ]
