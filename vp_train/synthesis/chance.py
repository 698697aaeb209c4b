"""Random numbers from one generator, so that a step of training can be repeated exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Chance:
    generator: torch.Generator

    @staticmethod
    def seeded(seed: int) -> Chance:
        return Chance(torch.Generator().manual_seed(seed))

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
