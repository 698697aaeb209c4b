"""Configuration of the language model α and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class LanguageConfig:
    """How α is built (paper, A.1)."""

    layers: int
    hidden_size: int
    """b: size of a token's embedding."""
    linear_size: int
    """Width of the feed-forward layers."""
    heads: int
    positions: int = 2048
    """Longest sequence of prompt, program and feedback, in tokens."""
    condition_size: int = 32
    """Length d of φ."""
    encoding_size: int = 512
    """Length of an encoding ε of the vision network."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


PRESETS: Mapping[str, LanguageConfig] = MappingProxyType(
    {
        "paper": LanguageConfig(layers=16, hidden_size=512, linear_size=1024, heads=32, positions=4096),
        "compact": LanguageConfig(layers=4, hidden_size=128, linear_size=384, heads=4, encoding_size=128),
        "deep": LanguageConfig(layers=6, hidden_size=128, linear_size=384, heads=4, encoding_size=128),
    }
)
"""`paper`: 16 layers, 512 hidden, 1024 linear, 32 heads (A.1). `compact`, `deep`: for CPUs."""
