"""Lesions from what the tissues of an image do not explain (`departure.py`): a small network beside m, which asks m for
the anatomy and tells lesions from noise, borders and vessels by their shape and place.

m itself, which must tell a lesion from any structure in any contrast, learned lesions of white matter only. Where the
expected is taken out beforehand a network of a sixth of m's size finds lesions after a few hundred steps.
What lesions have in common is learned from all of them, and what tells their kinds apart where a lesion is: φ asks for
one.
All images of a session look together, on the grid of the one that is asked about: each is read alone, and attention
over them (as in m, paper 3.1) says for each voxel which of them to believe: what one hides another may show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from vp_model.vision.convolution import Convolution
from vp_model.vision.departure import CHANNELS
from vp_model.vision.normalisation import GroupNorm
from vp_model.vision.weights import load_half, save_half

FILE = "lesions.safetensors"
GROUPS = 4
RARE = -3.0
"""Logit of a lesion before anything is learned."""
OWN = 0.3
"""Weight of an image's own features beside those that attention chooses from all images of its session."""
HEADS = 4
NOWHERE = -1e4
"""Attention where an image does not reach."""


@dataclass(frozen=True)
class LesionConfig:
    """How the network is built.

    Attributes:
        channels: of each level, finest first.
        kinds: sequence types that it is told apart; others look like none of them.
        condition_size: length d of φ.
        features: by which one kind of lesion is told from another.
    """

    channels: tuple[int, ...] = (16, 32, 64, 96)
    kinds: tuple[str, ...] = ("T1", "T1+C", "T2", "FLAIR", "PD", "DWI", "ADC", "CT", "SWI", "GRE")
    condition_size: int = 32
    features: int = 24

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels), "kinds": list(self.kinds)}

    def kind_of(self, kind: str) -> torch.Tensor:
        """(1, kinds): 1 at a sequence type, 0 elsewhere."""
        return torch.tensor([[float(name == kind.upper()) for name in self.kinds]])


def lesion_config(values: Mapping[str, Any]) -> LesionConfig:
    """The configuration that `as_dict` wrote.

    Raises:
        TypeError: a key is unknown.
    """
    return LesionConfig(**{**values, "channels": tuple(values["channels"]), "kinds": tuple(values["kinds"])})


class Seen(NamedTuple):
    """Logits of one forward pass.

    Attributes:
        any: (b, 1, w, h, d) that a voxel belongs to a lesion of whatever kind.
        named: (b, k, w, h, d) that it answers a condition, if it does.
    """

    any: torch.Tensor
    named: torch.Tensor

    @property
    def probability(self) -> torch.Tensor:
        """(b, k, w, h, d)."""
        return torch.sigmoid(self.any) * torch.sigmoid(self.named)


class _Residual(nn.Module):
    """Two convolutions added to what comes in. Normalised over the head: how far noise departs is the image's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(channels, channels), Convolution(channels, channels)
        self.first_norm, self.second_norm = GroupNorm(GROUPS, channels), GroupNorm(GROUPS, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = functional.silu(self.first_norm(self.first(x)))
        return functional.silu(x + self.second_norm(self.second(found)))


class LesionNetwork(nn.Module):
    """Departures of the images of a session and k conditions → where any lesion is in one of them, and which of the
    conditions it answers.
    """

    def __init__(self, config: LesionConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.enter = Convolution(CHANNELS, widths[0])
        self.kind = nn.Linear(len(config.kinds), widths[0])
        self.down = nn.ModuleList(_Residual(width) for width in widths)
        self.deeper = nn.ModuleList(nn.Conv3d(one, two, 1) for one, two in pairwise(widths))
        self.back = nn.ModuleList(nn.Conv3d(two, one, 1) for one, two in pairwise(widths))
        self.up = nn.ModuleList(_Residual(width) for width in widths[:-1])
        self.norm = GroupNorm(GROUPS, widths[0])
        self.attend = nn.Conv3d(widths[0], HEADS, 1)
        self.mix = Convolution(2 * widths[0], widths[0])
        self.joined = nn.Conv3d(widths[0], widths[0], 1)
        self.any = nn.Conv3d(widths[0], 1, 1)
        self.features = nn.Conv3d(widths[0], config.features, 1)
        self.key = nn.Linear(config.condition_size, config.features + 1)
        nn.init.constant_(self.any.bias, RARE)  # type: ignore[arg-type]
        for layer in (self.attend, self.joined):  # all images count the same at first, as they are
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self,
        departure: torch.Tensor,
        kind: torch.Tensor,
        phi: torch.Tensor,
        inside: torch.Tensor | None = None,
        images: Sequence[int] | None = None,
    ) -> Seen:
        """What is seen in the first image of each session.

        Args:
            departure: (n, CHANNELS, w, h, d) images of b sessions, those of one beside each other on the grid of its
                first.
            kind: (n, kinds), `LesionConfig.kind_of`.
            phi: (k, d).
            inside: (n, 1, w, h, d) bool, where each image reaches; None: everywhere.
            images: of each session, how many there are; None: one of each.
        """
        x = self._read(departure, kind)
        if inside is None:
            inside = torch.ones_like(x[:, :1], dtype=torch.bool)
        counts = list(images or [1] * len(x))
        sessions = zip(x.split(counts), inside.split(counts), strict=True)
        x = torch.cat([self._together(own, reached) for own, reached in sessions])
        key = self.key(phi)
        named = torch.einsum("bcwhd,kc->bkwhd", functional.silu(self.features(x)), key[:, :-1])
        return Seen(self.any(x), named + key[:, -1][:, None, None, None])

    def _together(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """(1, c, w, h, d) of the images (n, c, w, h, d) of a session, for the first of them."""
        count, channels = x.shape[:2]
        weights = torch.softmax(self.attend(x).masked_fill(~inside, NOWHERE), dim=0)[:, :, None]
        parts = x.view(count, HEADS, channels // HEADS, *x.shape[2:])
        chosen = (parts * weights).sum(dim=0).flatten(0, 1)[None]
        more = self.joined(functional.silu(self.mix(torch.cat([x[:1], chosen], dim=1))))
        return OWN * x[:1] + (1 - OWN) * chosen + more

    def _read(self, departure: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        """(n, c, w, h, d) features of each image alone."""
        x = self.enter(departure) + self.kind(kind)[:, :, None, None, None]
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.deeper):
                skips.append(x)
                x = self.deeper[level](functional.max_pool3d(x, 2, ceil_mode=True))
        for level in range(len(self.up) - 1, -1, -1):
            skip = skips.pop()
            x = functional.interpolate(self.back[level](x), skip.shape[2:], mode="trilinear", align_corners=False)
            x = self.up[level](x + skip)
        return functional.silu(self.norm(x))


@torch.inference_mode()
def lesions_in(
    departure: torch.Tensor,
    kind: torch.Tensor,
    phi: torch.Tensor,
    network: LesionNetwork,
    inside: torch.Tensor | None = None,
) -> torch.Tensor:
    """Probabilities (k, w, h, d) in the first image of a session: the mean over the images and their mirror images.

    Args:
        departure: (n, CHANNELS, w, h, d) on the grid of the first image, its first axis from side to side.
        kind: (n, kinds); phi: (k, d).
        inside: (n, w, h, d) bool, where each image reaches; None: everywhere.
    """
    reached = torch.ones_like(departure[:, 0], dtype=torch.bool) if inside is None else inside
    counts = [len(departure)]
    plain = network(departure, kind, phi, reached[:, None], counts).probability[0]
    mirrored = network(departure.flip(2), kind, phi, reached.flip(1)[:, None], counts).probability[0]
    return (plain + mirrored.flip(1)) / 2


def save_lesions(network: LesionNetwork, folder: Path) -> None:
    """Write the weights in half precision."""
    save_half(network, folder, FILE)


def load_lesions(config: LesionConfig, folder: Path) -> LesionNetwork:
    """The network with the weights of a checkpoint folder, in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no `lesions.safetensors`.
        ValueError: the weights do not fit the configuration.
    """
    network = LesionNetwork(config)
    load_half(network, folder, FILE)
    return network.eval()
