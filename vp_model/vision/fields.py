"""Features that are computed where they are asked for, so that no level of m need be in memory as a whole.

A field is what a layer gives on one volume's grid. Any box of it can be had: the layer asks the field before it for the
box and its neighbourhood, down to one that is stored. Values are those that the layers of `network.py` give on the
whole grid, whatever the boxes; computing neighbourhoods again is the price of the memory. `streamed.py` makes the
fields of m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vp_model.geometry import (
    Placed,
    Shape,
    World,
    field_of_view,
    pooled_grid,
    pooling_factors,
    same_geometry,
    sampling_grid,
    spacing,
    upsample_to,
)
from vp_model.interpolation import interpolated
from vp_model.vision.convolution import Convolution, each_voxel
from vp_model.vision.interaction import Interaction


class Field(Protocol):
    """Features (b, c, w, h, d) on a grid."""

    @property
    def shape(self) -> Shape: ...

    @property
    def world(self) -> World: ...

    @property
    def channels(self) -> int: ...

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        """The features from index `low` to before `high`, which lie on the grid: (b, c, …)."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Features in memory."""

    placed: Placed

    @property
    def shape(self) -> Shape:
        return self.placed.shape

    @property
    def world(self) -> World:
        return self.placed.world

    @property
    def channels(self) -> int:
        return int(self.placed.features.shape[1])

    @property
    def size(self) -> int:
        """Bytes."""
        return self.placed.features.nbytes

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        return self.placed.features[(slice(None), slice(None), *map(slice, low, high))]


@dataclass(eq=False)
class Recent:
    """A field that remembers the box last asked for: where two layers ask for the same, it is computed once."""

    source: Field
    _box: tuple[Shape, Shape] | None = None
    _features: torch.Tensor | None = None

    @property
    def shape(self) -> Shape:
        return self.source.shape

    @property
    def world(self) -> World:
        return self.source.world

    @property
    def channels(self) -> int:
        return self.source.channels

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        if self._features is None or self._box != (low, high):
            self._features = None  # the old one goes before the new one comes
            self._features = self.source.box(low, high)
            self._box = (low, high)
        return self._features


@dataclass(frozen=True, eq=False)
class _OnGridOf:
    """A field on the grid of the field that it is made from."""

    source: Field

    @property
    def shape(self) -> Shape:
        return self.source.shape

    @property
    def world(self) -> World:
        return self.source.world

    @property
    def channels(self) -> int:
        return self.source.channels


@dataclass(frozen=True, eq=False)
class Normalised(_OnGridOf):
    """Channels scaled and shifted, each (c,) or (b, c): a normalisation whose statistics are known."""

    scale: torch.Tensor
    shift: torch.Tensor

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        return torch.addcmul(each_channel(self.shift), self.source.box(low, high), each_channel(self.scale))


@dataclass(frozen=True, eq=False)
class Convolved(_OnGridOf):
    """SiLU of a convolution, or of the sum of the source's and another field's (the decoder's two inputs)."""

    layer: Convolution
    other: Field | None = None
    other_layer: Convolution | None = None

    @property
    def channels(self) -> int:
        return self.layer.out_channels

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        total = convolved(self.layer, *surrounded(self.source, low, high))
        if self.other is not None and self.other_layer is not None:
            total += convolved(self.other_layer, *surrounded(self.other, low, high))
        return functional.silu(total, inplace=True)


@dataclass(frozen=True, eq=False)
class Refined(_OnGridOf):
    """A residual convolution (`network.Refinement`): x + SiLU(convolution of the normalised x)."""

    scale: torch.Tensor
    shift: torch.Tensor
    layer: Convolution

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        x, missing = surrounded(self.source, low, high)
        normalised = torch.addcmul(each_channel(self.shift), x, each_channel(self.scale))
        update = functional.silu(convolved(self.layer, normalised, missing), inplace=True)
        inner = [slice(1 - before, 1 - before + b - a) for (before, _), a, b in zip(missing, low, high, strict=True)]
        return update.add_(x[(slice(None), slice(None), *inner)])


@dataclass(frozen=True, eq=False)
class Upsampled:
    """A pooled level on the grid that it was pooled from (`geometry.upsample_to`)."""

    source: Field
    shape: Shape
    world: World

    @property
    def channels(self) -> int:
        return self.source.channels

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        factors = np.rint(spacing(self.source.world) / spacing(self.world)).astype(int)
        first, last, inner = [], [], []
        for factor, a, b, size in zip(factors, low, high, self.source.shape, strict=True):
            lowest, highest = (a, b) if factor == 1 else (max((a - 1) // 2, 0), min(b // 2 + 1, size))
            first.append(lowest)
            last.append(highest)
            inner.append(slice(a - int(factor) * lowest, b - int(factor) * lowest))
        block = self.source.box(_triple(first), _triple(last))
        doubled = [int(factor) * size for factor, size in zip(factors, block.shape[-3:], strict=True)]
        # One voxel too many is not made: cutting it off along an inner axis would copy all others.
        whole = _triple([size - (size - part.stop == 1) for size, part in zip(doubled, inner, strict=True)])
        up = upsample_to(Placed(block, self.source.world), whole, self.world)
        return up[(slice(None), slice(None), *inner)]


@dataclass(frozen=True, eq=False)
class Projected(_OnGridOf):
    """A convolution of kernel 1, and what another field adds to it."""

    layer: nn.Conv3d
    other: Field | None = None

    @property
    def channels(self) -> int:
        return self.layer.out_channels

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        total = each_voxel(self.layer, self.source.box(low, high).movedim(1, -1)).movedim(-1, 1)
        return total if self.other is None else total.add_(self.other.box(low, high))


@dataclass(frozen=True, eq=False)
class Pooled(_OnGridOf):
    """Maxima of blocks (`geometry.pool`)."""

    @property
    def factors(self) -> Shape:
        return pooling_factors(self.source.world, self.source.shape)

    @property
    def shape(self) -> Shape:
        return pooled_grid(self.source.shape, self.source.world)[0]

    @property
    def world(self) -> World:
        return pooled_grid(self.source.shape, self.source.world)[1]

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        first = _triple([a * factor for a, factor in zip(low, self.factors, strict=True)])
        last = _triple([min(b * f, n) for b, f, n in zip(high, self.factors, self.source.shape, strict=True)])
        return pooled_by(self.source.box(first, last), self.factors)


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What n volumes learn from each other (`Interaction.exchanged`), on the grid where they meet: n × s channels."""

    sources: tuple[Field, ...]
    layer: Interaction
    phi: torch.Tensor | None
    shape: Shape
    world: World

    @property
    def width(self) -> int:
        """Channels s of one volume."""
        return self.layer.exchanged_size

    @property
    def channels(self) -> int:
        return self.width * len(self.sources)

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        met = [resampled(_Mixed(source, self.layer), self.shape, self.world, low, high) for source in self.sources]
        grids = [(source.shape, source.world) for source in self.sources]
        seen = None
        if not same_geometry(grids):
            size = _triple([b - a for a, b in zip(low, high, strict=True)])
            inside = [field_of_view(*grid, size, self.world, low, met[0].device) for grid in grids]
            seen = torch.stack(inside, dim=-1)
        return torch.cat(self.layer.exchanged(met, seen, self.phi), dim=1)


@dataclass(frozen=True, eq=False)
class _Mixed(_OnGridOf):
    layer: Interaction

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        return self.layer.mixed(self.source.box(low, high))


@dataclass(frozen=True, eq=False)
class Told(_OnGridOf):
    """What volume `index` tells the others at its own voxels (`Interaction.told`)."""

    layer: Interaction
    phi: torch.Tensor | None
    index: int

    @property
    def channels(self) -> int:
        return self.layer.exchanged_size

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        return self.layer.told(self.source.box(low, high), self.phi, self.index)


@dataclass(frozen=True, eq=False)
class Heard:
    """What volume `index` learns at its own voxels (`Interaction.heard`) from what n volumes tell."""

    told: tuple[Field, ...]
    layer: Interaction
    index: int

    @property
    def shape(self) -> Shape:
        return self.told[self.index].shape

    @property
    def world(self) -> World:
        return self.told[self.index].world

    @property
    def channels(self) -> int:
        return self.layer.exchanged_size

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        met = [resampled(other, self.shape, self.world, low, high) for other in self.told]
        size = _triple([b - a for a, b in zip(low, high, strict=True)])
        device = met[0].device
        inside = [field_of_view(other.shape, other.world, size, self.world, low, device) for other in self.told]
        return self.layer.heard(met, torch.stack(inside, dim=-1), self.index)


@dataclass(frozen=True, eq=False)
class Interacted(_OnGridOf):
    """A volume's features after the interaction; `exchanged` holds what volumes learnt, this one's part at `index`."""

    exchanged: Field
    layer: Interaction
    index: int

    def box(self, low: Shape, high: Shape) -> torch.Tensor:
        width = self.layer.exchanged_size
        part = slice(self.index * width, (self.index + 1) * width)
        back = resampled(self.exchanged, self.shape, self.world, low, high, part)
        return self.source.box(low, high) + self.layer.returned(back)


def each_channel(values: torch.Tensor) -> torch.Tensor:
    """(c,) or (b, c) → (1 or b, c, 1, 1, 1)."""
    return values.view(-1, values.shape[-1], 1, 1, 1)


Missing = list[tuple[int, int]]
"""For each axis, neighbours before and after a box that lie outside the grid."""


def surrounded(field: Field, low: Shape, high: Shape) -> tuple[torch.Tensor, Missing]:
    """A box with its neighbours on every side, and how many of these the grid does not have."""
    first = _triple([max(a - 1, 0) for a in low])
    last = _triple([min(b + 1, size) for b, size in zip(high, field.shape, strict=True)])
    missing = [(1 - (a - f), 1 - (e - b)) for a, f, b, e in zip(low, first, high, last, strict=True)]
    return field.box(first, last), missing


def convolved(layer: Convolution, x: torch.Tensor, missing: Missing) -> torch.Tensor:
    """The convolution of a surrounded box: zeros stand for neighbours that the grid does not have."""
    # Where neighbours are missing on one side alone, zeros on both give a row too many: cheaper than a padded copy.
    found = layer.padded(x, [max(pad) for pad in missing])
    inner = [slice(int(after > before), -1 if before > after else None) for before, after in missing]
    return found[(slice(None), slice(None), *inner)]


def pooled_by(x: torch.Tensor, factors: Shape) -> torch.Tensor:
    return functional.max_pool3d(x, factors, stride=factors, ceil_mode=True)


def resampled(
    field: Field, shape: Shape, world: World, low: Shape, high: Shape, part: slice = slice(None)
) -> torch.Tensor:
    """A box of a field resampled to another grid as `geometry.resample` does it, border voxels repeated.

    Args:
        part: the channels to resample.
    """
    if same_geometry([(field.shape, field.world), (shape, world)]):
        return field.box(low, high)[:, part]
    size = _triple([b - a for a, b in zip(low, high, strict=True)])
    grid = sampling_grid(field.shape, field.world, size, world, start=low)
    first, last, columns = [], [], []
    for axis, extent in enumerate(field.shape):
        index = ((grid[..., 2 - axis] + 1) * extent - 1) / 2
        index = index.clamp_(0, extent - 1)
        lowest = int(index.min())
        highest = min(int(index.max()) + 2, extent)
        first.append(lowest)
        last.append(highest)
        columns.append((index - lowest + 0.5) * (2 / (highest - lowest)) - 1)
    block = field.box(_triple(first), _triple(last))[:, part]
    return interpolated(block, torch.stack(columns[::-1], dim=-1).to(block.device))


def _triple(values: Sequence[int]) -> Shape:
    first, second, third = (int(value) for value in values)
    return first, second, third
