"""The condition table that a vision network was trained with, by the regions' names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from vp_train.datasets.labels import load_labels


def read_conditions(path: Path) -> dict[str, NDArray[np.float32]]:
    """φ (d,) after SiLU of each region (`left hippocampus`, `brainstem`…).

    Raises:
        ValueError: the table was made for other targets.
    """
    phi = load_file(path)["phi"]
    names = load_labels().targets
    if len(names) != len(phi):
        raise ValueError(f"{path.name} holds {len(phi)} conditions, but there are {len(names)} targets.")
    return {name: vector.astype(np.float32) for name, vector in zip(names, phi, strict=True)}
