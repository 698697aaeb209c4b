"""Configuration of the vision network m and its presets (`presets.json` beside this file)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from typing import Any, Literal, get_args

Interaction = Literal["attention", "mean", "max", "none"]
Reference = Literal["isotropic", "axis", "own"]
Conditioning = Literal["all", "decoder", "readout"]


@dataclass(frozen=True)
class VisionConfig:
    """How m is built (paper 3.1, A.3).

    Attributes:
        channels: output channels of each level, finest first; its length is the number of levels.
        depth: convolutions at each level below the finest; 1 is the paper's, each further one is a residual.
        readout_hidden: width of a residual perceptron on the finest features before the read-out; 0, the paper's, none.
        readout_size: features that the perceptron hands to the read-out, in place of the finest level's; 0 makes the
            perceptron a residual on these. Wider than the finest level, it tells more structures apart.
        readout_levels: finest levels of the decoder that the perceptron sees; 1, the finest alone.
        key_hidden: width of a perceptron that bends what the read-out makes of φ; 0, none: it is linear in φ, and the
            masks of all conditions lie in a space of `condition_size` dimensions.
        interaction: how volumes of a set exchange features at every level but the finest: the paper's `attention`, or
            the `mean` and `max` reductions of C.6; `none` leaves the volumes alone.
        interaction_size: hidden size of the interaction transformer.
        interaction_heads: its attention heads (the paper gives no number).
        reference: where volumes of different geometries meet: on a shared grid with the smallest spacing of all axes
            (`isotropic`, the paper's) or of each (`axis`); or on none, each asking at its `own` voxels.
        interaction_from: first level that interacts; 1 is the paper's "all levels, except the highest resolution".
        conditioning: where φ enters: at `all` interactions (the paper's), in those of the `decoder` alone, or in the
            `readout` alone, where the finest features are weighed by numbers made from φ (dynamic convolution, as in
            DoDNet, Zhang et al. 2021). What comes before does not depend on φ and is computed once for all conditions.
        condition_size: length d of φ.
        encoding_size: length b of an encoding ε.
        group: channels in a group of the normalisation.
        working_spacing_mm: inputs finer than this are reduced to it before m; None works at native geometry.
    """

    channels: tuple[int, ...]
    depth: int = 1
    readout_hidden: int = 0
    readout_size: int = 0
    key_hidden: int = 0
    readout_levels: int = 1
    interaction: Interaction = "attention"
    interaction_size: int = 32
    interaction_heads: int = 4
    interaction_from: int = 1
    reference: Reference = "isotropic"
    conditioning: Conditioning = "all"
    condition_size: int = 32
    encoding_size: int = 512
    group: int = 4
    working_spacing_mm: float | None = None

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or any(width % self.group for width in self.channels):
            raise ValueError(f"At least two levels are needed, each a multiple of {self.group} channels wide.")
        if self.interaction_size % self.interaction_heads:
            raise ValueError("The interaction's hidden size must be a multiple of its number of heads.")
        if self.depth < 1:
            raise ValueError("Every level has at least one convolution.")
        if self.readout_size and not self.readout_hidden:
            raise ValueError("A read-out of its own size needs a perceptron before it: set readout_hidden.")
        if self.key_hidden and self.conditioning != "readout":
            raise ValueError("key_hidden belongs to a read-out that is conditioned.")
        if not 1 <= self.readout_levels <= self.levels:
            raise ValueError(f"The read-out sees 1 to {self.levels} levels of the decoder: set readout_levels.")
        if self.readout_levels > 1 and not (self.readout_hidden and self.conditioning == "readout"):
            raise ValueError("readout_levels belongs to a perceptron before a read-out that is conditioned.")
        if self.interaction_from < 1:
            raise ValueError("The finest level does not interact: interaction_from must be at least 1.")
        if self.conditioning != "readout" and self.interaction == "none":
            raise ValueError("Without interaction layers φ can only enter in the read-out.")
        if self.reference not in get_args(Reference):
            raise ValueError(f"There is no reference {self.reference!r}; there are: {', '.join(get_args(Reference))}.")

    @property
    def levels(self) -> int:
        return len(self.channels)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels)}


@dataclass(frozen=True)
class Refining:
    """How borders are refined by the images' own intensities (`vp_model.vision.refinement`).

    Attributes:
        share: of the refined probability in the result; the rest is m's own.
        pooling: share of the tissues' common variance in the variance of each, which keeps narrow ones from taking all.
        floor: density that every intensity has in every tissue: what is odd (a lesion, a vessel) is left to m.
        iterations: of expectation maximisation.
        field_mm: standard deviation of the smoothing that makes the bias field of MR; 0 estimates none.
    """

    share: float = 0.5
    pooling: float = 0.3
    floor: float = 0.02
    iterations: int = 5
    field_mm: float = 25.0


def config_from_dict(values: Mapping[str, Any]) -> VisionConfig:
    """The configuration that `as_dict` wrote.

    Raises:
        ValueError: a key is unknown.
    """
    known = {field.name for field in fields(VisionConfig)}
    unknown = set(values) - known
    if unknown:
        raise ValueError(f"The vision configuration holds unknown keys: {', '.join(sorted(unknown))}.")
    return VisionConfig(**{**values, "channels": tuple(values["channels"])})


def preset(name: str) -> VisionConfig:
    """`paper` (32 and 96 channels, native geometry) or `compact` (for CPUs).

    Raises:
        ValueError: there is no preset of that name.
    """
    presets = json.loads(files("vp_model.vision").joinpath("presets.json").read_text(encoding="utf-8"))
    if name not in presets:
        raise ValueError(f"There is no vision preset {name!r}; there are: {', '.join(sorted(presets))}.")
    return config_from_dict(presets[name])
