"""What the rest of the system asks of m: probabilities and encodings of volumes, with φ-independent work done once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from vp_model.vision.network import Shared, VisionNetwork
from vp_model.vision.prepare import Prepared, prepare, restore
from vp_model.volume import Volume

MAXIMUM_LOGITS = 64_000_000
"""Logits computed at once (256 MB); more conditions go through in turns."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A set of volumes that m has looked at: the volumes, as prepared, and what it knows of them before φ."""

    volumes: tuple[Volume, ...]
    prepared: tuple[Prepared, ...]
    shared: Shared


@dataclass(eq=False)
class FeatureCache:
    """The sets of volumes last seen, at most `capacity`; one cache belongs to one network and one run."""

    capacity: int = 4
    _entries: OrderedDict[tuple[int, ...], Seen] = field(default_factory=OrderedDict)

    def look(self, network: VisionNetwork, volumes: Sequence[Volume]) -> Seen:
        """What m knows of the set, from the cache or computed now."""
        key = tuple(id(volume) for volume in volumes)  # entries hold their volumes, so an id cannot be used again
        if key not in self._entries:
            self._entries[key] = look(network, volumes)
        self._entries.move_to_end(key)
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)
        return self._entries[key]


@torch.inference_mode()
def look(network: VisionNetwork, volumes: Sequence[Volume]) -> Seen:
    """Prepare the volumes and compute all that does not depend on φ."""
    prepared = tuple(prepare(volume, network.config.working_spacing_mm) for volume in volumes)
    shared = network.shared([item.image for item in prepared])
    return Seen(tuple(volumes), prepared, shared)


@torch.inference_mode()
def segment_volumes(
    network: VisionNetwork, volumes: Sequence[Volume], phi: torch.Tensor, cache: FeatureCache | None = None
) -> list[torch.Tensor]:
    """Probabilities of k conditions in n volumes.

    Args:
        network: m, in evaluation mode.
        volumes: n volumes of one patient, in one frame of reference, any geometry.
        phi: (k, n, d), after SiLU.
        cache: where φ-independent features of the same set are kept between calls.

    Returns:
        For each volume float32 (k, w, h, d) in [0, 1] on its own grid.
    """
    seen = (cache or FeatureCache()).look(network, volumes)
    finest = max(placed.features[0, 0].numel() for placed in seen.shared.levels[0])
    turn = max(1, MAXIMUM_LOGITS // finest)
    parts: list[list[torch.Tensor]] = [[] for _ in volumes]
    for start in range(0, phi.shape[0], turn):
        for index, logits in enumerate(network.finish(seen.shared, phi[start : start + turn])):
            parts[index].append(restore(seen.prepared[index], torch.sigmoid(logits)).clamp_(0.0, 1.0))
    return [torch.cat(part) for part in parts]


def recalibrated(probability: torch.Tensor, threshold: float) -> torch.Tensor:
    """Probabilities whose odds are scaled so that `threshold` becomes one half."""
    if threshold == 0.5:
        return probability
    inside, outside = probability * (1 - threshold), (1 - probability) * threshold
    return inside / (inside + outside)


@torch.inference_mode()
def encode_volumes(
    network: VisionNetwork, volumes: Sequence[Volume], phi: torch.Tensor, cache: FeatureCache | None = None
) -> torch.Tensor:
    """Encodings ε (n, b) of n volumes for φ (n, d) (paper A.3)."""
    seen = (cache or FeatureCache()).look(network, volumes)
    return network.encodings(seen.shared, phi[None])[0]
