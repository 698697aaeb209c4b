"""m as programs see it, on the volumes of one patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.imaging.landmarks import Landmarks
from vp_model.vision.conditions import settled
from vp_model.vision.finding import LesionFinder
from vp_model.vision.inference import FeatureCache, encode_volumes, recalibrated, segment_volumes
from vp_model.vision.mirrored import MirroredViews, segment_averaged
from vp_model.vision.network import VisionNetwork
from vp_model.vision.refinement import Refiner
from vp_model.volume import Volume

LANDMARK_FROM = 0.3
"""Probability from which a voxel may be one of several landmarks."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What does not depend on φ is computed once for a set of volumes, also for several prompts about them.

    Attributes:
        volumes: by the name that programs use.
        thresholds: region → probability from which a voxel belongs to it; one half where none is given.
        views: where the mirror image is looked at too.
        conditions: region → φ (d,) as m was trained with it, for checkpoints whose conditions were learned as a table.
        refiner: where borders are refined by the images' own intensities; it shares `cache` and `views`.
        lesions: finds lesions that m itself was not taught; it shares `cache`.
    """

    network: VisionNetwork
    volumes: Mapping[str, Volume]
    thresholds: Mapping[str, float]
    cache: FeatureCache
    views: MirroredViews | None = None
    refiner: Refiner | None = None
    conditions: Mapping[str, torch.Tensor] = field(default_factory=dict)
    lesions: LesionFinder | None = None

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        """See `vp_model.program.state.Vision`."""
        members = [self.volumes[volume] for volume in volumes]
        phi = settled(torch.from_numpy(modulations)[None], self.conditions)
        threshold = self.thresholds.get(name, 0.5)
        if self.lesions is not None and name in self.lesions.shows:
            probabilities = self.lesions.find(name, members, phi)
        else:
            probabilities = self._of_m(name, members, phi)
        return {
            volume: recalibrated(probability, threshold).numpy()
            for volume, probability in zip(volumes, probabilities, strict=True)
        }

    def _of_m(self, name: str, members: Sequence[Volume], phi: torch.Tensor) -> list[torch.Tensor]:
        if self.views is None:
            found = segment_volumes(self.network, members, phi, self.cache)
        else:
            found = segment_averaged(self.network, members, name, phi, self.views, self.cache)
        probabilities = [probability[0] for probability in found]
        return probabilities if self.refiner is None else self.refiner.refined(name, members, probabilities)

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `vp_model.program.state.Vision`."""
        members = [self.volumes[volume] for volume in volumes]
        encoded: NDArray[np.float32] = encode_volumes(
            self.network, members, torch.from_numpy(modulations), self.cache
        ).numpy()
        return encoded

    @torch.inference_mode()
    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        """See `vp_model.program.state.Vision`: on the grid on which m reads the volume."""
        known = [region for region in regions if region in self.conditions]
        seen = self.cache.look(self.network, [self.volumes[volume]])
        (prepared,) = seen.prepared
        image = prepared.image
        best = torch.full(image.shape, LANDMARK_FROM)
        labels = torch.zeros(image.shape, dtype=torch.uint8)
        for start in range(0, len(known), seen.turn):
            names = known[start : start + seen.turn]
            phi = torch.stack([self.conditions[name] for name in names])[:, None].to(image.features.device)
            found = torch.sigmoid(seen.look.logits(phi)[0].float()).cpu()
            for number, probability in enumerate(found, start=start + 1):
                here = probability > best
                labels[here] = number
                best[here] = probability[here]
        return Landmarks(tuple(known), labels.numpy(), image.world)
