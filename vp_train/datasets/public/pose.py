"""How the head of a prepared case is turned, scaled and mirrored for an example (paper B.2, "random affine
transformations", "lateral anatomical flipping").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vp_model.geometry import World
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.space import Deformation, rotation

RADIANS, RADIANS_IN_SLICES = 0.26, 0.09
"""Largest rotation about each axis; of studies with thick slices, which a turn would blend."""
THICK_MM = 2.5
SCALED, SHEARED = 0.15, 0.06
TURNED = 0.5
"""Share of studies whose images are turned; the others keep the voxels of their scanner."""


@dataclass(frozen=True, eq=False)
class Pose:
    """`matrix` (4, 4): mm of the case → mm of the study; `mirrored`: left has become right."""

    matrix: World
    mirrored: bool

    @property
    def back(self) -> World:
        return np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)

    @property
    def deformation(self) -> Deformation:
        """The same map from the study to the case, as lesions tell their facts by."""
        linear = self.back[:3, :3].copy()
        linear[:, 0] *= -1.0 if self.mirrored else 1.0
        shift = torch.from_numpy(self.back[:3, 3].astype(np.float32))
        return Deformation(torch.from_numpy(linear.astype(np.float32)), shift, (), 0.0, self.mirrored)

    def moved(self, world: World, middle: np.ndarray) -> World:
        """The matrix of an image of the study whose voxels look about a place of the case as those of `world` do.

        Args:
            middle: (3,) mm of the case, of the image's field of view.
        """
        result = np.array(world)
        result[:3, 3] += self.matrix[:3, :3] @ middle + self.matrix[:3, 3] - middle
        return result


def draw_pose(middle: np.ndarray, coarsest_mm: float, strength: float, chance: Chance) -> Pose:
    """A pose about a place (3,) of the case.

    Args:
        coarsest_mm: largest step of a voxel in the study.
        strength: 0 leaves the head as it is, but for the mirror.
    """
    mirrored, turned = chance.happens(0.5), chance.happens(TURNED)
    limit = RADIANS if coarsest_mm < THICK_MM else RADIANS_IN_SLICES
    angles = chance.uniform(-limit, limit, 3) * strength
    scale = 1 + chance.uniform(-SCALED, SCALED, 3) * strength
    shear = chance.uniform(-SHEARED, SHEARED, 3, 3) * (1 - torch.eye(3)) * strength
    linear = (rotation(angles) @ torch.diag(scale) @ (torch.eye(3) + shear)).double().numpy()
    linear = linear if turned else np.eye(3)
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = middle - linear @ middle
    return Pose(matrix, mirrored)
