"""Random numbers from one generator, so that a step of training can be repeated exactly.

What is small (parameters, control points of fields) is always drawn on the CPU: anatomy and choices are the same
on every device. Voxel-wise noise (`noise`) is drawn where the image lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Chance:
    generator: torch.Generator
    large: torch.Generator | None = None
    """Draws voxel-wise noise on another device; None where the CPU's generator does."""

    @staticmethod
    def seeded(seed: int, device: torch.device | str = "cpu") -> Chance:
        device = torch.device(device)
        large = None if device.type == "cpu" else torch.Generator(device).manual_seed(seed)
        return Chance(torch.Generator().manual_seed(seed), large)

    @property
    def device(self) -> torch.device:
        return self.generator.device if self.large is None else self.large.device

    def noise(self, *size: int) -> torch.Tensor:
        """Unit normal values on `device`."""
        generator = self.generator if self.large is None else self.large
        return torch.randn(*size, generator=generator, device=generator.device)

    def seed(self) -> int:
        """A seed for a part that is drawn later, whatever is drawn in between."""
        return int(torch.randint(2**62, (1,), generator=self.generator))

    def choice(self, weights: Sequence[float]) -> int:
        """An index, as often as its weight says."""
        return int(torch.multinomial(torch.tensor(weights, dtype=torch.float32), 1, generator=self.generator))

    def uniform(self, low: float, high: float, *size: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*size, generator=self.generator)

    def normal(self, *size: int) -> torch.Tensor:
        return torch.randn(*size, generator=self.generator)

    def number(self, low: float, high: float) -> float:
        return float(self.uniform(low, high, 1))

    def happens(self, probability: float) -> bool:
        return float(torch.rand(1, generator=self.generator)) < probability

    def integer(self, count: int) -> int:
        """0 … count-1."""
        return int(torch.randint(count, (1,), generator=self.generator))
