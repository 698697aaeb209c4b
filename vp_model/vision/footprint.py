"""How much memory a pass of m takes with all levels in memory, from the grids alone.

Follows `network.py` through its levels: at each, what is held for later (skip connections, all levels where they serve
further conditions), what goes from one list of volumes to the next, and what the layers make on their way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from vp_model.geometry import Placed, Shape, World, pooled_grid, reference_grid, same_geometry
from vp_model.vision.config import VisionConfig
from vp_model.vision.interaction import voxels_at_once
from vp_model.vision.readout import read_at_once
from vp_model.vision.slabs import FLOAT_BYTES, LEAST_ROWS_READ, rows_upsampled

Grid = tuple[Shape, World]


def dense_bytes(config: VisionConfig, volumes: Sequence[Placed]) -> int:
    """Peak of the features of m for one condition, in bytes, in single precision and without a gradient; the images
    themselves and what libraries take for themselves inside a layer come on top.
    """
    levels = [[(placed.shape, placed.world) for placed in volumes]]
    for _ in range(config.levels - 1):
        levels.append([pooled_grid(*grid) for grid in levels[-1]])
    course = _Course(config, levels, volumes[0].features.device)
    return int(FLOAT_BYTES * max(course.peaks()))


@dataclass(frozen=True, eq=False)
class _Course:
    """A pass over volumes whose grids at each level are known. All sizes are in numbers, not bytes."""

    config: VisionConfig
    levels: list[list[Grid]]
    device: torch.device

    def peaks(self) -> Iterator[float]:
        """What is in memory at the fullest moment of each step."""
        for level in range(self.config.levels):
            held = sum(sum(self.features(above)) for above in range(level))
            yield held + self.encoding(level)
        for level in range(self.config.levels - 2, 0, -1):
            yield self.held(level) + self.decoding(level)
        yield self.held(0) + self.finest()

    def features(self, level: int) -> list[float]:
        """Of each volume's output at a level."""
        return [float(self.config.channels[level] * math.prod(shape)) for shape, _ in self.levels[level]]

    def held(self, level: int) -> float:
        """The encoder's outputs while the decoder is at a level: those that it has not used, and those that serve
        further conditions.
        """
        kept = 1 if self.config.conditioning == "all" else self.config.levels
        return sum(sum(self.features(other)) for other in range(self.config.levels) if other < max(level + 1, kept))

    def encoding(self, level: int) -> float:
        features = self.features(level)
        below = [0.0] * len(features)
        if level:
            inputs = self.config.channels[level - 1]
            below = [float(inputs * math.prod(shape)) for shape, _ in self.levels[level]]
        return max(_passing(below, features), self.within(level))

    def decoding(self, level: int) -> float:
        below = self.features(level + 1)
        if level + 1 < self.config.readout_levels:  # stays for the read-out
            below = [0.0] * len(below)
        joining = _passing(below, self.features(level), self.joined(level))
        return sum(self.kept_for_reading(level + 1)) + max(joining, self.within(level))

    def kept_for_reading(self, first: int) -> list[float]:
        """Of each volume, the decoder's levels from `first` on that the read-out sees."""
        levels = [self.features(level) for level in range(first, self.config.readout_levels)]
        return [sum(volume) for volume in zip(*levels, strict=True)] or [0.0] * len(self.levels[0])

    def joined(self, level: int) -> list[float]:
        """Of each volume, what upsampling and joining make beside their result."""
        below, width = self.config.channels[level + 1], self.config.channels[level]
        made = []
        for shape, _ in self.levels[level]:
            rows = rows_upsampled(shape, below, self.device)
            # A slab's neighbours belong to it, and what is upsampled begins and ends with whole rows of below.
            upsampled = min(rows + 5, shape[0])
            made.append(float((upsampled * below + rows * width) * shape[1] * shape[2]))
        return made

    def within(self, level: int) -> float:
        """Refinement, interaction and normalisation of a level, with its features."""
        features = self.features(level)
        largest = [_passing(features, features)]
        if level and self.config.depth > 1:
            largest.append(_passing(features, features, features))
        if level >= self.config.interaction_from and self.config.interaction != "none":
            largest.append(sum(features) + self.interaction(level))
        return max(largest)

    def interaction(self, level: int) -> float:
        """What the volumes tell each other; nothing of that size where they have one grid."""
        grids, width = self.levels[level], self.config.channels[level]
        attentive = self.config.interaction == "attention"
        size = self.config.interaction_size if attentive else width
        few = voxels_at_once(self.device) * (3 * width + (8 if attentive else 5) * size * len(grids))
        features = self.features(level)
        if same_geometry(grids):
            return float(min(few, 3 * sum(features)))
        if self.config.reference == "own":
            return float(few + sum(size * math.prod(shape) for shape, _ in grids))
        met = len(grids) * math.prod(reference_grid(grids, self.config.reference == "isotropic")[0])
        learning = met * (width + size) + few
        returning = met * size + sum(features) + 2 * max(features)
        return float(max(learning, returning))

    def finest(self) -> float:
        """The decoder's last level and the read-out; without a φ before it, all volumes together."""
        features, below = self.features(0), self.features(1)
        voxels = [float(math.prod(shape)) for shape, _ in self.levels[0]]
        size = self.config.readout_size or self.config.channels[0]
        hidden = float(read_at_once(self.device) * (2 * self.config.readout_hidden + size))
        perceived = [size * count if self.config.readout_hidden else 0.0 for count in voxels]
        joining = self.joined(0)
        if self.config.conditioning == "readout":
            kept = self.kept_for_reading(1)
            seen = [own + more for own, more in zip(features, kept, strict=True)]
            if self.config.readout_levels > 1:
                below = [0.0] * len(below)
            decoded = sum(kept) + max(_passing(below, features, joining), _passing(features, features))
            perceiving = _passing(seen, perceived, self.beneath()) + hidden
            return max(decoded, perceiving, sum(perceived or features) + sum(voxels))
        moments = []
        for index, own in enumerate(features):
            later = sum(below[index + 1 :]) + sum(voxels[: index + 1])
            reading = own + perceived[index] + hidden
            moments.append(later + max(own + below[index] + joining[index], 2 * own, reading))
        return max(moments)

    def beneath(self) -> list[float]:
        """Of each volume, what the read-out makes of the rows it reads at once where it sees levels below the finest:
        their part of its first layer, on each level's grid.
        """
        if self.config.readout_levels == 1:
            return [0.0] * len(self.levels[0])
        width, made = self.config.readout_hidden, []
        for volume, (shape, _) in enumerate(self.levels[0]):
            rows = rows_upsampled(shape, width, self.device, LEAST_ROWS_READ)
            total = min(rows + 3, shape[0]) * width * shape[1] * shape[2]
            for level in range(1, self.config.readout_levels):
                below = self.levels[level][volume][0]
                several = 1 if level + 1 == self.config.readout_levels else 2  # projected, and upsampled to here
                total += several * width * min(rows // 2**level + 3, below[0]) * below[1] * below[2]
            made.append(float(total))
        return made


def _passing(before: Sequence[float], after: Sequence[float], extra: Sequence[float] | None = None) -> float:
    """The fullest moment while volumes go through a layer one by one, each giving way to its result."""
    more = extra or [0.0] * len(after)
    return max(sum(before[index:]) + sum(after[: index + 1]) + more[index] for index in range(len(after)))
