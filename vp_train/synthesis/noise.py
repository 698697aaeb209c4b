"""Random fields for lesions: multi-scale Brownian noise (shapes), Perlin noise (textures); paper B.6, Figure 7."""

from __future__ import annotations

import torch
from torch.nn import functional

from vp_model.geometry import Shape
from vp_train.synthesis.chance import Chance

ROUGHNESS = 0.8
"""Hurst exponent of Brownian noise: amplitude of a scale is its length to this power."""


def brownian(shape: Shape, chance: Chance, coarsest: float, finest: float = 2.0) -> torch.Tensor:
    """(w, h, d) Brownian noise of mean 0 and variance 1: octaves from `coarsest` to `finest` voxels, each with an
    amplitude that grows with its scale.
    """
    result = torch.zeros(shape, device=chance.device)
    scale = max(finest, coarsest)
    while scale >= finest:
        size = [max(2, round(side / scale) + 1) for side in shape]
        values = chance.normal(1, 1, *size).to(chance.device) * scale**ROUGHNESS
        result += functional.interpolate(values, size=shape, mode="trilinear", align_corners=True)[0, 0]
        scale /= 2
    deviation = result.std()
    return (result - result.mean()) / torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))


def perlin(shape: Shape, chance: Chance, cell: float, octaves: int = 3) -> torch.Tensor:
    """(w, h, d) Perlin noise within about [-1, 1]: gradients on a lattice, faded; each octave at half the cell and half
    the amplitude.

    Args:
        cell: voxels between lattice points of the first octave.
    """
    result = torch.zeros(shape, device=chance.device)
    total = 0.0
    for octave in range(octaves):
        amplitude = 0.5**octave
        result += amplitude * _gradient_noise(shape, chance, max(cell * 0.5**octave, 1.5))
        total += amplitude
    return result / total


def _gradient_noise(shape: Shape, chance: Chance, cell: float) -> torch.Tensor:
    lattice = [int(side / cell) + 2 for side in shape]
    gradients = chance.normal(3, *lattice)
    gradients = (gradients / gradients.norm(dim=0, keepdim=True).clamp(min=1e-6)).to(chance.device)
    whole, part = [], []
    for axis, side in enumerate(shape):
        view = [1, 1, 1]
        view[axis] = -1
        position = torch.arange(side, device=chance.device) / cell
        whole.append(position.floor().long().view(view))
        part.append((position - position.floor()).view(view))
    faded = [t * t * t * (t * (t * 6 - 15) + 10) for t in part]
    result = torch.zeros(shape, device=chance.device)
    for corner in range(8):
        steps = [(corner >> axis) & 1 for axis in range(3)]
        picked = gradients[:, whole[0] + steps[0], whole[1] + steps[1], whole[2] + steps[2]]
        dot = sum(
            (picked[axis] * (part[axis] - steps[axis]) for axis in range(3)), torch.zeros((), device=chance.device)
        )
        weight = torch.ones((), device=chance.device)
        for axis in range(3):
            weight = weight * (faded[axis] if steps[axis] else 1 - faded[axis])
        result += weight * dot
    return result * 1.5


def connected(mask: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """The voxels of `mask` (w, h, d) bool that are joined (26 neighbours) to those of `seed`."""
    kept = mask & seed
    count = -1
    while True:
        for _ in range(6):
            grown = functional.max_pool3d(kept[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
            kept = grown & mask
        found = int(kept.sum())
        if found == count:
            return kept
        count = found


def dilated(mask: torch.Tensor, voxels: int) -> torch.Tensor:
    """A bool mask (w, h, d) grown by a cube of 2·`voxels` + 1."""
    if voxels < 1:
        return mask
    grown = mask[None, None].float()
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * voxels + 1, voxels
        grown = functional.max_pool3d(grown, size, stride=1, padding=padding)
    return grown[0, 0] > 0
