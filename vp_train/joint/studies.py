"""The studies of joint training: planned first, so that a task can be asked of one, then rendered for what it asks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, cast

import torch

from vp_model.ontology import load_ontology
from vp_train.synthesis.planning import StudyPlan
from vp_train.synthesis.scene import Image
from vp_train.synthesis.study import render_study
from vp_train.tasks.scene import Lesion, Scene


class Study(Protocol):
    """What a rendered study tells: volume `i` is `scene.volumes[i]` and `images[i]`."""

    @property
    def scene(self) -> Scene: ...
    @property
    def images(self) -> tuple[Image, ...]: ...
    def target(self, volume: int, region: str, /) -> torch.Tensor:
        """(w, h, d) share of each voxel that the region (`left hippocampus`) fills."""

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "", /) -> torch.Tensor:
        """(w, h, d) share of each voxel that these lesions of the scene fill, or one component of them."""


def rendered(plan: StudyPlan, regions: Collection[str]) -> Study:
    """The images of a plan; structures among the regions are not lost when images are made sparse (B.2)."""
    ontology = load_ontology()
    kept = []
    for region in sorted(regions):
        resolved = ontology.resolve(region)
        if resolved is not None and resolved[0].kind == "anatomy":
            kept.append(region)
    return cast(Study, render_study(plan, kept))
