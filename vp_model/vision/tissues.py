"""How bright each tissue is in one image, learned from the image itself: a mixture of Gaussians whose spatial prior is
what m found, as in segmentation by expectation maximisation (Ashburner & Friston 2005; SAMSEG, Puonti et al. 2016).

m tells structures by their surroundings at its working spacing; where exactly the border runs, the image's own
intensities say at its native spacing. Nothing is learned beforehand: any sequence type, any contrast.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.vision.config import Refining

BINS, LOWEST, HIGHEST = 80, -0.25, 1.75
"""Histogram of the background, over scaled intensities."""
LEAST_VOXELS = 30.0
"""Of a tissue in a sample; one with fewer is as bright as anything."""
LEAST_BACKGROUND = 1e-4
"""Share of the background everywhere: m is never sure."""
LEAST_DEVIATION = 0.01
INSIDE = 0.5
"""Share of structures from which a voxel is inside the head for scaling."""


@dataclass(frozen=True)
class _Table:
    """`tissues.json`.

    Attributes:
        alike: structures whose tissue is the same, by its name.
        apart: structures that are wholes of others, or that show several tissues.
        within: structures that lie within those of one tissue, by its name.
    """

    alike: Mapping[str, Sequence[str]]
    apart: Sequence[str]
    within: Mapping[str, Sequence[str]]


@cache
def _table() -> _Table:
    return _Table(**json.loads(files("vp_model.vision").joinpath("tissues.json").read_text(encoding="utf-8")))


def tissues_of(regions: Sequence[str], left_out: Sequence[str] = ()) -> dict[str, str]:
    """Region → tissue, for the regions that share the voxels of a head among them: both sides of a structure are one
    tissue, and so are all fluids (`tissues.json`).

    Args:
        left_out: structures that lie within others, as lesions do.
    """
    tissue = {name: group for group, names in _table().alike.items() for name in names}
    parts = {name for names in _table().within.values() for name in names}
    found = {}
    for region in regions:
        name = _without_side(region)
        if name not in left_out and name not in _table().apart and name not in parts:
            found[region] = tissue.get(name, name)
    return found


def tissues_within(regions: Sequence[str]) -> dict[str, str]:
    """Region → tissue, for the regions that lie within those of `tissues_of`: a gyrus shows cortex."""
    tissue = {name: whole for whole, names in _table().within.items() for name in names}
    return {region: tissue[_without_side(region)] for region in regions if _without_side(region) in tissue}


def _without_side(region: str) -> str:
    return region.removeprefix("left ").removeprefix("right ")


@dataclass(frozen=True, eq=False)
class Tissues:
    """What was learned of one image.

    Attributes:
        mean, deviation: (t,) of each tissue, of scaled intensities.
        background: (BINS,) density of what is no structure.
        low, high: stored values that became 0 and 1.
        gain: (a, b, c) factor of the bias field on the sample's lattice; None: none was estimated.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    background: torch.Tensor
    low: float
    high: float
    gain: torch.Tensor | None
    floor: float

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        """Stored values, free of the bias field, as the mixture sees them."""
        return (values - self.low) / (self.high - self.low)

    def density(self, tissue: int, scaled: torch.Tensor) -> torch.Tensor:
        """How likely intensities are in a tissue."""
        deviation = float(self.deviation[tissue])
        if not math.isfinite(deviation):
            return torch.full_like(scaled, 1.0 + self.floor)
        exponent = (scaled - float(self.mean[tissue])).div_(deviation).square_().mul_(-0.5)
        return exponent.exp_().div_(deviation * math.sqrt(2 * math.pi)).add_(self.floor)

    def background_density(self, scaled: torch.Tensor) -> torch.Tensor:
        return self.background[_bins(scaled)] + self.floor


def learn_tissues(
    priors: torch.Tensor,
    tissue: torch.Tensor,
    values: torch.Tensor,
    spacing_mm: Sequence[float],
    refining: Refining,
    biased: bool,
) -> Tissues | None:
    """The mixture of one image, from a sample of its voxels; None where m found too little in it.

    Args:
        priors: (k, a, b, c) what m gives for each region.
        tissue: (k,) index of each region's tissue.
        values: (a, b, c) stored values.
        spacing_mm: of the sample's lattice.
        biased: whether the image may have a bias field (MR).
    """
    shape = values.shape
    prior = priors.flatten(1)
    inside = prior.sum(dim=0) > INSIDE
    if int(inside.sum()) < LEAST_VOXELS:
        return None
    x = values.flatten()
    low, high = _range(x[inside], float(x.min()))
    x = ((x - low) / (high - low)).clamp(LOWEST, HIGHEST)
    count = int(tissue.max()) + 1
    background = (1 - prior.sum(dim=0)).clamp(min=LEAST_BACKGROUND)
    prior = torch.cat([prior, background[None]])
    prior = prior / prior.sum(dim=0)
    posterior, found, gain = prior, None, None
    corrected = x
    for _ in range(refining.iterations):
        found = _maximise(posterior, tissue, count, corrected, refining, low, high)
        if not bool(torch.isfinite(found.deviation).any()):
            return None
        density = torch.stack([found.density(index, corrected) for index in range(count)])
        posterior = prior * torch.cat([density[tissue], found.background_density(corrected)[None]])
        posterior = posterior / posterior.sum(dim=0)
        if biased and refining.field_mm > 0 and low == 0.0:
            gain = _gain(posterior[:-1], found, tissue, x, shape, [refining.field_mm / step for step in spacing_mm])
            corrected = x / gain.flatten()
    if found is None:
        return None
    return Tissues(found.mean, found.deviation, found.background, low, high, gain, refining.floor)


def _range(inside: torch.Tensor, least: float) -> tuple[float, float]:
    ordered = inside.sort().values
    low, high = float(ordered[int(0.001 * len(ordered))]), float(ordered[int(0.995 * (len(ordered) - 1))])
    low = 0.0 if least >= 0 else low
    return low, max(high, low + 1e-6)


def _maximise(
    posterior: torch.Tensor,
    tissue: torch.Tensor,
    count: int,
    x: torch.Tensor,
    refining: Refining,
    low: float,
    high: float,
) -> Tissues:
    regions = posterior[:-1]
    moments = torch.stack([regions.sum(dim=1), regions @ x, regions @ x.square()], dim=1)
    amount, first, second = torch.zeros(count, 3).index_add_(0, tissue, moments).unbind(dim=1)
    mean = first / amount
    variance = (second / amount - mean.square()).clamp(min=LEAST_DEVIATION**2)
    seen = amount >= LEAST_VOXELS
    pooled = (variance * amount)[seen].sum() / amount[seen].sum()
    variance = torch.where(seen, (1 - refining.pooling) * variance + refining.pooling * pooled, torch.inf)
    counted = torch.zeros(BINS).scatter_add_(0, _bins(x), posterior[-1])
    counted = torch.from_numpy(ndimage.uniform_filter1d(counted.numpy(), 5, mode="constant"))
    counted = counted + 1e-3 * counted.sum() / BINS
    density = counted / counted.sum() * (BINS / (HIGHEST - LOWEST))
    return Tissues(mean, variance.sqrt(), density, low, high, None, refining.floor)


def _gain(
    posterior: torch.Tensor,
    found: Tissues,
    tissue: torch.Tensor,
    x: torch.Tensor,
    shape: torch.Size,
    deviation: Sequence[float],
) -> torch.Tensor:
    """Factor by which the image is brighter than its tissues, smoothed; 1 far from them."""
    known = torch.isfinite(found.deviation[tissue]) & (found.mean[tissue] > 0.1)
    mean = torch.where(known, found.mean[tissue], 1.0)
    trust = torch.where(known, found.deviation[tissue].square().reciprocal() * mean.square(), 0.0)
    weight = trust @ posterior
    expected = (trust * mean) @ posterior / weight.clamp(min=1e-6)
    ratio = (x / expected.clamp(min=0.05)).clamp(0.5, 2.0).log() * weight
    sums: list[NDArray[np.float32]] = [
        ndimage.gaussian_filter(part.view(shape).numpy(), deviation, mode="constant", truncate=2.5)
        for part in (ratio, weight)
    ]
    faith = max(float(weight.max()) * 1e-2, 1e-6)
    return torch.from_numpy(np.exp(sums[0] / (sums[1] + faith))).to(torch.float32)


def _bins(x: torch.Tensor) -> torch.Tensor:
    return ((x.clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST) * (BINS - 1)).round().long()
