"""Muon for convolutions: the weights of each output channel are a row of a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from vp_model.vision.convolution import Convolution

MOMENTUM, BETAS = 0.95, (0.9, 0.98)
"""Of Muon, and of AdamW."""
CHANNELS_LAST = (0, 2, 3, 4, 1)


class ConvolutionMuon:
    """Convolutions of 3³ voxels between several channels change by orthogonal steps of AdamW's size, the rest by AdamW.

    A convolution that reads the image itself is left to AdamW: what it reads are not features of one scale.
    """

    def __init__(
        self,
        network: nn.Module,
        decay: float,
        first: str = "enter",
        others: Iterable[nn.Parameter] = (),
        betas: tuple[float, float] = BETAS,
    ) -> None:
        """
        Args:
            network: its weights must stay where they are in memory.
            decay: of the weights.
            first: name of the convolution that reads the image, where that has several channels.
            others: what AdamW changes beside the network.
            betas: of AdamW.
        """
        self._turned = [
            layer.weight
            for name, layer in network.named_modules()
            if isinstance(layer, Convolution) and name != first and layer.in_channels > 1
        ]
        # torch's Muon takes matrices alone: these share the memory of the convolutions' weights.
        self._matrices = [nn.Parameter(_rows(weight.detach(), weight).view(len(weight), -1)) for weight in self._turned]
        turned = {id(weight) for weight in self._turned}
        rest = [weight for weight in [*network.parameters(), *others] if id(weight) not in turned]
        self._all: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                self._matrices, lr=0.0, momentum=MOMENTUM, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr=0.0, betas=betas, weight_decay=decay),
        )

    def step(self, rate: float) -> None:
        """Changes the weights by their gradients, and forgets these."""
        for matrix, weight in zip(self._matrices, self._turned, strict=True):
            matrix.grad = None if weight.grad is None else _rows(weight.grad, weight).reshape(matrix.shape)
        for optimiser in self._all:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.forget()

    def forget(self) -> None:
        """No gradient is left."""
        for optimiser in self._all:
            optimiser.zero_grad()
        for weight in self._turned:
            weight.grad = None

    def state_dict(self) -> list[dict[str, object]]:
        return [optimiser.state_dict() for optimiser in self._all]

    def load_state_dict(self, states: Sequence[dict[str, object]]) -> None:
        """Goes on from what `state_dict` gave."""
        for optimiser, state in zip(self._all, states, strict=True):
            optimiser.load_state_dict(state)


def _rows(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(out, …) of what belongs to a weight (out, in, 3, 3, 3), in the order in which the weight lies in memory."""
    return values if weight.is_contiguous() else values.permute(CHANNELS_LAST)
