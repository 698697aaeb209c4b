"""Blocks of kept departures that the network which finds lesions learns from: of an image, and of those beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from vp_model.geometry import Placed, moved_world
from vp_model.vision.departure import PRIORS
from vp_model.vision.finding import together
from vp_model.vision.lesions import LesionConfig
from vp_train.synthesis.chance import Chance
from vp_train.training.examples import SEED_STRIDE
from vp_train.training.finder_recipe import FinderRecipe
from vp_train.training.kept_departures import Study

READERS, AHEAD = 6, 12
"""Threads that read for a GPU, and steps that are read before they are needed."""


@dataclass(frozen=True, eq=False)
class Block:
    """A part of an image, on whose grid the other images of its study lie.

    Attributes:
        features: (n, CHANNELS, w, h, d), the image itself first.
        inside: (n, w, h, d) bool, where each image reaches.
        kinds: sequence types of the images.
        shares: (t, w, h, d) in [0, 1].
    """

    features: torch.Tensor
    inside: torch.Tensor
    kinds: tuple[str, ...]
    shares: torch.Tensor


@dataclass(frozen=True, eq=False)
class Blocks:
    """What one step learns from.

    Attributes:
        features: (n, CHANNELS, w, h, d), the images of a block beside each other.
        inside: (n, 1, w, h, d) bool.
        kinds: (n, kinds), `LesionConfig.kind_of`.
        images: how many each block has.
        shares: (b, t, w, h, d) in [0, 1].
    """

    features: torch.Tensor
    inside: torch.Tensor
    kinds: torch.Tensor
    images: tuple[int, ...]
    shares: torch.Tensor

    def to(self, device: torch.device) -> Blocks:
        features = self.features.to(device, memory_format=torch.channels_last_3d)
        inside, kinds, shares = (part.to(device) for part in (self.inside, self.kinds, self.shares))
        return Blocks(features, inside, kinds, self.images, shares)


def blocks_from(
    kept: Sequence[Study], config: LesionConfig, recipe: FinderRecipe, begin: int, device: torch.device
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


def draw_blocks(kept: Sequence[Study], config: LesionConfig, recipe: FinderRecipe, step: int) -> Blocks:
    """The blocks of a step, each of an image drawn anew; smaller ones get zeros behind them."""
    single, several = [study for study in kept if len(study) == 1], [study for study in kept if len(study) > 1]
    drawn = []
    for number in range(step * recipe.batch, (step + 1) * recipe.batch):
        chance = Chance.seeded(recipe.seed * SEED_STRIDE + number)
        among = single if not several or (single and chance.happens(recipe.single)) else several
        drawn.append(draw_block(among[chance.integer(len(among))], recipe, chance))
    sizes = torch.tensor([block.shares.shape[1:] for block in drawn]).amax(dim=0).tolist()

    def whole(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [functional.pad(part, _behind(part, sizes)) for part in parts]

    return Blocks(
        torch.cat(whole([block.features for block in drawn])),
        torch.cat(whole([block.inside for block in drawn]))[:, None],
        torch.cat([config.kind_of(kind) for block in drawn for kind in block.kinds]),
        tuple(len(block.kinds) for block in drawn),
        torch.stack(whole([block.shares for block in drawn])),
    )


def _behind(part: torch.Tensor, sizes: Sequence[int]) -> list[int]:
    """Padding of (…, w, h, d) to sizes (w, h, d), as torch wants it: last axis first."""
    return [side for axis in (2, 1, 0) for side in (0, sizes[axis] - part.shape[axis - 3])]


def draw_block(study: Study, recipe: FinderRecipe, chance: Chance) -> Block:
    """A block of one image of a study, with what others show there, mirrored in half of the cases."""
    number = chance.integer(len(study))
    image = study[number]
    others = [other for index, other in enumerate(study) if index != number and chance.happens(recipe.beside)]
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
    own = Placed(image.features(box)[None], moved_world(np.array(image.world), box))
    beside = [Placed(other.features()[None], np.array(other.world)) for other in others]
    features, inside = together(own, [own, *beside])
    shares = image.shares(box)
    for axis, often in ((1, 0.5), (2, 0.2)):
        if chance.happens(often):
            features, inside, shares = features.flip(axis + 1), inside.flip(axis), shares.flip(axis)
    for seen in features:
        seen[1:3] *= chance.uniform(0.85, 1.2, 1)  # how far a lesion departs depends on the image's noise
        if chance.happens(recipe.blind):
            seen[PRIORS:] = 0.0
        if chance.happens(recipe.blind):
            seen[0] = 0.0
    return Block(features, inside, tuple(one.kind for one in (image, *others)), shares)
