"""Learning to find lesions in what the tissues of an image do not explain (`vp_model.vision.lesions`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from vp_model.vision.departure import PRIORS
from vp_model.vision.lesions import LesionConfig, LesionNetwork, Seen
from vp_train.language.optimisation import MovingAverage
from vp_train.synthesis.chance import Chance
from vp_train.training.convolution_muon import ConvolutionMuon
from vp_train.training.kept_departures import KeptDepartures

DECAY, WARMUP = 0.02, 60
"""How fast weights decay, and steps until the rate is whole."""
SAVED_EVERY = 250
LEAST_VOXELS = 4.0
"""A lesion of fewer in a block is not held against a Dice."""


@dataclass(frozen=True)
class FinderRecipe:
    """How lesions are learned.

    Attributes:
        images: that are drawn; `edge`: of the blocks in voxels; steps: each on one block.
        rate: highest, falling to nothing along a cosine.
        at_lesions: share of the blocks that hold a lesion, where the image has one.
        entropy: weight of the cross-entropy of what is no lesion; `inside`: that of lesions, by the mean over their
            voxels, falling with the rate: Dice takes over once a lesion is found at all.
        named: weight of the Dice of each kind beside the cross-entropy that tells kinds apart.
        blind: share of blocks in which the tissues are not shown, and of those in which the image is not, so that the
            departure is what counts.
        decay: of the moving average of the weights.
    """

    images: int = 600
    edge: int = 40
    steps: int = 9_000
    rate: float = 3e-3
    at_lesions: float = 0.65
    entropy: float = 2.0
    inside: float = 0.3
    named: float = 0.3
    blind: float = 0.15
    decay: float = 0.996
    seed: int = 23


def learn_finder(
    config: LesionConfig,
    phi: torch.Tensor,
    kept: Sequence[KeptDepartures],
    recipe: FinderRecipe,
    state: Path,
    say: Callable[[str], None] = print,
) -> LesionNetwork:
    """A network that finds lesions, in evaluation mode.

    Args:
        phi: (t, d) conditions of the targets of `kept`, in order.
        state: file that is written every `SAVED_EVERY` steps; where it is there already, the training goes on from it.
    """
    torch.manual_seed(recipe.seed)
    network = LesionNetwork(config)
    optimiser = ConvolutionMuon(network, DECAY)
    parameters = list(network.parameters())
    average = MovingAverage(network, recipe.decay)
    recent: list[float] = []
    begin = 0
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.take(saved["optimiser"])
        average.take(saved["average"], saved["step"])
        begin = saved["step"]
        say(f"on from step {begin}")
    for step in range(begin, recipe.steps):
        fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        chance = Chance.seeded(recipe.seed * 1_000_003 + step)
        image = kept[chance.integer(len(kept))]
        features, shares = draw_block(image, recipe, chance)
        features = features[None].contiguous(memory_format=torch.channels_last_3d)
        seen = network(features, config.kind_of(image.kind), phi)
        loss, dice = finder_loss(seen, shares, recipe, fall)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step(recipe.rate * fall * min(1.0, (step + 1) / WARMUP))
        average.update(network)
        if math.isfinite(dice):
            recent.append(dice)
        if step % 100 == 99:
            say(f"step {step + 1}: soft Dice {sum(recent[-100:]) / max(len(recent[-100:]), 1):.4f}")
        if step % SAVED_EVERY == SAVED_EVERY - 1:
            saved = {"network": network.state_dict(), "average": average.weights, "step": step + 1}
            unfinished = state.with_suffix(".unfinished")
            torch.save({**saved, "optimiser": optimiser.state()}, unfinished)
            unfinished.rename(state)
    network.load_state_dict(average.weights)
    return network.eval()


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


def finder_loss(seen: Seen, shares: torch.Tensor, recipe: FinderRecipe, fall: float) -> tuple[torch.Tensor, float]:
    """(loss, soft Dice of any lesion, or NaN where the block holds none) of one block.

    Any lesion is learned in all of the block; what it is, where it is.

    Args:
        seen: of one block.
        shares: (t, w, h, d).
        fall: 1 at the beginning of the training, 0 at its end.
    """
    y = shares.flatten(1)
    anything, amount = y.amax(dim=0), y.sum(dim=1)
    x, named = seen.any[0].flatten(), seen.named[0].flatten(1)
    total = anything.sum()
    outside = recipe.entropy * (functional.softplus(x) * (1 - anything)).mean()
    if float(total) <= LEAST_VOXELS:
        return outside, math.nan
    probability = torch.sigmoid(x)
    dice = soft_dice(probability, anything)
    inside = recipe.inside * fall * (functional.softplus(-x) * anything).sum() / total
    entropy = functional.binary_cross_entropy_with_logits(named, y, reduction="none")
    which = (entropy * anything).sum(dim=1).mean() / total
    present = (amount > LEAST_VOXELS).float()
    each = (1 - soft_dice(probability * torch.sigmoid(named), y)) * present
    loss = 1 - dice + outside + inside + which + recipe.named * each.sum() / present.sum().clamp(min=1.0)
    return loss, float(dice.detach())


def soft_dice(probability: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(…,) of (…, voxels)."""
    over = 2 * (probability * shares).sum(dim=-1) + 1.0
    return over / (probability.square().sum(dim=-1) + shares.square().sum(dim=-1) + 1.0)
