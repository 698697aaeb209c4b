"""m in bounded memory: the same network, computed slab by slab (`fields.py`) where a level is too large to be kept.

Notable:
- a normalisation needs statistics of its whole level: a first sweep gathers them exactly (means and squared deviations
  of the slabs, merged in double precision), and makes the pooled input of the next level on its way;
- what fits into the memory is kept, the rest is computed again when the decoder asks for it: the encoder's finest
  levels cost 2% of a pass, so that they are the first to be left out;
- the paper's read-out is linear, so that one number for each group of the last normalisation is kept of a voxel in
  place of all its features, and the finest level is computed once although its statistics come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakSet

import torch
from torch import nn

from vp_model.geometry import Placed, Shape
from vp_model.vision.convolution import Convolution
from vp_model.vision.fields import (
    Convolved,
    Exchanged,
    Field,
    Heard,
    Interacted,
    Normalised,
    Pooled,
    Recent,
    Refined,
    Stored,
    Told,
    Upsampled,
    pooled_by,
)
from vp_model.vision.interaction import Interaction
from vp_model.vision.network import Refinement, Up, VisionNetwork
from vp_model.vision.slabs import FLOAT_BYTES, blocks, slabs

ENCODER_SHARE = 1 / 8
"""Of the free memory, that an output of the encoder may take."""
DECODER_SHARE = 0.95
SLAB_SHARE = 1 / 16
"""Of the memory, that the tensors around one slab may take."""
SAMPLE_EDGE = 8
"""Voxels along the edge of the blocks from which statistics are estimated."""
SLAB_WIDTH = 6
"""A slab's tensors (inputs with their neighbours, outputs, what the layers make in between) are about so many times the
features that come out."""


@dataclass(eq=False)
class Memory:
    """Bytes for features; what was given away is counted for as long as somebody holds it."""

    limit: int
    _kept: WeakSet[Stored] = field(default_factory=WeakSet)

    @property
    def free(self) -> int:
        return self.limit - int(self.limit * SLAB_SHARE) - sum(stored.size for stored in self._kept)

    def fits(self, shape: Shape, channels: int, batch: int, share: float) -> bool:
        return FLOAT_BYTES * batch * channels * _voxels(shape) <= share * self.free

    def rows(self, shape: Shape, channels: int, batch: int = 1) -> int:
        """Rows of a slab of features."""
        plane = FLOAT_BYTES * batch * channels * SLAB_WIDTH * shape[1] * shape[2]
        return max(int(self.limit * SLAB_SHARE / plane), 2) // 2 * 2

    def allot(self, source: Field, batch: int, device: torch.device, share: float) -> Stored | None:
        """Room for all of a field, channels last; None where it does not fit."""
        if not self.fits(source.shape, source.channels, batch, share):
            return None
        room = torch.empty((batch, *source.shape, source.channels), device=device).movedim(-1, 1)
        stored = Stored(Placed(room, source.world))
        self._kept.add(stored)
        return stored


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and mean squared deviation (b, g) of the groups of a normalisation, in double precision."""

    mean: torch.Tensor
    variance: torch.Tensor

    def affine(self, norm: nn.GroupNorm) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift (b, c) that the normalisation is, given these statistics."""
        each = norm.num_channels // norm.num_groups
        deviation = (self.variance + norm.eps).rsqrt().repeat_interleave(each, dim=1)
        scale = norm.weight.double() * deviation
        shift = norm.bias.double() - self.mean.repeat_interleave(each, dim=1) * scale
        return scale.float(), shift.float()


@dataclass(eq=False)
class Gathering:
    """Statistics of channels, gathered slab by slab."""

    count: int = 0
    mean: torch.Tensor | None = None
    squares: torch.Tensor | None = None

    def add(self, x: torch.Tensor) -> None:
        """(b, c, …) of one slab."""
        count = x[0, 0].numel()
        variance, mean = torch.var_mean(x.float(), dim=(2, 3, 4), correction=0)
        mean, squares = mean.double(), variance.double() * count
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def of_groups(self, groups: int) -> Statistics:
        if self.mean is None or self.squares is None:
            raise ValueError("Nothing was gathered.")
        means = self.mean.unflatten(1, (groups, -1))
        mean = means.mean(dim=2)
        between = ((means - mean[..., None]) ** 2).mean(dim=2)
        within = self.squares.unflatten(1, (groups, -1)).mean(dim=2) / self.count
        return Statistics(mean, within + between)


@dataclass(frozen=True, eq=False)
class StreamedLook:
    """What m knows of a set of volumes before φ, in bounded memory.

    Attributes:
        levels: outputs of the encoder's levels so far, finest first; each of n volumes.
        pooled: input of the first level that is missing.
        decoded: of each volume, what the read-out sees, finest level first, where φ enters there only.
        memory: bounds what is kept while m goes on.
    """

    network: VisionNetwork
    levels: tuple[list[Field], ...]
    pooled: list[Field]
    decoded: list[list[Field]] | None
    memory: Memory

    def logits(self, phi: torch.Tensor) -> list[torch.Tensor]:
        """Logits (k, w, h, d) of each volume for φ (k, n, d)."""
        walk = Walk(self.network, self.memory)
        read_out = self.network.read_out
        if self.decoded is not None:
            return [walk.read(source, phi[:, index]) for index, source in enumerate(self.decoded)]
        levels = walk.encode(list(self.levels), self.pooled, phi)[0]
        (fields,) = walk.decode(levels, phi, last=1)
        finest = [walk.upward(below, skip, 0) for below, skip in zip(fields, levels[0], strict=True)]
        norm = _a(nn.GroupNorm, self.network.up_norm[0])
        if read_out.hidden is None and isinstance(read_out.plain, nn.Conv3d):
            return [walk.read_linearly(source, norm, read_out.plain, len(phi)) for source in finest]
        return [
            walk.read([walk.finish(source, norm, False, DECODER_SHARE)[0]], phi[:, index])
            for index, source in enumerate(finest)
        ]

    def encodings(self, phi: torch.Tensor) -> torch.Tensor:
        """ε (k, n, b)."""
        walk = Walk(self.network, self.memory)
        levels = list(self.levels)
        if len(levels) < self.network.config.levels:
            levels = walk.encode(levels, self.pooled, phi)[0]
        pooled = torch.stack([walk.maxima(source) for source in levels[-1]], dim=1)
        encoded: torch.Tensor = self.network.encoding(pooled)
        return encoded.expand(phi.shape[0], -1, -1)


def look_streamed(network: VisionNetwork, volumes: Sequence[Placed], memory: Memory) -> StreamedLook:
    """Everything that does not depend on φ (`VisionNetwork.shared`), in bounded memory."""
    walk = Walk(network, memory)
    conditioning = network.config.conditioning
    levels, pooled = walk.encode([], walk.stored(volumes), None, 1 if conditioning == "all" else network.config.levels)
    decoded = None
    if conditioning == "readout":
        seen = walk.decode(levels, None)
        decoded = [list(volume) for volume in zip(*seen[::-1], strict=True)]
    return StreamedLook(network, tuple(levels), pooled, decoded, memory)


@dataclass(frozen=True, eq=False)
class Walk:
    """The layers of m over fields.

    Attributes:
        every: 1, or, to estimate the statistics of normalisations, from each so-manieth of small blocks along each axis
            (`focused.py`); nothing is kept then.
    """

    network: VisionNetwork
    memory: Memory
    every: int = 1

    def stored(self, images: Sequence[Placed]) -> list[Field]:
        """The fields that m begins with."""
        return [Stored(image) for image in images]

    def encode(
        self, done: list[list[Field]], inputs: list[Field], phi: torch.Tensor | None, stop: int | None = None
    ) -> tuple[list[list[Field]], list[Field]]:
        """Levels after those done: convolution, interaction, normalisation. And the input of the level after."""
        network = self.network
        stop = network.config.levels if stop is None else stop
        for level in range(len(done), stop):
            fields: list[Field] = [Convolved(source, _a(Convolution, network.down[level])) for source in inputs]
            if level > 0:
                fields = self.refined(fields, network.down_refinement[level - 1])
            if str(level) in network.down_interaction:
                fields = self.interacted(fields, _a(Interaction, network.down_interaction[str(level)]), phi)
            norm, pools = _a(nn.GroupNorm, network.down_norm[level]), level + 1 < network.config.levels
            finished = [self.finish(source, norm, pools, ENCODER_SHARE) for source in fields]
            done = [*done, [output for output, _ in finished]]
            inputs = [pooled for _, pooled in finished if pooled is not None]
        return done, inputs

    def decode(self, levels: Sequence[list[Field]], phi: torch.Tensor | None, last: int = 0) -> list[list[Field]]:
        """The decoder from the deepest level to level `last`: of its last levels those that the read-out may see,
        coarsest first.
        """
        return self.go_on([levels[-1]], levels, phi, self.network.config.levels - 2, last)

    def go_on(
        self,
        done: list[list[Field]],
        levels: Sequence[list[Field]],
        phi: torch.Tensor | None,
        first: int,
        last: int = 0,
    ) -> list[list[Field]]:
        """The decoder from level `first` to level `last`, from the fields of the levels below."""
        network = self.network
        fields = done[-1]
        for level in range(first, last - 1, -1):
            fields = [self.upward(below, skip, level) for below, skip in zip(fields, levels[level], strict=True)]
            if level > 0:
                fields = self.refined(fields, network.up_refinement[level - 1])
            if str(level) in network.up_interaction:
                fields = self.interacted(fields, _a(Interaction, network.up_interaction[str(level)]), phi)
            norm = _a(nn.GroupNorm, network.up_norm[level])
            fields = [self.finish(source, norm, False, DECODER_SHARE)[0] for source in fields]
            done = [*done, fields][-network.config.readout_levels :]
        return done

    def upward(self, below: Field, skip: Field, level: int) -> Field:
        up = _a(Up, self.network.up[level])
        return Convolved(Upsampled(below, skip.shape, skip.world), up.from_below, skip, up.from_skip)

    def refined(self, fields: list[Field], refinement: nn.Module) -> list[Field]:
        layers = _a(Refinement, refinement)
        for norm, layer in zip(layers.norms, layers.convolutions, strict=True):
            fields = [self._refined(source, _a(nn.GroupNorm, norm), _a(Convolution, layer)) for source in fields]
        return fields

    def _refined(self, source: Field, norm: nn.GroupNorm, layer: Convolution) -> Field:
        kept, statistics, _ = self.swept(source, norm.num_groups, False, ENCODER_SHARE)
        return Refined(kept, *statistics.affine(norm), layer)

    def interacted(self, fields: list[Field], layer: Interaction, phi: torch.Tensor | None) -> list[Field]:
        sources: list[Field] = [Recent(source) for source in fields]
        if len(fields) > 1:
            sources = [self.kept(source, ENCODER_SHARE) for source in fields]
        meeting = layer.grid([(source.shape, source.world) for source in fields])
        if meeting is None:
            told = tuple(
                self.kept(Told(source, layer, phi, index), ENCODER_SHARE) for index, source in enumerate(sources)
            )
            return [Interacted(source, Heard(told, layer, n), layer, 0) for n, source in enumerate(sources)]
        exchanged: Field = Exchanged(tuple(sources), layer, phi, *meeting)
        if len(fields) > 1:
            exchanged = self.kept(exchanged, ENCODER_SHARE)
        return [Interacted(source, exchanged, layer, index) for index, source in enumerate(sources)]

    def finish(self, source: Field, norm: nn.GroupNorm, pools: bool, share: float) -> tuple[Field, Field | None]:
        """A level's output after its normalisation, and its pooled form."""
        kept, statistics, extremes = self.swept(source, norm.num_groups, pools, share, torch.sign(norm.weight))
        scale, shift = statistics.affine(norm)
        output = Normalised(kept, scale, shift)
        if extremes is not None:  # the largest of scaled values is the scaled largest, or smallest where scale < 0
            extremes.placed.features.mul_(scale.abs()[..., None, None, None]).add_(shift[..., None, None, None])
        return output, extremes or (Pooled(output) if pools else None)

    def swept(
        self, source: Field, groups: int, pools: bool, share: float, sign: torch.Tensor | None = None
    ) -> tuple[Field, Statistics, Stored | None]:
        """One pass over a field: the field, stored if that fits; its statistics; and maxima of blocks, each channel
        taken `sign` times, if they are wanted and fit.
        """
        gathering = Gathering()
        if self.every > 1:
            for low, high in blocks(source.shape, SAMPLE_EDGE, self.every):
                gathering.add(source.box(low, high))
            return source, gathering.of_groups(groups), None
        stored: Stored | None = None
        extremes: Stored | None = None
        pooled = Pooled(source)
        for low, high in slabs(source.shape, self.memory.rows(source.shape, source.channels)):
            x = source.box(low, high)
            if low == (0, 0, 0):
                stored = self.memory.allot(source, x.shape[0], x.device, share)
                extremes = self.memory.allot(pooled, x.shape[0], x.device, ENCODER_SHARE) if pools else None
            gathering.add(x)
            if stored is not None:
                stored.placed.features[:, :, low[0] : high[0]] = x
            if extremes is not None:
                signed = x if sign is None else x * sign.view(-1, 1, 1, 1)
                block = pooled_by(signed, pooled.factors)
                first = low[0] // pooled.factors[0]
                extremes.placed.features[:, :, first : first + block.shape[2]] = block
        return stored or source, gathering.of_groups(groups), extremes

    def kept(self, source: Field, share: float) -> Field:
        """The field stored, if that fits; else one that remembers its last box."""
        stored: Stored | None = None
        for low, high in slabs(source.shape, self.memory.rows(source.shape, source.channels)):
            x = source.box(low, high)
            stored = stored or self.memory.allot(source, x.shape[0], x.device, share)
            if stored is None:
                return Recent(source)
            stored.placed.features[:, :, low[0] : high[0]] = x
        return stored or source

    def maxima(self, source: Field) -> torch.Tensor:
        """(b, c): maximum over space."""
        parts = [
            source.box(low, high).amax(dim=(2, 3, 4))
            for low, high in slabs(source.shape, self.memory.rows(source.shape, source.channels))
        ]
        return torch.stack(parts).amax(dim=0)

    def read(self, decoded: Sequence[Field], phi: torch.Tensor) -> torch.Tensor:
        """The read-out of one volume's levels, finest first, for its φ (k, d)."""
        read_out, finest = self.network.read_out, decoded[0]
        below = read_out.beneath(decoded)
        width = finest.channels + read_out.width + (below.channels if below is not None else 0)
        logits = torch.empty((len(phi), *finest.shape), device=phi.device)
        for low, high in slabs(finest.shape, self.memory.rows(finest.shape, width)):
            under = None if below is None else below.box(low, high)
            logits[:, low[0] : high[0]] = read_out.read(finest.box(low, high), under, phi)
        return logits

    def read_linearly(self, source: Field, norm: nn.GroupNorm, plain: nn.Conv3d, count: int) -> torch.Tensor:
        """Normalisation and a read-out that is linear, in one pass over the finest level where the memory allows it."""
        groups = norm.num_groups
        if not self.memory.fits(source.shape, groups, count, DECODER_SHARE):
            output = self.finish(source, norm, False, DECODER_SHARE)[0]
            return torch.cat(
                [
                    plain(output.box(low, high))[:, 0]
                    for low, high in slabs(source.shape, self.memory.rows(source.shape, source.channels))
                ],
                dim=1,
            )
        weight = (plain.weight.flatten() * norm.weight).unflatten(0, (groups, -1))  # (g, c / g)
        gathering, parts = Gathering(), []
        for low, high in slabs(source.shape, self.memory.rows(source.shape, source.channels)):
            x = source.box(low, high)
            gathering.add(x)
            tokens = x.movedim(1, -1) @ torch.block_diag(*weight).T  # (b, …, g)
            parts.append(tokens)
        statistics = gathering.of_groups(groups)
        deviation = (statistics.variance + norm.eps).rsqrt()  # (b, g)
        constant = (plain.weight.flatten().double() * norm.bias.double()).sum()
        constant = constant - (deviation * statistics.mean * weight.double().sum(dim=1)).sum(dim=1)
        if plain.bias is not None:
            constant = constant + plain.bias.double()
        logits = [torch.einsum("bwhdg,bg->bwhd", part, deviation.float()) for part in parts]
        return torch.cat(logits, dim=1) + constant.float()[:, None, None, None]


Kind = TypeVar("Kind")


def _a(kind: type[Kind], module: object) -> Kind:
    """A member of a module list as what it is."""
    if not isinstance(module, kind):
        raise TypeError(f"Expected {kind.__name__}, found {type(module).__name__}.")
    return module


def _voxels(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]
