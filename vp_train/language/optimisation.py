"""How α's weights are changed and averaged: AdamW or Muon, and a moving average of what they were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

BETAS, DECAY = (0.9, 0.98), 0.02
"""Of AdamW; and how fast weights decay."""
MOMENTUM = 0.95
"""Of Muon."""
BEGINNING = 10
"""Steps that the moving average looks back at most at its beginning, growing with every step."""
LAYERS = "decoder.layers."
ADAMW, MUON = "adamw", "muon"


class Optimisers:
    """One or two optimisers over all weights, with one rate."""

    def __init__(self, model: nn.Module, kind: str, rate: float) -> None:
        """
        Args:
            kind: `adamw`, or `muon`: matrices of the layers change by orthogonal steps of AdamW's size, the rest by
                AdamW.

        Raises:
            ValueError: the kind is neither.
        """
        if kind not in (ADAMW, MUON):
            raise ValueError(f"There is no optimiser {kind!r}: {ADAMW} and {MUON}.")
        named = dict(model.named_parameters())
        turned = [
            weight for name, weight in named.items() if kind == MUON and name.startswith(LAYERS) and weight.ndim == 2
        ]
        chosen = {id(weight) for weight in turned}
        others = [weight for weight in named.values() if id(weight) not in chosen]
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=rate, betas=BETAS, weight_decay=DECAY),
        ]
        if turned:
            muon = torch.optim.Muon(
                turned, lr=rate, momentum=MOMENTUM, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
            )
            self._all.append(muon)

    def step(self, rate: float) -> None:
        """Changes the weights by their gradients, and forgets these."""
        for optimiser in self._all:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad()

    def state(self) -> list[dict[str, object]]:
        return [optimiser.state_dict() for optimiser in self._all]

    def take(self, states: Sequence[dict[str, object]]) -> None:
        """Goes on from what `state` gave."""
        for optimiser, state in zip(self._all, states, strict=True):
            optimiser.load_state_dict(state)


class MovingAverage:
    """The mean of a model's weights over its last steps, of which older ones count ever less."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """
        Args:
            decay: 0.999 looks back about a thousand steps.
        """
        self._decay = decay
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes the weights after a step into account."""
        self.steps += 1
        decay = min(self._decay, self.steps / (self.steps + BEGINNING))
        for name, value in model.state_dict().items():
            self.weights[name].lerp_(value, 1 - decay)

    def take(self, weights: Mapping[str, torch.Tensor], steps: int | None = None) -> None:
        """Goes on from an average that was saved.

        Args:
            steps: over which it was taken; None: so many that it looks back as far as it ever will.
        """
        self.steps = math.ceil(BEGINNING / (1 - self._decay)) if steps is None else steps
        for name, value in weights.items():
            self.weights[name].copy_(value)


def weights_of_tokens(rows: torch.Tensor, first: float) -> torch.Tensor:
    """How much each predicted token counts: 1, and `first` where a program begins.

    Args:
        rows: (n,) the row of each predicted token in its batch, ascending.
    """
    begins = torch.cat([torch.ones(1, dtype=torch.bool), rows.diff() > 0])
    return torch.where(begins, first, 1.0)
