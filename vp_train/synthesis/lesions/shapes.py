"""Lobulated connected shapes (paper B.6, Figure 7): Brownian noise with a fall-off matched to the wanted dimensions.

A shape is a field of levels, not a mask: whatever is above a threshold is connected, so a lesion at any size, and at
any date, is one threshold away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from vp_model.geometry import Shape, spacing
from vp_model.vision.prepare import to_ras
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.noise import brownian
from vp_train.synthesis.space import rotation

NEVER = -math.inf
"""Level of voxels that never join."""
SMALLEST_SHAPE_MM3 = 20
FAR = 100.0
"""mm outside a real mask up to which its distance is known."""


@dataclass(frozen=True, eq=False)
class RealShape:
    """A real lesion: `distance` (w, h, d) mm to its border, positive inside; 1 mm; `volume` in mm³."""

    distance: torch.Tensor
    volume: float


def fall_off(
    shape: Shape,
    centre: Sequence[float],
    radii: Sequence[float],
    turn: torch.Tensor,
    device: torch.device | None = None,
) -> torch.Tensor:
    """(w, h, d) 1 at the centre, 0 on the surface of an ellipsoid with `radii` voxels turned by `turn` (3, 3), falling
    on beyond.
    """
    axes = [torch.arange(size, device=device).float() - middle for size, middle in zip(shape, centre, strict=True)]
    x, y, z = axes[0].view(-1, 1, 1), axes[1].view(1, -1, 1), axes[2].view(1, 1, -1)
    squares = torch.zeros(shape, device=device)
    for row, radius in zip(turn.tolist(), radii, strict=True):
        squares += ((row[0] * x + row[1] * y + row[2] * z) / radius) ** 2
    return 1.0 - squares.sqrt()


def brownian_field(
    shape: Shape, centre: Sequence[float], radii: Sequence[float], roughness: float, chance: Chance
) -> torch.Tensor:
    """The field whose threshold is a lobulated shape: the fall-off plus `roughness` × Brownian noise, the coarsest of
    the noise being as large as the shape.
    """
    turn = rotation(chance.uniform(-math.pi, math.pi, 3))
    field = fall_off(shape, centre, radii, turn, chance.device)
    return field + roughness * brownian(shape, chance, coarsest=max(4.0, max(radii)))


def real_field(
    shape: Shape, centre: Sequence[float], volume: float, real: RealShape, roughness: float, chance: Chance
) -> torch.Tensor:
    """The same from a real lesion, turned at random and scaled to `volume` voxels, with little noise."""
    scale = (volume / real.volume) ** (1 / 3)
    turn = rotation(chance.uniform(-math.pi, math.pi, 3)).to(chance.device)
    half = torch.tensor([(size - 1) / 2 for size in real.distance.shape], device=chance.device)
    axes = [
        torch.arange(size, device=chance.device).float() - middle for size, middle in zip(shape, centre, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ turn / scale
    at = (points / half.clamp(min=0.5)).flip(-1)[None]
    values = functional.grid_sample(
        real.distance.to(chance.device)[None, None], at, mode="bilinear", padding_mode="border", align_corners=True
    )[0, 0]
    beyond = (points.abs() - half).clamp(min=0).norm(dim=-1)
    radius = (3 * real.volume / (4 * math.pi)) ** (1 / 3)
    field = (values - beyond) / radius
    return field + 0.3 * roughness * brownian(shape, chance, coarsest=max(4.0, radius * scale))


def spread(values: torch.Tensor) -> torch.Tensor:
    """(w, h, d) the largest value among each voxel and its 26 neighbours."""
    for axis in range(3):
        size = values.shape[axis]
        first, last = values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1)
        grown = values.clone()
        ahead, behind = grown.narrow(axis, 0, size - 1), grown.narrow(axis, 1, size - 1)
        torch.maximum(ahead, last, out=ahead)
        torch.maximum(behind, first, out=behind)
        values = grown
    return values


def reached(field: torch.Tensor, seed: torch.Tensor, every: int = 16) -> torch.Tensor:
    """(w, h, d) levels: of each voxel the highest threshold at which `field` still joins it to `seed` (bool).

    Greyscale reconstruction by dilation (Vincent 1993). What is above any threshold is connected to the seed.

    Args:
        every: steps between looks at whether anything changed.
    """
    level = torch.where(seed, field, torch.full_like(field, NEVER))
    while True:
        before = level
        for _ in range(every):
            level = torch.minimum(spread(level), field)
        if torch.equal(level, before):
            return level


def largest(level: torch.Tensor, count: float) -> torch.Tensor:
    """(w, h, d) bool: about `count` voxels of the highest level, all of one level or none, at least the highest."""
    known = level[level > NEVER]
    if not len(known):
        return torch.zeros_like(level, dtype=torch.bool)
    ordered = known.sort(descending=True).values
    wanted = min(max(1, round(count)), len(ordered))
    threshold = ordered[wanted - 1]
    mask = level >= threshold
    fewer = level > threshold
    # A pocket joins all at once: take what is nearer to the wanted size.
    less, more = int(fewer.sum()), int(mask.sum())
    return fewer if less > 0 and wanted - less < more - wanted else mask


def depth(mask: torch.Tensor) -> torch.Tensor:
    """(w, h, d) float: how many voxels deep each voxel lies in a bool mask, 1 at its border, 0 outside."""
    outside = (~functional.pad(mask, (1, 1, 1, 1, 1, 1))).float()
    result = torch.zeros_like(outside)
    while bool((outside < 1).any()):
        result += 1 - outside
        outside = spread(outside)
    return result[1:-1, 1:-1, 1:-1]


def read_shapes(folder: Path, pattern: str = "*.nii.gz") -> tuple[RealShape, ...]:
    """Every lesion of every binary mask in a folder, sorted by file: connected pieces of at least 20 mm³, at 1 mm.

    Raises:
        FileNotFoundError: there is no mask.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"No mask {pattern} in {folder}.")
    shapes = []
    for path in paths:
        image = nibabel.load(path)
        voxels, world = to_ras(np.asarray(image.dataobj), np.asarray(image.affine))  # type: ignore[attr-defined]
        pieces, _ = ndimage.label(np.asarray(voxels) > 0, np.ones((3, 3, 3)))
        step = spacing(world)
        for index, box in enumerate(ndimage.find_objects(pieces), start=1):
            piece = np.pad(pieces[box] == index, 2).astype(np.float32)
            if np.abs(step - 1).max() > 0.01:
                piece = ndimage.zoom(piece, step, order=1)
            inside = piece > 0.5
            if inside.sum() < SMALLEST_SHAPE_MM3:
                continue
            to_border = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
            distance = np.clip(to_border, -FAR, FAR).astype(np.float32)
            shapes.append(RealShape(torch.from_numpy(distance), float(inside.sum())))
    return tuple(shapes)
