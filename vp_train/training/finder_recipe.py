"""How the network that finds lesions learns, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FinderRecipe:
    """How lesions are learned.

    Attributes:
        images: that are drawn; `studies`: of several images; `edge`: of the blocks in voxels; steps: each on `batch`
            blocks.
        rate: highest, falling to nothing along a cosine.
        minutes: where given, the rate falls with them and training ends with them, for a machine whose speed is not
            known; stopped and resumed, such a run is another one.
        at_lesions: share of the blocks that hold a lesion, where the image has one.
        entropy: weight of the cross-entropy of what is no lesion; `inside`: that of lesions, by the mean over their
            voxels, falling with the rate: Dice takes over once a lesion is found at all.
        named: weight of the Dice of each kind beside the cross-entropy that tells kinds apart.
        single: share of the blocks that are of single images, where there are studies.
        beside: share of the other images of a study that are looked at with one of them.
        blind: share of blocks in which the tissues are not shown, and of those in which the image is not, so that the
            departure is what counts.
        decay: of the moving average of the weights.
    """

    images: int = 600
    studies: int = 0
    edge: int = 40
    batch: int = 1
    steps: int = 9_000
    rate: float = 3e-3
    minutes: float | None = None
    at_lesions: float = 0.65
    entropy: float = 2.0
    inside: float = 0.3
    named: float = 0.3
    single: float = 0.25
    beside: float = 0.85
    blind: float = 0.15
    decay: float = 0.996
    seed: int = 23

    def spent(self, step: int, seconds: float) -> float:
        """Share of the training that is over."""
        return step / self.steps if self.minutes is None else min(1.0, seconds / (60 * self.minutes))

    @staticmethod
    def fall(spent: float) -> float:
        """1 at the beginning of the training, 0 at its end."""
        return 0.5 * (1 + math.cos(math.pi * spent))
