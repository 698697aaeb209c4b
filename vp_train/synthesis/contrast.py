"""How bright each label is in one synthetic image: plausible contrasts (`contrasts.json`) or random ones.

Purely random means generalise (SynthSeg); plausible ones are mixed in because prompts speak of T1, FLAIR or CT.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from vp_train.datasets.labels import Labels, load_labels
from vp_train.synthesis.chance import Chance

PLAUSIBLE = 0.85
"""Share of images with a plausible contrast."""
APART = (0.015, 0.05)
"""Range of the deviation of labels of one tissue about its mean."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """`means` and `deviations` (labels,) of the intensity of each compact label; `kind` T1, T2, … or `random`."""

    kind: str
    means: torch.Tensor
    deviations: torch.Tensor


@dataclass(frozen=True, eq=False)
class ContrastTable:
    """`tissues`: their names; `tissue` (labels,): each compact label's tissue; `means[kind]` (tissues,) in [0, 1];
    `shares[kind]`, 0 for kinds that single images are not drawn of; `units[kind]` (tissues,): stored units where the
    kind has any (CT: HU, ADC: 10⁻⁶ mm²/s).
    """

    tissues: tuple[str, ...]
    tissue: torch.Tensor
    means: dict[str, torch.Tensor]
    shares: dict[str, float]
    units: dict[str, torch.Tensor]


@cache
def load_contrasts() -> ContrastTable:
    table = json.loads(files("vp_train.synthesis").joinpath("contrasts.json").read_text(encoding="utf-8"))
    tissues = table["tissues"]

    def tissue(name: str) -> int:
        bare = name.removeprefix("left ").removeprefix("right ")
        return int(tissues.index(table["tissue_of"].get(bare, bare)))

    contrasts = table["contrasts"]
    return ContrastTable(
        tissues=tuple(tissues),
        tissue=torch.tensor([tissue(name) for name in load_labels().names]),
        means={kind: torch.tensor(entry["means"], dtype=torch.float32) for kind, entry in contrasts.items()},
        shares={kind: float(entry["share"]) for kind, entry in contrasts.items()},
        units={kind: torch.tensor(values, dtype=torch.float32) for kind, values in table["units"].items()},
    )


def draw_contrast(labels: Labels, chance: Chance, kind: str | None = None) -> Contrast:
    """A contrast: `kind` where given, else drawn. Both sides of a structure look alike."""
    table = load_contrasts()
    if kind is None and chance.happens(PLAUSIBLE):
        drawn = [name for name, share in table.shares.items() if share > 0]
        kind = drawn[chance.choice([table.shares[name] for name in drawn])]
    count = len(labels.names)
    tissues = len(table.means["T1"])
    if kind is not None:
        base = table.means[kind]
        base = base + chance.normal(tissues) * 0.05 * (base > 0)
        means = base[table.tissue] + chance.normal(count) * chance.number(*APART)
    else:
        by_tissue = chance.uniform(0.05, 1.0, tissues)[table.tissue] + chance.normal(count) * 0.03
        means = by_tissue if chance.happens(0.5) else chance.uniform(0.05, 1.0, count)
    means = (
        torch.minimum(means, means[labels.swap]).clamp(min=0.0)
        if chance.happens(0.5)
        else torch.maximum(means, means[labels.swap]).clamp(min=0.0)
    )
    means[0] = chance.number(0.0, 0.3) if chance.happens(0.1) else 0.0
    deviations = chance.uniform(0.01, 0.05, count)
    deviations[0] = 0.01
    return Contrast(kind or "random", means, deviations)
