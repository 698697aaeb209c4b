"""Where a region lies among landmarks: structures that together tell the places of a head."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vp_model.imaging.grid import World, to_world

TIED, EQUALLY_FAR_MM = 8, 1e-4
"""Of so many voxels that are equally near, the first landmark counts, in whatever order the grid has its axes."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Which landmark fills each voxel of a grid.

    Attributes:
        names: of the landmarks.
        labels: (w, h, d) 1 + index in `names`; 0 where there is none.
        world: 4×4, index → RAS mm.
    """

    names: tuple[str, ...]
    labels: NDArray[np.uint8]
    world: World

    def nearest(self, points: NDArray[np.float64], among: Collection[str]) -> list[str]:
        """The landmarks nearest to points (n, 3) in RAS mm; nothing where none of `among` was found."""
        numbers = [number for number, name in enumerate(self.names, start=1) if name in among]
        where = np.argwhere(np.isin(self.labels, numbers))
        if not len(where):
            return []
        numbered = self.labels[tuple(where.T)]
        away, found = cKDTree(to_world(where, self.world)).query(points, k=range(1, min(TIED, len(where)) + 1))
        tied = away <= away[:, :1] + EQUALLY_FAR_MM
        first = np.where(tied, numbered[found], np.iinfo(np.uint8).max).min(axis=1)
        return [self.names[number - 1] for number in first]
