"""m: a U-Net that carries each volume through its levels at native geometry (paper 3.1, A.3).

Notable:
- world matrices are followed through every pooling, so that the grids of a level always know where they are;
- `conv(cat(up, skip))` is written `conv_up(up) + conv_skip(skip)`: the same mathematics and parameters, without the
  concatenation that passes 2 GiB at 1 mm, and with the skip's half computed once for all conditions;
- what does not depend on φ is computed once (`shared`), the rest for k conditions as a batch (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vp_model.geometry import Placed, pool, upsample_to
from vp_model.vision.config import VisionConfig
from vp_model.vision.convolution import KERNEL, Convolution
from vp_model.vision.fields import Stored, Upsampled, convolved, surrounded
from vp_model.vision.interaction import Interaction
from vp_model.vision.normalisation import GroupNorm
from vp_model.vision.readout import ReadOut, start_at_nothing
from vp_model.vision.slabs import rows_upsampled, slabs

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Shared:
    """What m knows of a set of volumes before φ.

    Attributes:
        levels: outputs of the encoder's levels so far, finest first; each a list of n volumes.
        decoded: what the read-out weighs, of each volume, where φ enters there only.
    """

    levels: tuple[list[Placed], ...]
    decoded: list[Placed] | None


class Up(nn.Module):
    """Convolution of the decoder: `up` (from the level below) and `skip` (of this level) → one output."""

    def __init__(self, below: int, skip: int, out: int) -> None:
        super().__init__()
        self.from_below = Convolution(below, out)
        self.from_skip = Convolution(skip, out, bias=False)
        bound = (KERNEL**3 * (below + skip)) ** -0.5  # the initialisation of one convolution over both
        for parameter in (*self.from_below.parameters(), *self.from_skip.parameters()):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, up: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return functional.silu(self.from_below(up).add_(self.from_skip(skip)), inplace=not torch.is_grad_enabled())

    def joined(self, below: Placed, skip: Placed) -> Placed:
        """What `forward` gives of the level below, brought to the grid of the skip connection. Where no gradient is
        wanted, that happens slab by slab: upsampled as a whole, it is the largest tensor of m.
        """
        shape, world = skip.shape, skip.world
        up = Upsampled(Stored(below), shape, world)
        rows = rows_upsampled(shape, len(below.features) * up.channels, skip.features.device)
        if torch.is_grad_enabled() or rows >= shape[0]:
            return skip.with_features(self(upsample_to(below, shape, world), skip.features))
        total = self.from_skip(skip.features)
        if len(total) < len(below.features):  # the skip's half is that of all conditions
            total = total.expand(len(below.features), -1, -1, -1, -1).clone(memory_format=torch.channels_last_3d)
        for low, high in slabs(shape, rows):
            total[:, :, low[0] : high[0]] += convolved(self.from_below, *surrounded(up, low, high))
        return skip.with_features(functional.silu(total, inplace=True))


class Refinement(nn.Module):
    """Further convolutions of a level, each a residual that starts at nothing: a network can grow while it learns."""

    def __init__(self, channels: int, config: VisionConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(GroupNorm(channels // config.group, channels) for _ in range(config.depth - 1))
        self.convolutions = nn.ModuleList(Convolution(channels, channels) for _ in range(config.depth - 1))
        for convolution in self.convolutions:
            start_at_nothing(convolution)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = x + functional.silu(convolution(norm(x)))
        return x


class VisionNetwork(nn.Module):
    """m(V, φ): n volumes of any geometry and k conditions → n × k logits; and their encodings ε."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.down = nn.ModuleList(
            Convolution(1 if level == 0 else widths[level - 1], width) for level, width in enumerate(widths)
        )
        self.down_norm = nn.ModuleList(GroupNorm(width // config.group, width) for width in widths)
        self.up = nn.ModuleList(
            Up(widths[level + 1], widths[level], widths[level]) for level in range(config.levels - 1)
        )
        self.up_norm = nn.ModuleList(GroupNorm(width // config.group, width) for width in widths[:-1])
        self.down_refinement = nn.ModuleList(Refinement(width, config) for width in widths[1:])
        self.up_refinement = nn.ModuleList(Refinement(width, config) for width in widths[1:-1])
        # The finest level never interacts: "all convolutional levels, except the highest resolution" (3.1).
        interacting = range(config.interaction_from if config.interaction != "none" else config.levels, config.levels)
        self.down_interaction = nn.ModuleDict(
            {str(level): Interaction(widths[level], config, config.conditioning == "all") for level in interacting}
        )
        self.up_interaction = nn.ModuleDict(
            {
                str(level): Interaction(widths[level], config, config.conditioning != "readout")
                for level in interacting
                if level < config.levels - 1
            }
        )
        # Finest levels whose activations training computes again for the gradient instead of keeping them.
        self.recomputed_levels = 0
        self.read_out = ReadOut(config)
        self.encoding = nn.Linear(widths[-1], config.encoding_size)

    def forward(self, volumes: Sequence[Placed], phi: torch.Tensor) -> list[torch.Tensor]:
        """Logits of n volumes: a list of (k, w, h, d) on each volume's grid.

        Args:
            volumes: n prepared volumes, features (1, 1, w, h, d) in [0, 1].
            phi: (k, n, d), the condition of each volume in each of k passes, after SiLU.
        """
        shared = self.shared(volumes)
        self._check(shared, phi)
        if shared.decoded is not None:
            return self.finish(shared, phi)
        levels = [list(level) for level in shared.levels]
        del shared  # nobody asks for a second condition: skip connections go as soon as they were used
        return self._finish(levels, phi)

    def shared(self, volumes: Sequence[Placed]) -> Shared:
        """Everything that does not depend on φ."""
        if not volumes:
            raise ValueError("m needs at least one volume.")
        stop = 1 if self.config.conditioning == "all" else self.config.levels
        levels = self._encode([], list(volumes), None, stop)
        if self.config.conditioning != "readout":
            return Shared(tuple(levels), None)
        decoded = self._decoded([list(level) for level in levels])
        return Shared(tuple(levels), [self.read_out.perceived(x) for x in used_up(decoded)])

    def trunk(self, volumes: Sequence[Placed]) -> list[list[Placed]]:
        """What the read-out sees of each volume, finest level first, of a network whose φ enters there only."""
        if self.config.conditioning != "readout":
            raise ValueError("φ enters this network before its read-out.")
        return self._decoded(self._encode([], list(volumes), None, self.config.levels))

    def _decoded(self, levels: list[list[Placed]]) -> list[list[Placed]]:
        """Of each volume, the decoder's levels that the read-out sees, finest first; uses up the encoder's."""
        first = self.config.readout_levels - 1
        x = self._decode(levels, None, first)
        seen = [list(x)]
        for level in range(first - 1, -1, -1):
            x = self._run(self._up_level, level, x, levels.pop(), None)
            seen.insert(0, list(x))
        return [list(volume) for volume in zip(*seen, strict=True)]

    def finish(self, shared: Shared, phi: torch.Tensor) -> list[torch.Tensor]:
        """Logits (k, w, h, d) of each volume for φ (k, n, d)."""
        self._check(shared, phi)
        if shared.decoded is not None:
            return [self.read_out.weighed(x.features, phi[:, index]) for index, x in enumerate(shared.decoded)]
        return self._finish([list(level) for level in shared.levels], phi)

    def _finish(self, levels: list[list[Placed]], phi: torch.Tensor) -> list[torch.Tensor]:
        """Logits, from the levels of the encoder so far, which are used up."""
        self._encode_on(levels, phi)
        x = self._decode(levels, phi, 1)
        logits: list[torch.Tensor] = []
        while x:  # the finest level does not interact: one volume after the other
            finest = self._run(self._up_level, 0, [x.pop(0)], [levels[0].pop(0)], None)
            logits.append(self.read_out([finest.pop()], phi[:, len(logits)]))
        return logits

    def encodings(self, shared: Shared, phi: torch.Tensor) -> torch.Tensor:
        """ε (k, n, b): the deepest level's maximum over space, projected (A.3)."""
        self._check(shared, phi)
        levels = [list(level) for level in shared.levels]
        self._encode_on(levels, phi)
        deepest = levels[-1]
        pooled = torch.stack([placed.features.flatten(2).amax(dim=2) for placed in deepest], dim=1)
        encoded: torch.Tensor = self.encoding(pooled)
        return encoded.expand(phi.shape[0], -1, -1)

    def _check(self, shared: Shared, phi: torch.Tensor) -> None:
        expected = (len(shared.levels[0]), self.config.condition_size)
        if phi.ndim != 3 or tuple(phi.shape[1:]) != expected:
            raise ValueError(f"φ must have the shape (k, {expected[0]}, {expected[1]}), not {tuple(phi.shape)}.")

    def _encode_on(self, levels: list[list[Placed]], phi: torch.Tensor) -> None:
        """The levels of the encoder that are missing, appended."""
        if len(levels) < self.config.levels:
            self._encode(levels, [pool(placed) for placed in levels[-1]], phi, self.config.levels)

    def _encode(
        self, done: list[list[Placed]], inputs: list[Placed], phi: torch.Tensor | None, stop: int
    ) -> list[list[Placed]]:
        """Levels of the encoder up to stop-1, appended to those done: convolution, interaction, normalisation."""
        for level in range(len(done), stop):
            x: list[Placed] = self._run(self._down_level, level, inputs, phi)
            done.append(x)
            if level + 1 < stop:
                inputs = [pool(placed) for placed in x]
        return done

    def _down_level(self, level: int, inputs: list[Placed], phi: torch.Tensor | None) -> list[Placed]:
        quiet = not torch.is_grad_enabled()
        x = [
            placed.with_features(functional.silu(self.down[level](placed.features), inplace=quiet))
            for placed in used_up(inputs)
        ]
        if level > 0:
            x = [placed.with_features(self.down_refinement[level - 1](placed.features)) for placed in used_up(x)]
        if str(level) in self.down_interaction:
            x = self.down_interaction[str(level)](x, phi)
        return [placed.with_features(self.down_norm[level](placed.features)) for placed in used_up(x)]

    def _run(self, function: Callable[..., list[Placed]], level: int, *arguments: object) -> list[Placed]:
        if level < self.recomputed_levels and torch.is_grad_enabled():
            result: list[Placed] = checkpoint(function, level, *arguments, use_reentrant=False)
            return result
        return function(level, *arguments)

    def _decode(self, levels: list[list[Placed]], phi: torch.Tensor | None, last: int = 0) -> list[Placed]:
        """The decoder from the deepest level to level `last`, each at the geometry of its skip; what it uses of the
        encoder's levels is taken out of their list.
        """
        x = levels.pop()
        for level in range(self.config.levels - 2, last - 1, -1):
            x = self._run(self._up_level, level, x, levels.pop(), phi)
        return x

    def _joining(self, level: int) -> Up:
        up = self.up[level]
        if not isinstance(up, Up):
            raise TypeError("The decoder joins levels by `Up`.")
        return up

    def _up_level(self, level: int, x: list[Placed], skips: list[Placed], phi: torch.Tensor | None) -> list[Placed]:
        x = [self._joining(level).joined(below, skip) for below, skip in zip(used_up(x), used_up(skips), strict=True)]
        if level > 0:
            x = [placed.with_features(self.up_refinement[level - 1](placed.features)) for placed in used_up(x)]
        if str(level) in self.up_interaction:
            x = self.up_interaction[str(level)](x, phi)
        return [placed.with_features(self.up_norm[level](placed.features)) for placed in used_up(x)]


def used_up(volumes: list[T]) -> Iterator[T]:
    """One volume after the other; where no gradient is wanted, each is taken out of the list, so that its memory is
    free once it was used.
    """
    if torch.is_grad_enabled():  # a recomputation asks again
        yield from volumes
        return
    while volumes:
        yield volumes.pop(0)
