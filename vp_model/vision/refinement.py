"""Borders from the image: m's probabilities at native spacing, weighed by what the intensities say (`tissues.py`).

For every image of a set, m is asked once for all structures that share a head's voxels; the mixture is learned on a
sample, and the sum of all structures' evidence is kept at native spacing. After that a structure costs no more than its
own probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import spacing
from vp_model.vision.config import Refining
from vp_model.vision.inference import FeatureCache, Seen
from vp_model.vision.mirrored import MirroredViews, other_side
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import linear_weights, reach, restore
from vp_model.vision.tissues import LEAST_BACKGROUND, Tissues, learn_tissues
from vp_model.volume import Volume

SAMPLED_MM = 3.0
"""Lattice on which the mixture is learned; 2 mm give the same Dice on real T1 to .001."""
BLOCK_VOXELS = 4_000_000
"""Native voxels that are worked on at once."""

Rows = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
"""Index along each axis of a volume's own grid."""


@dataclass(frozen=True, eq=False)
class _Learned:
    """Of one image: its mixture, the lattice it was learned on, and the evidence of all structures (w, h, d)."""

    tissues: Tissues
    strides: tuple[int, int, int]
    evidence: torch.Tensor


@dataclass(eq=False)
class Refiner:
    """Refines the probabilities of one network for the volumes of one patient.

    Attributes:
        tissues: region → tissue, of the regions that share the voxels of a head; others are left as they are, but
        within: region → tissue, of regions that lie within these: they are refined, and evidence for nothing.
        conditions: region → φ (d,) as m was trained with it.
        views: where the mirror image is looked at too.
    """

    network: VisionNetwork
    tissues: Mapping[str, str]
    conditions: Mapping[str, torch.Tensor]
    refining: Refining
    cache: FeatureCache
    views: MirroredViews | None = None
    within: Mapping[str, str] = field(default_factory=dict)
    _learned: dict[tuple[int, ...], tuple[tuple[Volume, ...], list[_Learned | None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tissues = {region: name for region, name in self.tissues.items() if region in self.conditions}
        names = sorted(set(self.tissues.values()))
        self._regions = list(self.tissues)
        self._tissue = torch.tensor([names.index(self.tissues[region]) for region in self._regions], dtype=torch.long)
        shown = {**self.within, **self.tissues}
        self._shown = {region: names.index(tissue) for region, tissue in shown.items() if tissue in names}

    def refined(self, region: str, volumes: Sequence[Volume], found: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Probabilities (w, h, d) of a region in each volume, refined.

        Args:
            found: m's own, on the volumes' grids.
        """
        if region not in self._shown:
            return list(found)
        learned = self._look(volumes)
        tissue = self._shown[region]
        share = self.refining.share
        results = []
        for volume, probability, known in zip(volumes, found, learned, strict=True):
            if known is None:
                results.append(probability)
                continue
            result = torch.empty_like(probability)
            values = volume.features[0]
            for block in _blocks(volume):
                here = slice(int(block[0][0]), int(block[0][-1]) + 1)
                density = known.tissues.density(tissue, _scaled(known, values[here], block))
                refined = (probability[here] * density / known.evidence[here]).clamp_(max=1.0)
                result[here] = refined.mul_(share).add_(probability[here], alpha=1 - share)
            results.append(result)
        return results

    def _look(self, volumes: Sequence[Volume]) -> list[_Learned | None]:
        key = tuple(id(volume) for volume in volumes)  # entries hold their volumes, so an id cannot be used again
        if key not in self._learned:
            self._learned[key] = (tuple(volumes), self._learn(volumes))
        return self._learned[key][1]

    @torch.inference_mode()
    def _learn(self, volumes: Sequence[Volume]) -> list[_Learned | None]:
        looks = [self._all(volumes, mirrored=False)]
        if self.views is not None:
            looks.append(self._all([self.views.of(volume) for volume in volumes], mirrored=True))
        return [
            self._learn_one(volume, [(seen, values[index], index) for seen, values in looks])
            for index, volume in enumerate(volumes)
        ]

    def _all(self, volumes: Sequence[Volume], mirrored: bool) -> tuple[Seen, list[torch.Tensor]]:
        """What m knows of a set, and for each volume the probabilities (k, w, h, d) of all regions on its own grid."""
        seen = self.cache.look(self.network, volumes)
        regions = [other_side(region) if mirrored else region for region in self._regions]
        device = seen.prepared[0].image.features.device
        phi = torch.stack([self.conditions[region] for region in regions])[:, None].expand(-1, len(volumes), -1)
        parts: list[list[torch.Tensor]] = [[] for _ in volumes]
        for start in range(0, len(phi), seen.turn):
            for part, logits in zip(parts, seen.look.logits(phi[start : start + seen.turn].to(device)), strict=True):
                part.append(torch.sigmoid(logits.float()).cpu())
        return seen, [torch.cat(part) for part in parts]

    def _learn_one(self, volume: Volume, looks: Sequence[tuple[Seen, torch.Tensor, int]]) -> _Learned | None:
        lengths = spacing(volume.world)
        first, second, third = (max(1, round(SAMPLED_MM / float(length))) for length in lengths)
        strides = (first, second, third)
        sample = _triple([np.arange(0, size, step) for size, step in zip(volume.shape, strides, strict=True)])
        values = volume.features[0]
        tissues = learn_tissues(
            _restored(looks, sample),
            self._tissue,
            values[::first, ::second, ::third].float(),
            [float(length) * step for length, step in zip(lengths, strides, strict=True)],
            self.refining,
            biased=volume.kind.upper() not in ("CT", "ADC"),
        )
        if tissues is None:
            return None
        learned = _Learned(tissues, strides, torch.empty(volume.shape))
        for block in _blocks(volume):
            here = slice(int(block[0][0]), int(block[0][-1]) + 1)
            scaled = _scaled(learned, values[here], block)
            total = torch.zeros(scaled.shape)
            evidence = torch.zeros(scaled.shape)
            densities: dict[int, torch.Tensor] = {}
            for number, tissue in enumerate(self._tissue.tolist()):
                own = [(seen, found[number : number + 1], index) for seen, found, index in looks]
                place = _reached(own, block)
                if any(part.start >= part.stop for part in place):
                    continue
                prior = _restored(own, _triple([rows[part] for rows, part in zip(block, place, strict=True)]))[0]
                if tissue not in densities:
                    densities[tissue] = tissues.density(tissue, scaled)
                evidence[place].addcmul_(prior, densities[tissue][place])
                total[place] += prior
            background = (1 - total).clamp_(min=LEAST_BACKGROUND)
            learned.evidence[here] = evidence.addcmul_(background, tissues.background_density(scaled))
        return learned


def _restored(looks: Sequence[tuple[Seen, torch.Tensor, int]], rows: Rows) -> torch.Tensor:
    """(k, …) mean over the looks, at voxels of the volume's own grid."""
    parts = [restore(seen.prepared[index], values, rows) for seen, values, index in looks]
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]).div_(2)


def _reached(looks: Sequence[tuple[Seen, torch.Tensor, int]], rows: Rows) -> tuple[slice, slice, slice]:
    """Where along each axis of `rows` any of the looks finds more than nothing: most structures are small."""
    found = [reach(seen.prepared[index], values, rows, LEAST_BACKGROUND) for seen, values, index in looks]
    first, second, third = (_union([parts[axis] for parts in found]) for axis in range(3))
    return first, second, third


def _union(parts: Sequence[slice]) -> slice:
    """From the first start to the last stop of those that hold anything."""
    held = [part for part in parts if part.stop > part.start] or [slice(0, 0)]
    return slice(min(part.start for part in held), max(part.stop for part in held))


def _scaled(learned: _Learned, values: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Stored values of a block as the mixture sees them, without their bias field."""
    values = values.float()
    gain = learned.tissues.gain
    if gain is not None:
        for axis, (index, step) in enumerate(zip(rows, learned.strides, strict=True)):
            weights = linear_weights(np.minimum(index / step, gain.shape[axis] - 1), gain.shape[axis])
            gain = torch.movedim(torch.movedim(gain, axis, -1) @ weights.T, -1, axis)
        values = values / gain
    return learned.tissues.scaled(values)


def _blocks(volume: Volume) -> Iterator[Rows]:
    """The volume's grid in slabs along its first axis."""
    w, h, d = volume.shape
    thick = max(1, BLOCK_VOXELS // (h * d))
    for start in range(0, w, thick):
        yield np.arange(start, min(start + thick, w)), np.arange(h), np.arange(d)


def _triple(rows: Sequence[NDArray[np.intp]]) -> Rows:
    first, second, third = rows
    return first, second, third
