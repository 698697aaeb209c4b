"""The label map of a prepared case as lesions are drawn into: 1 mm, compact labels, with its anatomy (paper B.6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from vp_model.geometry import Shape, World, corners
from vp_train.datasets.labels import Labels, load_labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.public.cases import PreparedCase, PreparedImage
from vp_train.datasets.public.known import is_lesion
from vp_train.datasets.public.sampling import positions
from vp_train.synthesis.lesions.anatomy import Anatomy, kept_anatomy

NEEDED = ("left cerebral white matter", "right cerebral white matter", "left cerebral cortex", "right cerebral cortex")
"""Without these, a label map does not say where in the brain a lesion may lie."""
HEADS_KEPT = 8
"""Of the last cases drawn."""


@dataclass(frozen=True, eq=False)
class Head:
    """A case's label map on a grid of 1 mm along RAS.

    Attributes:
        image: number of the image of the case whose masks it was made of.
        world: voxel of `subject.labels` → mm of the case.
    """

    image: int
    subject: Subject
    world: World
    anatomy: Anatomy


def has_anatomy(image: PreparedImage) -> bool:
    """Whether the label maps of an image tell where its grey and white matter are."""
    return set(NEEDED) <= image.masks.marked


@lru_cache(maxsize=HEADS_KEPT)
def head_of(case: PreparedCase, image: int, cache: Path | None = None) -> Head:
    """The head of a case, from the masks of one of its images; its anatomy is kept in `cache` where given.

    Raises:
        ValueError: the image has no label map of the brain's anatomy.
    """
    found = case.images[image]
    if not has_anatomy(found):
        raise ValueError(f"{found.volume.name} of {case.subject} has no label map of the brain's anatomy.")
    labels = load_labels()
    compact = torch.zeros(found.volume.shape, dtype=torch.uint8)
    for index, name in enumerate(labels.names):
        if index and name in found.masks:
            compact[torch.from_numpy(found.masks[name])] = index
    for name in filter(is_lesion, found.masks.marked):  # what is ill is no place for further lesions
        compact[torch.from_numpy(found.masks[name])] = 0
    shape, world = _millimetres(found.volume.shape, found.volume.world)
    where = positions(found.volume.shape, found.volume.world, shape, world, compact.device)
    resampled = compact.flatten()[where]
    for axis in range(3):  # a border of background, as maps of labels have
        resampled.select(axis, 0).zero_()
        resampled.select(axis, -1).zero_()
    low, high = _brain_box(resampled, labels)
    name = f"{case.dataset}_{case.subject.replace('/', '_')}_{image}"
    subject = Subject(name, resampled, low, high)
    return Head(image, subject, world, kept_anatomy(subject, None if cache is None else cache / case.source[:12]))


def _millimetres(shape: Shape, world: World) -> tuple[Shape, World]:
    """A grid of 1 mm along RAS that covers another, one voxel more on each side."""
    points = corners(shape, world)
    low, high = np.floor(points.min(axis=0)) - 1, np.ceil(points.max(axis=0)) + 1
    result = np.eye(4)
    result[:3, 3] = low
    w, h, d = (int(size) + 1 for size in high - low)
    return (w, h, d), result


def _brain_box(compact: torch.Tensor, labels: Labels) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    inside = torch.isin(compact, torch.tensor(labels.brain, dtype=torch.uint8)).nonzero()
    low, high = inside.amin(dim=0).tolist(), (inside.amax(dim=0) + 1).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
