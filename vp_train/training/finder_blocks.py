"""Blocks of kept departures that the network which finds lesions learns from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch.nn import functional

from vp_model.vision.departure import PRIORS
from vp_model.vision.lesions import LesionConfig
from vp_train.synthesis.chance import Chance
from vp_train.training.examples import SEED_STRIDE
from vp_train.training.finder_recipe import FinderRecipe
from vp_train.training.kept_departures import KeptDepartures

READERS, AHEAD = 6, 12
"""Threads that read for a GPU, and steps that are read before they are needed."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """What one step learns from.

    Attributes:
        features: (b, CHANNELS, w, h, d).
        kinds: (b, kinds), `LesionConfig.kind_of`.
        shares: (b, t, w, h, d) in [0, 1].
    """

    features: torch.Tensor
    kinds: torch.Tensor
    shares: torch.Tensor

    def to(self, device: torch.device) -> Blocks:
        features = self.features.to(device, memory_format=torch.channels_last_3d)
        return Blocks(features, self.kinds.to(device), self.shares.to(device))


def blocks_from(
    kept: Sequence[KeptDepartures], config: LesionConfig, recipe: FinderRecipe, begin: int, device: torch.device
) -> Iterator[Blocks]:
    """The blocks of each step from `begin` on, on a device; for a GPU they are read beside the training."""
    if device.type == "cpu":
        for step in range(begin, recipe.steps):
            yield draw_blocks(kept, config, recipe, step).to(device)
        return
    with ThreadPoolExecutor(READERS) as pool:
        upcoming: deque[Future[Blocks]] = deque()
        try:
            for step in range(begin, recipe.steps):
                upcoming.append(pool.submit(draw_blocks, kept, config, recipe, step))
                if len(upcoming) > AHEAD:
                    yield upcoming.popleft().result().to(device)
            while upcoming:
                yield upcoming.popleft().result().to(device)
        finally:
            pool.shutdown(cancel_futures=True)


def draw_blocks(kept: Sequence[KeptDepartures], config: LesionConfig, recipe: FinderRecipe, step: int) -> Blocks:
    """The blocks of a step, each of an image drawn anew; smaller ones get zeros behind them."""
    drawn, kinds = [], []
    for number in range(step * recipe.batch, (step + 1) * recipe.batch):
        chance = Chance.seeded(recipe.seed * SEED_STRIDE + number)
        image = kept[chance.integer(len(kept))]
        drawn.append(draw_block(image, recipe, chance))
        kinds.append(config.kind_of(image.kind))
    sizes = torch.tensor([features.shape[1:] for features, _ in drawn]).amax(dim=0).tolist()

    def whole(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([functional.pad(part, _behind(part, sizes)) for part in parts])

    features, shares = whole([features for features, _ in drawn]), whole([shares for _, shares in drawn])
    return Blocks(features, torch.cat(kinds), shares)


def _behind(part: torch.Tensor, sizes: Sequence[int]) -> list[int]:
    """Padding of (c, w, h, d) to sizes (w, h, d), as torch wants it: last axis first."""
    return [side for axis in (2, 1, 0) for side in (0, sizes[axis] - part.shape[axis + 1])]


def draw_block(image: KeptDepartures, recipe: FinderRecipe, chance: Chance) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (CHANNELS, …) and shares (t, …) in [0, 1] of a block, mirrored in half of the cases."""
    centre = [chance.integer(size) for size in image.shape]
    if image.present and chance.happens(recipe.at_lesions):
        lesion = image.voxels_of(chance.integer(len(image.present)))
        at = lesion[chance.integer(len(lesion))]
        centre = [int(place) + chance.integer(recipe.edge // 2) - recipe.edge // 4 for place in at]
    starts = [
        min(max(place - recipe.edge // 2, 0), max(size - recipe.edge, 0))
        for place, size in zip(centre, image.shape, strict=True)
    ]
    box = tuple(slice(start, start + recipe.edge) for start in starts)
    features, shares = image.features(box), image.shares(box)
    for axis, often in ((1, 0.5), (2, 0.2)):
        if chance.happens(often):
            features, shares = features.flip(axis), shares.flip(axis)
    features[1:3] *= chance.uniform(0.85, 1.2, 1)  # how far a lesion departs depends on the image's noise
    if chance.happens(recipe.blind):
        features[PRIORS:] = 0.0
    if chance.happens(recipe.blind):
        features[0] = 0.0
    return features, shares
