"""The condition table that a vision network was trained with, by the regions' names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open


def read_conditions(path: Path) -> dict[str, NDArray[np.float32]]:
    """φ (d,) after SiLU of each region (`left hippocampus`, `brainstem`…)."""
    with safe_open(path, framework="numpy") as file:
        names = file.metadata()["regions"].split("\n")
        phi = file.get_tensor("phi")
    return {name: vector.astype(np.float32) for name, vector in zip(names, phi, strict=True)}
