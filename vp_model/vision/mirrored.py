"""Averaging over a set of volumes and its mirror image: what m finds on the left of one is on the right of the other.

Heads are symmetric but for details, and so is what m was trained on (flips with the labels' sides swapped): the mean of
both views makes fewer mistakes than either, for twice the time. Only world matrices are mirrored, in one plane for the
whole set, so that its volumes stay aligned and no voxel is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from vp_model.vision.inference import FeatureCache, segment_volumes
from vp_model.vision.network import VisionNetwork
from vp_model.volume import Volume

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
"""RAS mm: left becomes right."""
SIDES = {"left ": "right ", "right ": "left "}


def mirrored(volume: Volume) -> Volume:
    """The volume in a world whose left is right."""
    return replace(volume, world=MIRROR @ volume.world)


def other_side(region: str) -> str:
    """`left thalamus` → `right thalamus`; what has no side is its own mirror image."""
    for side, other in SIDES.items():
        if region.startswith(side):
            return other + region.removeprefix(side)
    return region


@dataclass(eq=False)
class MirroredViews:
    """φ of the regions as they were trained, and the mirror images of one run's volumes."""

    conditions: Mapping[str, torch.Tensor]
    """Region → (d,), after SiLU."""
    _images: dict[int, tuple[Volume, Volume]] = field(default_factory=dict)

    def of(self, volume: Volume) -> Volume:
        """The mirror image, the same object each time: features of it are kept by identity."""
        if id(volume) not in self._images:
            self._images[id(volume)] = (volume, mirrored(volume))
        return self._images[id(volume)][1]


def segment_averaged(
    network: VisionNetwork,
    volumes: Sequence[Volume],
    region: str,
    phi: torch.Tensor,
    views: MirroredViews,
    cache: FeatureCache,
) -> list[torch.Tensor]:
    """As `segment_volumes` for one condition (1, n, d), averaged with the mirrored set.

    The mirrored set is asked for the region of the other side, with the condition that it was trained with: α gave φ
    for this side alone. A region without a trained condition is not averaged.
    """
    found = segment_volumes(network, volumes, phi, cache)
    condition = views.conditions.get(other_side(region))
    if condition is None:
        return found
    seen = segment_volumes(
        network, [views.of(volume) for volume in volumes], condition.expand(1, len(volumes), -1), cache
    )
    return [(one + other) / 2 for one, other in zip(found, seen, strict=True)]


def load_conditions(path: Path) -> dict[str, torch.Tensor]:
    """Region → φ (d,), from a condition table that names its regions.

    Raises:
        ValueError: the file does not name them.
    """
    with safe_open(path, framework="pt") as file:
        names = (file.metadata() or {}).get("regions", "")
        phi = file.get_tensor("phi")
    regions = names.split("\n")
    if len(regions) != len(phi):
        raise ValueError(f"{path.name} holds {len(phi)} conditions and names {len(regions) if names else 0} regions.")
    return dict(zip(regions, phi, strict=True))
