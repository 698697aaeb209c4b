"""A made-up head for tests: no public data needed."""

from __future__ import annotations

import numpy as np
import torch

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject


def head(size: int = 60) -> Subject:
    """A head of boxes, 1 mm: brain halves, a hippocampus on each side, a ventricle, skin; the left side is larger."""
    labels = load_labels()
    voxels = np.zeros((size, size, size), dtype=np.uint8)
    middle = size // 2
    voxels[6:-6, 6:-6, 6:-6] = labels.index("skin")
    voxels[10:middle, 10:-10, 10:-10] = labels.index("left cerebral white matter")  # RAS: left is at low x
    voxels[middle:-10, 10:-10, 10:-10] = labels.index("right cerebral white matter")
    voxels[12:24, 14:34, 14:30] = labels.index("left hippocampus")
    voxels[-18:-12, 14:24, 14:24] = labels.index("right hippocampus")
    voxels[middle - 3 : middle + 3, 20:40, 25:35] = labels.index("third ventricle")
    return Subject("made_up", torch.from_numpy(voxels), (10, 10, 10), (size - 10, size - 10, size - 10))
