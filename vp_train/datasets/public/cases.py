"""Prepared cases as training reads them: volumes with their world matrices, and the mask of each region."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.volume import Volume
from vp_train.datasets.public.layout import load_table
from vp_train.datasets.public.prepare import CASE
from vp_train.datasets.public.splits import Part


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image with what is known on its grid.

    Attributes:
        volume: features (1, w, h, d) in [0, 1], world in the RAS mm of the subject's reference image.
        contrast: "pre", "post" or unknown.
        day: days since the subject's first session, where known.
        masks: (w, h, d) bool of each region that a label map of this image tells of, also where it is empty; names are
            the ontology's, with a side where there is one.
        unknown: (w, h, d) bool, voxels that a label map declares neither region nor absence of one.
    """

    volume: Volume
    contrast: str | None
    day: int | None
    masks: dict[str, NDArray[np.bool_]]
    unknown: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    dataset: str
    subject: str
    part: Part
    images: tuple[PreparedImage, ...]


def prepared_cases(folder: Path, part: Part | None = None) -> Iterator[PreparedCase]:
    """Every prepared subject below `folder`, of one part of the split or of all, sorted."""
    for path in sorted(folder.glob(f"*/*/{CASE}")):
        described = json.loads(path.read_text(encoding="utf-8"))
        if part is None or described["part"] == part:
            yield read_case(path.parent, described)


def read_case(folder: Path, described: dict[str, Any]) -> PreparedCase:
    images: list[PreparedImage] = []
    for number, session in enumerate(described["sessions"]):
        for image in session["images"]:
            voxels, world = _read(folder / image["file"])
            volume = Volume(
                torch.from_numpy(voxels.astype(np.float32))[None],
                world,
                name=f"v{len(images) + 1}",
                kind=image["kind"],
                session=number,
            )
            masks: dict[str, NDArray[np.bool_]] = {}
            unknown = np.zeros(volume.shape, dtype=bool)
            for mask in image["masks"]:
                labels, _ = _read(folder / mask["file"])
                for label, regions in load_table(mask["table"]).items():
                    here = labels == label
                    if regions is None:
                        unknown |= here
                        continue
                    for region in regions:
                        masks[region] = masks[region] | here if region in masks else here
            images.append(PreparedImage(volume, image["contrast"], session["day"], masks, unknown))
    return PreparedCase(described["dataset"], described["subject"], described["part"], tuple(images))


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
