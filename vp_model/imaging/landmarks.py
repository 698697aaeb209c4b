"""Where a region lies among landmarks: structures that together tell the places of a head."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vp_model.imaging.grid import World, to_world


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
        _, found = cKDTree(to_world(where, self.world)).query(points)
        return [self.names[self.labels[tuple(where[index])] - 1] for index in np.atleast_1d(found)]
