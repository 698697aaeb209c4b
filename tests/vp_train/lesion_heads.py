"""A made-up head with every compartment that lesions know, and one lesion of each kind in it."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy, anatomy_of
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import SyntheticLesion

SIZE = 100
MIDDLE = SIZE // 2


def whole_head() -> Subject:
    """A head of nested ellipsoids, 1 mm RAS: scalp, skull, fluid, cortex, white matter, deep nuclei, ventricles; a
    cerebellum and a brainstem below.
    """
    labels = load_labels()
    x, y, z = np.meshgrid(*[np.arange(SIZE) - MIDDLE + 0.5] * 3, indexing="ij")
    voxels = np.zeros((SIZE, SIZE, SIZE), dtype=np.uint8)

    def fill(name: str, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> None:
        inside = sum(((c - m) / r) ** 2 for c, m, r in zip((x, y, z), centre, radii, strict=True)) <= 1
        if f"left {name}" not in labels.names:
            voxels[inside] = labels.index(name)
            return
        voxels[inside & (x < 0)] = labels.index(f"left {name}")
        voxels[inside & (x > 0)] = labels.index(f"right {name}")

    fill("skin", (0, 0, 0), (48, 49, 48))
    fill("cortical bone", (0, 0, 0), (45, 46, 45))
    fill("cerebrospinal fluid", (0, 0, 0), (42, 43, 42))
    fill("cerebral cortex", (0, 2, 6), (37, 38, 32))
    fill("cerebral white matter", (0, 2, 6), (33, 34, 28))
    fill("cerebellar gray matter", (0, -16, -24), (22, 14, 10))
    fill("cerebellar white matter", (0, -16, -24), (17, 10, 7))
    fill("brainstem", (0, 2, -22), (7, 7, 16))
    for side in (-1, 1):
        fill("thalamus", (side * 8, -4, 4), (6, 8, 5))
        fill("putamen", (side * 18, 6, 4), (4, 9, 6))
        fill("lateral ventricle", (side * 6, 4, 14), (5, 18, 6))
    fill("third ventricle", (0, -2, 4), (3, 9, 7))
    fill("fourth ventricle", (0, -8, -22), (6, 5, 6))
    brain = np.argwhere(np.isin(voxels, labels.brain))
    low, high = brain.min(axis=0), brain.max(axis=0) + 1
    return Subject("made_up", torch.from_numpy(voxels), tuple(low.tolist()), tuple(high.tolist()))


@cache
def head_and_anatomy() -> tuple[Subject, Anatomy]:
    subject = whole_head()
    return subject, anatomy_of(subject)


@cache
def one_of_each(seed: int = 3) -> dict[str, SyntheticLesion]:
    """The first lesion of each kind that a seed gives."""
    subject, anatomy = head_and_anatomy()
    return {
        name: draw_lesions(subject, anatomy, Chance.seeded(seed + number), 1, [name])[0]
        for number, name in enumerate(load_kinds())
    }


def plain_labels(subject: Subject) -> NDArray[np.int64]:
    """(w, h, d) compact labels without lesions."""
    result: NDArray[np.int64] = load_labels().plain.numpy()[subject.labels.numpy().astype(np.int64)]
    return result
