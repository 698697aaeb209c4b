"""Learning to find lesions in what the tissues of an image do not explain (`vp_model.vision.lesions`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from vp_model.vision.lesions import LesionConfig, LesionNetwork, Seen
from vp_train.language.optimisation import MovingAverage
from vp_train.training.convolution_muon import ConvolutionMuon
from vp_train.training.finder_blocks import blocks_from
from vp_train.training.finder_recipe import FinderRecipe
from vp_train.training.kept_departures import Study

DECAY, WARMUP = 0.02, 60
"""How fast weights decay, and steps until the rate is whole."""
SAID_EVERY, SAVED_EVERY = 100, 250
LEAST_VOXELS = 4.0
"""A lesion of fewer in a block is not held against a Dice."""


def learn_finder(
    config: LesionConfig,
    phi: torch.Tensor,
    kept: Sequence[Study],
    recipe: FinderRecipe,
    state: Path,
    say: Callable[[str], None] = print,
    device: torch.device | str = "cpu",
    begin: LesionNetwork | None = None,
) -> LesionNetwork:
    """A network that finds lesions, on the CPU in evaluation mode.

    Args:
        phi: (t, d) conditions of the targets of `kept`, in order.
        state: file that is written every `SAVED_EVERY` steps; where it is there already, the training goes on from it.
        device: that learns, a GPU in bfloat16.
        begin: network whose weights a new training begins with.
    """
    torch.manual_seed(recipe.seed)
    at = torch.device(device)
    network = LesionNetwork(config)
    if begin is not None:
        network.load_state_dict(begin.state_dict())
    network, phi = network.to(at), phi.to(at)
    optimiser = ConvolutionMuon(network, DECAY)
    parameters = list(network.parameters())
    average = MovingAverage(network, recipe.decay)
    recent: list[torch.Tensor] = []
    first = 0
    if state.is_file():
        saved = torch.load(state, weights_only=True, map_location=at)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        average.take(saved["average"], saved["step"])
        first = saved["step"]
        say(f"on from step {first}")
    started = time.monotonic()
    for step, blocks in enumerate(blocks_from(kept, config, recipe, first, at), start=first):
        spent = recipe.spent(step, time.monotonic() - started)
        if recipe.minutes is not None and spent >= 1:
            break
        fall = recipe.fall(spent)
        with torch.autocast(at.type, torch.bfloat16, enabled=at.type == "cuda"):
            seen = network(blocks.features, blocks.kinds, phi, blocks.inside, blocks.images)
        loss, dice = finder_loss(Seen(seen.any.float(), seen.named.float()), blocks.shares, recipe, fall)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step(recipe.rate * fall * min(1.0, (step + 1) / WARMUP))
        average.update(network)
        recent.append(dice)
        if step % SAID_EVERY == SAID_EVERY - 1:
            say(f"step {step + 1}: soft Dice {float(torch.cat(recent).nanmean()):.4f}")
            recent.clear()
        if step % SAVED_EVERY == SAVED_EVERY - 1:
            saved = {"network": network.state_dict(), "average": average.weights, "step": step + 1}
            unfinished = state.with_suffix(".unfinished")
            torch.save({**saved, "optimiser": optimiser.state_dict()}, unfinished)
            unfinished.rename(state)
    network.load_state_dict(average.weights)
    return network.cpu().eval()


def finder_loss(
    seen: Seen, shares: torch.Tensor, recipe: FinderRecipe, fall: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, soft Dice (b,) of any lesion, NaN in blocks that hold none), the mean of several blocks.

    Any lesion is learned in all of a block; what it is, where it is.

    Args:
        seen: of the blocks.
        shares: (b, t, w, h, d).
        fall: 1 at the beginning of the training, 0 at its end.
    """
    y = shares.flatten(2)
    anything, amount = y.amax(dim=1), y.sum(dim=2)
    x, named = seen.any[:, 0].flatten(1), seen.named.flatten(2)
    total = anything.sum(dim=1)
    shown = total > LEAST_VOXELS
    outside = recipe.entropy * (functional.softplus(x) * (1 - anything)).mean(dim=1)
    probability = torch.sigmoid(x)
    dice = soft_dice(probability, anything)
    inside = recipe.inside * fall * (functional.softplus(-x) * anything).sum(dim=1)
    entropy = functional.binary_cross_entropy_with_logits(named, y, reduction="none")
    which = (entropy * anything[:, None]).sum(dim=2).mean(dim=1)
    present = (amount > LEAST_VOXELS).float()
    each = (1 - soft_dice(probability[:, None] * torch.sigmoid(named), y)) * present
    found = 1 - dice + (inside + which) / total.clamp(min=1.0)
    found = found + recipe.named * each.sum(dim=1) / present.sum(dim=1).clamp(min=1.0)
    loss = (outside + found * shown).mean()
    return loss, torch.where(shown, dice.detach(), torch.nan)


def soft_dice(probability: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(…,) of (…, voxels)."""
    over = 2 * (probability * shares).sum(dim=-1) + 1.0
    return over / (probability.square().sum(dim=-1) + shares.square().sum(dim=-1) + 1.0)
