"""Prepared cases as training reads them: volumes with their world matrices, and the mask of each region."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
class LabelMasks(Mapping[str, NDArray[np.bool_]]):
    """Region → (w, h, d) bool, of each region that a label map tells of, also where it is empty; made when asked for:
    a hundred masks of a head would take a hundred times its labels' memory.

    Attributes:
        maps: labels (w, h, d) with the table of what they mean.
        marked: regions of which there are voxels.
    """

    maps: tuple[tuple[NDArray[np.integer], dict[int, tuple[str, ...] | None]], ...] = ()
    marked: frozenset[str] = frozenset()

    def __getitem__(self, region: str) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] | None = None
        for labels, table in self.maps:
            for label in [label for label, regions in table.items() if region in (regions or ())]:
                here = labels == label
                found = here if found is None else found | here
        if found is None:
            raise KeyError(region)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(
            dict.fromkeys(region for _, table in self.maps for names in table.values() for region in names or ())
        )

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, region: object) -> bool:
        return any(region in (names or ()) for _, table in self.maps for names in table.values())

    def unknown(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """(w, h, d) where a label says neither region nor absence of one."""
        found = np.zeros(shape, dtype=bool)
        for labels, table in self.maps:
            for label in [label for label, regions in table.items() if regions is None]:
                found |= labels == label
        return found


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
    masks: LabelMasks
    unknown: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A subject with all its sessions; `source` is the digest of the files that it was made of."""

    dataset: str
    subject: str
    part: Part
    images: tuple[PreparedImage, ...]
    source: str = ""


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
            maps = [(_read(folder / mask["file"])[0], load_table(mask["table"])) for mask in image["masks"]]
            there = [
                region
                for mask, (_, table) in zip(image["masks"], maps, strict=True)
                for label in mask["voxels"]
                for region in table.get(int(label)) or ()
            ]
            masks = LabelMasks(tuple(maps), frozenset(there))
            unknown = masks.unknown(volume.shape)
            images.append(PreparedImage(volume, image["contrast"], session["day"], masks, unknown))
    return PreparedCase(
        described["dataset"], described["subject"], described["part"], tuple(images), described["source"]
    )


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
