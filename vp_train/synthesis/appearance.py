"""How bright each label is on a sequence: images of one head and one scanner agree with each other.

Sequences of one family are drawn from one seed: after contrast agent, only what takes it up changes; the apparent
diffusion coefficient and the diffusion-weighted image come from the same tissue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vp_train.datasets.labels import Labels
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.contrast import Contrast, draw_contrast, load_contrasts

FAMILIES: Mapping[str, str] = {"T1+C": "T1", "DWI": "T2", "ADC": "T2"}
"""Kinds whose tissue is that of another kind."""
DOSE = (0.75, 1.1)
"""Share of the table's enhancement."""
RISE = 0.1
"""Enhancement below this share of the scale is none: the table's T1 and T1+C are scaled differently."""
FREEDOM = 0.6
"""How far a plausible contrast strays from its table, relative to contrasts of single images: α is told its kind."""
FATTY = ("skin", "marrow", "other tissue")
FAT_SIGNAL = 0.3
"""What diffusion-weighted imaging leaves of the signal of tissues with fat."""
HOUNSFIELD_DEVIATION = 1.5
RELATIVE_DEVIATION = 0.05


@dataclass(frozen=True, eq=False)
class Appearance:
    """Means and deviations (labels,) of a sequence's signal.

    Attributes:
        kind: as α is told.
        contrast: signal on a scale of about [0, 1]; of CT in HU; of DWI and ADC the signal without diffusion weighting.
        diffusion: (labels,) apparent diffusion coefficient in 10⁻⁶ mm²/s; None where the sequence shows none.
        enhancement: (labels,) what contrast agent adds to the means (already in them).
    """

    kind: str
    contrast: Contrast
    diffusion: torch.Tensor | None = None
    enhancement: torch.Tensor | None = None


def draw_appearance(labels: Labels, kind: str, seed: int) -> Appearance:
    """The appearance of a kind; `seed` is shared by the kinds of a family (`FAMILIES`)."""
    chance = Chance.seeded(seed)
    if kind == "CT":
        return Appearance(kind, _hounsfield(labels, chance))
    if kind == "unknown":
        return Appearance(kind, draw_contrast(labels, chance))
    contrast = _near_table(draw_contrast(labels, chance, FAMILIES.get(kind, kind)))
    if kind == "T1+C":
        added = _enhancement() * chance.number(*DOSE)
        return Appearance(kind, Contrast(kind, contrast.means + added, contrast.deviations), enhancement=added)
    if kind in ("DWI", "ADC"):
        suppressed = Contrast(kind, contrast.means * _fat_suppression(), contrast.deviations)
        return Appearance(kind, suppressed, diffusion=_diffusion(labels, chance))
    return Appearance(kind, contrast)


def _near_table(contrast: Contrast) -> Contrast:
    table = load_contrasts()
    base = table.means[contrast.kind][table.tissue]
    return Contrast(contrast.kind, base + FREEDOM * (contrast.means - base), contrast.deviations)


def _fat_suppression() -> torch.Tensor:
    """(labels,) factor."""
    table = load_contrasts()
    return torch.tensor([FAT_SIGNAL if name in FATTY else 1.0 for name in table.tissues])[table.tissue]


def _hounsfield(labels: Labels, chance: Chance) -> Contrast:
    table = load_contrasts()
    units = table.units["CT"]
    tissues = units + chance.normal(len(units)) * torch.where(
        units.abs() < 100, torch.tensor(HOUNSFIELD_DEVIATION), units.abs() * RELATIVE_DEVIATION
    )
    means = _alike(tissues[table.tissue] + chance.normal(len(labels.names)) * 0.4, labels)
    means[0] = units[0]
    return Contrast("CT", means, chance.uniform(0.5, 2.5, len(labels.names)))


def _diffusion(labels: Labels, chance: Chance) -> torch.Tensor:
    table = load_contrasts()
    units = table.units["ADC"]
    tissues = units * (1 + RELATIVE_DEVIATION * chance.normal(len(units)))
    return _alike(tissues[table.tissue] * (1 + 0.02 * chance.normal(len(labels.names))), labels).clamp(min=0.0)


def _enhancement() -> torch.Tensor:
    """(labels,): how much brighter a label is on T1+C than on T1, both with white matter as bright as on T1."""
    table = load_contrasts()
    before, after = table.means["T1"], table.means["T1+C"]
    white = table.tissues.index("white matter")
    rise = after * (before[white] / after[white]) - before
    return torch.where(rise > RISE, rise, torch.zeros_like(rise))[table.tissue]


def _alike(means: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Both sides of a structure look alike."""
    return (means + means[labels.swap]) / 2
