"""Random anatomy: where each point of a synthetic scene lies in the label map, and smooth random fields.

A scene has its own millimetres, RAS, with its origin in the middle of the brain. All images of one scene share its
deformation; each has its own grid in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from vp_model.geometry import Shape, World
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance

EXTENT_MM = 280.0
"""Side of the cube that random fields cover."""


@dataclass(frozen=True, eq=False)
class Field:
    """A smooth random field: `control` (c, m, m, m) values on a lattice over the scene, interpolated linearly."""

    control: torch.Tensor

    def at(self, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """(c, w, h, d) at the points whose mm coordinates along each axis are given.

        Linear interpolation is separable: three small matrix products instead of a look-up a point.
        """
        value = self.control.to(axes[0].device)
        for axis, coordinates in enumerate(axes):
            weights = self._weights(coordinates)
            value = torch.movedim(torch.movedim(value, 1 + axis, -1) @ weights.T, -1, 1 + axis)
        return value

    def at_points(self, points: torch.Tensor) -> torch.Tensor:
        """(c, w, h, d) at points (3, w, h, d) in mm, whatever grid they lie on; as `at` within rounding."""
        where = (points / (EXTENT_MM / 2)).flip(0).movedim(0, -1)[None]  # grid_sample wants the last tensor axis first
        control = self.control.to(points.device)[None]
        return functional.grid_sample(control, where, padding_mode="border", align_corners=True)[0]

    def _weights(self, coordinates: torch.Tensor) -> torch.Tensor:
        count = self.control.shape[-1]
        position = ((coordinates / EXTENT_MM + 0.5) * (count - 1)).clamp(0, count - 1)
        return (1 - (position[:, None] - torch.arange(count, device=coordinates.device)).abs()).clamp(min=0)


def smooth_field(chance: Chance, coarseness_mm: float, channels: int = 1) -> Field:
    """A field of unit normal values with one control point every `coarseness_mm`."""
    count = max(2, round(EXTENT_MM / coarseness_mm) + 1)
    return Field(chance.normal(channels, count, count, count))


@dataclass(frozen=True, eq=False)
class Deformation:
    """Scene mm → voxel of the label map: mirror, affine map, two displacement fields, shift."""

    matrix: torch.Tensor
    shift: torch.Tensor
    fields: tuple[Field, ...]
    strength_mm: float
    mirrored: bool

    def voxels(self, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
        """Three (w, h, d) tensors: the label map's index (not rounded) of each point of the grid."""
        x, y, z = axes[0].view(-1, 1, 1), axes[1].view(1, -1, 1), axes[2].view(1, 1, -1)
        displacement = (
            sum((field.at(axes) for field in self.fields), torch.zeros((), device=x.device)) * self.strength_mm
        )
        sign = -1.0 if self.mirrored else 1.0
        matrix, shift = self.matrix.tolist(), self.shift.tolist()
        return [
            matrix[row][0] * sign * x + matrix[row][1] * y + matrix[row][2] * z + (displacement[row] + shift[row])
            for row in range(3)
        ]

    def voxels_at(self, points: torch.Tensor) -> torch.Tensor:
        """(3, w, h, d): the label map's index (not rounded) of points (3, w, h, d) in scene mm."""
        displacement = (
            sum((field.at_points(points) for field in self.fields), torch.zeros((), device=points.device))
            * self.strength_mm
        )
        matrix = self.matrix.clone()
        matrix[:, 0] *= -1.0 if self.mirrored else 1.0
        turned = torch.einsum("rc,cwhd->rwhd", matrix.to(points.device), points)
        return turned + displacement + self.shift.to(points.device)[:, None, None, None]


def rotation(angles: torch.Tensor) -> torch.Tensor:
    """(3, 3) rotation about x, then y, then z, by radians (3,)."""
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles).tolist(), torch.sin(angles).tolist()
    about_x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def draw_deformation(subject: Subject, chance: Chance, strength: float = 1.0) -> Deformation:
    """Rotation ±15°, scaling ±15 %, shear ±6 %, displacement up to 4 mm SD, mirrored half of the time.

    `strength` 0 gives the label map as it is (but for the mirror), which tests use.
    """
    limits = torch.tensor([0.26, 0.26, 0.26]) * strength
    shear = chance.uniform(-0.06, 0.06, 3, 3) * (1 - torch.eye(3)) * strength
    scaling = torch.diag(1 + chance.uniform(-0.15, 0.15, 3) * strength)
    matrix = rotation(chance.uniform(-1, 1, 3) * limits) @ scaling @ (torch.eye(3) + shear)
    centre = (torch.tensor(subject.low) + torch.tensor(subject.high) - 1).float() / 2
    fields = (smooth_field(chance, 24.0, 3), smooth_field(chance, 48.0, 3))
    return Deformation(matrix, centre, fields, 0.6 * chance.number(0.5, 4.0) * strength, chance.happens(0.5))


def grid_axes(
    shape: Shape, world: World, parts: tuple[int, int, int], device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """mm coordinates along each axis of a grid with axes along RAS, each voxel divided into `parts` along each axis."""
    axes = []
    for axis in range(3):
        step = float(world[axis, axis])
        fine = (np.arange(shape[axis] * parts[axis]) + 0.5) / parts[axis] - 0.5
        axes.append(torch.from_numpy((fine * step + float(world[axis, 3])).astype(np.float32)).to(device))
    return axes[0], axes[1], axes[2]


def look_up(subject: Subject, voxels: list[torch.Tensor]) -> torch.Tensor:
    """(w, h, d) int64: the label nearest to each index; background beyond the map (its border is background)."""
    index = torch.zeros(voxels[0].shape, dtype=torch.int64, device=voxels[0].device)
    for axis, size in enumerate(subject.labels.shape):
        index.mul_(size).add_(voxels[axis].round().clamp_(0, size - 1).to(torch.int64))
    return subject.labels.flatten()[index.flatten()].view(index.shape).to(torch.int64)
