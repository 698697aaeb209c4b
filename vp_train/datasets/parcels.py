"""Regions of the parcellation beside a label map (`parcels.json`): lobes, cortical parcels, deep nuclei.

They are no tissues of their own: an image does not show where one ends, only where it lies. A region is a union of
ids, and regions may overlap (a lobe and its gyri).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.vision.prepare import to_ras
from vp_train.datasets.labels import Labels, cut_of

RIGHT = 1000
"""Ids of the right side are this much higher."""
HIGHEST_ID = 8192


@dataclass(frozen=True, eq=False)
class Parcels:
    """Compact indices of the ids that regions are made of; 0 is everything else.

    Attributes:
        version: changes with what the indices mean.
        names: of the regions, left and right apart.
        from_id: (HIGHEST_ID,) uint8.
        swap: (count + 1,) the compact index of the other side.
        members: (regions, count + 1) 1 where a region holds an index, else 0.
    """

    version: str
    names: tuple[str, ...]
    from_id: NDArray[np.uint8]
    swap: torch.Tensor
    members: torch.Tensor

    def compact(self, ids: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Ids → compact indices, any shape."""
        compacted: NDArray[np.uint8] = self.from_id[ids]
        return compacted

    def ids(self, name: str) -> list[int]:
        """Ids that a region is made of."""
        indices = torch.nonzero(self.of([name])[0]).flatten().tolist()
        return np.flatnonzero(np.isin(self.from_id, indices)).tolist()

    def of(self, names: Sequence[str]) -> torch.Tensor:
        """Rows of `members` of these regions.

        Raises:
            ValueError: one is not in `parcels.json`.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"parcels.json has no region {unknown[0]!r}.")
        return self.members[[self.names.index(name) for name in names]]


@cache
def load_parcels() -> Parcels:
    text = files("vp_train.datasets").joinpath("parcels.json").read_text(encoding="utf-8")
    table = json.loads(text)
    regions: dict[str, list[int]] = {}
    for name, ids in table["paired"].items():
        regions[f"left {name}"] = ids
        regions[f"right {name}"] = [one + RIGHT for one in ids]
    regions.update(table["midline"])
    ids = sorted({one for members in regions.values() for one in members})
    index = {one: position for position, one in enumerate(ids, start=1)}
    from_id = np.zeros(HIGHEST_ID, dtype=np.uint8)
    from_id[ids] = list(index.values())
    members = torch.zeros(len(regions), len(ids) + 1)
    for row, held in enumerate(regions.values()):
        members[row, [index[one] for one in held]] = 1.0
    swap = [0, *(index.get(one + RIGHT, index.get(one - RIGHT, own)) for one, own in index.items())]
    version = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Parcels(version, tuple(regions), from_id, torch.tensor(swap), members)


def read_parcels(folder: Path, name: str, labels: Labels) -> NDArray[np.int64] | None:
    """Ids of a subject's parcellation on the grid that its labels have (`maps.read_subject`); None where there is none.

    Raises:
        ValueError: it is not on its label map's grid.
    """
    path = folder / f"{name}_parc.nii.gz"
    if not path.exists():
        return None
    seg = nibabel.load(folder / f"{name}_seg.nii.gz")
    ids, _ = to_ras(np.asarray(seg.dataobj), np.asarray(seg.affine))  # type: ignore[attr-defined]
    image = nibabel.load(path)
    parcels, _ = to_ras(np.asarray(image.dataobj), np.asarray(image.affine))  # type: ignore[attr-defined]
    if parcels.shape != ids.shape:
        raise ValueError(f"{path.name} has {parcels.shape} voxels, its label map {ids.shape}.")
    cut = cut_of(labels.compact_with_lesions(ids), labels)
    return np.pad(np.rint(parcels[cut]).astype(np.int64), 1)
