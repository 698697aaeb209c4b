"""What goes wrong in k-space: spikes, ghosts of motion, zippers, undersampling (paper B.2).

Every corruption is a value with parameters of its own, drawn from `Chance`; none leaves the image as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vp_train.synthesis.chance import Chance


@dataclass(frozen=True)
class Spike:
    """One point of k-space that is too bright: stripes over the whole image.

    Attributes:
        position: (3,) share of the bandwidth along each axis, -0.5 … 0.5, 0 being the middle.
        amplitude: in units of the largest value of k-space.
    """

    position: tuple[float, float, float]
    amplitude: float

    def applied(self, space: torch.Tensor) -> torch.Tensor:
        index = [
            min(max(round((0.5 + part) * size), 0), size - 1)
            for part, size in zip(self.position, space.shape, strict=True)
        ]
        result = space.clone()
        result[index[0], index[1], index[2]] += self.amplitude * space.abs().max()
        return result


@dataclass(frozen=True)
class Ghosting:
    """Each `every`-th line along `axis` is weaker (breathing, pulsation): copies of the head, shifted."""

    axis: int
    every: int
    strength: float

    def applied(self, space: torch.Tensor) -> torch.Tensor:
        lines = _lines(space, self.axis)
        weight = torch.ones(len(lines), device=space.device)
        weight[:: self.every] = 1 - self.strength
        weight[lines.abs() <= max(1, len(lines) // 50)] = 1.0  # the middle carries the image's brightness
        return space * _along(weight, self.axis)


@dataclass(frozen=True)
class Motion:
    """The head moves while lines along `axis` are read: each part of k-space is of a head shifted by voxels.

    Attributes:
        moments: after which share of the lines each move happens, ascending.
        shifts: (3,) voxels of each position, along each axis.
    """

    axis: int
    moments: tuple[float, ...]
    shifts: tuple[tuple[float, float, float], ...]

    def applied(self, space: torch.Tensor) -> torch.Tensor:
        count = space.shape[self.axis]
        progress = torch.arange(count, device=space.device) / count
        result = space
        for moment, shift in zip(self.moments, self.shifts, strict=True):
            later = _along(progress >= moment, self.axis)
            phase = torch.zeros((), device=space.device)
            for axis, voxels in enumerate(shift):
                phase = phase + _along(_lines(space, axis) * (voxels / space.shape[axis]), axis)
            result = torch.where(later, space * torch.exp(-2j * torch.pi * phase), result)
        return result


@dataclass(frozen=True, eq=False)
class Zipper:
    """A radio signal of one frequency leaks in: a noisy line across the image.

    Attributes:
        axis: frequency axis; `place`: where the line lies along it (0 … 1); `along`: the axis that it runs along.
        noise: (2, lines) unit normal values, as many as wanted; repeated where more are needed.
        strength: of the image's largest value.
    """

    axis: int
    along: int
    place: float
    noise: torch.Tensor
    strength: float

    def applied(self, space: torch.Tensor) -> torch.Tensor:
        count = space.shape[self.along]
        repeated = self.noise.repeat(1, count // self.noise.shape[1] + 1)[:, :count].to(space.device)
        phases = torch.exp(-2j * torch.pi * _lines(space, self.axis) * self.place)
        image_scale = space.abs().max() / space.numel() ** 0.5
        line = torch.complex(repeated[0], repeated[1]) * self.strength * image_scale
        plane = _along(line, self.along) * _along(phases, self.axis)
        return space + plane * _along(_middle(space, 3 - self.axis - self.along), 3 - self.axis - self.along)


@dataclass(frozen=True)
class Undersampling:
    """Lines along `axis` that are not read: all but the middle `centre` share and each `every`-th; or, beyond `partial`
    of the lines, none (partial Fourier)."""

    axis: int
    every: int
    centre: float
    partial: float = 1.0

    def applied(self, space: torch.Tensor) -> torch.Tensor:
        lines = _lines(space, self.axis)
        count = len(lines)
        kept = (lines.abs() <= self.centre * count / 2) | (torch.arange(count, device=space.device) % self.every == 0)
        kept &= torch.arange(count, device=space.device) < max(self.partial * count, count / 2 + 1)
        return space * _along(kept.float(), self.axis)


Corruption = Spike | Ghosting | Motion | Zipper | Undersampling


def corrupt_kspace(image: torch.Tensor, corruptions: Sequence[Corruption]) -> torch.Tensor:
    """(w, h, d) → magnitude of the image after its k-space was corrupted; the same where there is nothing to do."""
    if not corruptions:
        return image
    space = torch.fft.fftshift(torch.fft.fftn(image))
    for corruption in corruptions:
        space = corruption.applied(space)
    result: torch.Tensor = torch.fft.ifftn(torch.fft.ifftshift(space)).abs().to(image.dtype)
    return result


def draw_corruptions(chance: Chance, probability: float = 0.25) -> tuple[Corruption, ...]:
    """None, mostly; else one or two of the five."""
    if not chance.happens(probability):
        return ()
    return tuple(_draw(chance) for _ in range(1 + chance.happens(0.25)))


def _draw(chance: Chance) -> Corruption:
    which = chance.integer(5)
    axis = chance.integer(3)
    if which == 0:
        x, y, z = (chance.uniform(0.03, 0.3, 3) * torch.sign(chance.normal(3))).tolist()
        return Spike((x, y, z), chance.number(0.03, 0.2))
    if which == 1:
        return Ghosting(axis, 2 + chance.integer(4), chance.number(0.15, 0.6))
    if which == 2:
        moves = 1 + chance.integer(4)
        moments = tuple(sorted(chance.uniform(0.0, 1.0, moves).tolist()))
        shifts = [tuple((chance.normal(3) * 1.2).tolist()) for _ in range(moves)]
        return Motion(axis, moments, tuple((a, b, c) for a, b, c in shifts))
    if which == 3:
        along = (axis + 1 + chance.integer(2)) % 3
        return Zipper(axis, along, chance.number(0.1, 0.9), chance.normal(2, 512), chance.number(0.5, 3.0))
    partial = chance.number(0.6, 0.9) if chance.happens(0.4) else 1.0
    return Undersampling(axis, 2 + chance.integer(2), chance.number(0.15, 0.45), partial)


def _lines(space: torch.Tensor, axis: int) -> torch.Tensor:
    """Frequencies along an axis of a shifted k-space, in cycles over the field of view, 0 in the middle."""
    size = space.shape[axis]
    return torch.arange(size, device=space.device) - size // 2


def _along(values: torch.Tensor, axis: int) -> torch.Tensor:
    view = [1, 1, 1]
    view[axis] = -1
    return values.view(view)


def _middle(space: torch.Tensor, axis: int) -> torch.Tensor:
    """Ones on the middle line: the leak does not change along the remaining axis."""
    return (_lines(space, axis) == 0).float()
