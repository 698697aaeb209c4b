"""A synthetic lesion: its facts, its shape in the voxels of a label map, and how it looks in each sequence type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from vp_train.synthesis.space import Deformation
from vp_train.tasks.scene import Lesion

Origin = tuple[int, int, int]
"""Index in the label map of a block's first voxel."""
OTHER = "other"
"""Sequence type of signal shifts in images of no known type (random contrasts)."""


@dataclass(frozen=True, eq=False)
class Focus:
    """One connected piece of a lesion, as fields from which its shape at any size follows.

    Attributes:
        level: (w, h, d) the higher, the earlier a voxel joins as the lesion grows; minus infinity where it never does.
            What is above any threshold is connected.
        halo: (w, h, d) the same for what lies around the lesion (edema), before it is joined to the lesion.
        inner: (p, w, h, d) Brownian noise of each part after the first.
        texture: (w, h, d) Perlin noise within about [-1, 1].
        volume: voxels wanted of the lesion itself, without what lies around it.
    """

    origin: Origin
    level: torch.Tensor
    halo: torch.Tensor
    inner: torch.Tensor
    texture: torch.Tensor
    volume: int


@dataclass(frozen=True)
class Part:
    """A tissue of a lesion: its body, or a component.

    Attributes:
        name: the component's name in the ontology (`edema`, `necrosis`); empty for the body.
        belongs: it is part of the lesion's own mask; edema around a tumour is not (BraTS).
        share: of the lesion's own volume.
        shifts: by sequence type, the signal relative to the healthy brain tissue around the lesion, minus 1: 0.3 is
            30 % brighter.
        enhancement: the share by which contrast agent brightens it; 0 for none.
        restricted: bright on DWI and dark on ADC; None where diffusion says nothing (blood, iron).
        kept: share of the underlying anatomy's variation that is still seen through it.
        grain: amplitude of its texture, relative to the signal around.
    """

    name: str
    belongs: bool
    mode: str
    share: float
    shifts: Mapping[str, float]
    enhancement: float
    restricted: bool | None
    kept: float
    grain: float

    def shift(self, kind: str) -> float:
        """In a sequence type; of an unknown one, that of random contrasts."""
        return self.shifts.get(kind, self.shifts[OTHER])


@dataclass(frozen=True, eq=False)
class SyntheticLesion:
    """One lesion of a subject, in one session.

    Attributes:
        kind: its entry in `kinds.json`.
        facts: what prompts and answers may say of it, in the label map's own sides and mm³ (`facts_in` gives those of a
            scene).
        parts: what it consists of, the body first.
        origin, codes: (w, h, d) uint8 block of the label map: 0 outside, 1 body, 2… the index of its part plus 1.
        texture: (w, h, d) Perlin noise of mean 0 in each part.
        reference: (labels,) shares of the compact labels that make up the healthy brain tissue around it.
        replaces: there is no healthy tissue left under it (extra-axial masses, cavities): structures end at its border.
        foci: its connected pieces, one for all but disseminated kinds.
        seed: draws what a later session needs.
    """

    kind: str
    facts: Lesion
    parts: tuple[Part, ...]
    origin: Origin
    codes: torch.Tensor
    texture: torch.Tensor
    reference: torch.Tensor
    replaces: bool
    foci: tuple[Focus, ...]
    seed: int

    @property
    def own(self) -> tuple[int, ...]:
        """Codes that make up the lesion itself."""
        return tuple(index + 1 for index, part in enumerate(self.parts) if part.belongs)

    @property
    def masks(self) -> dict[str, tuple[int, ...]]:
        """Codes of the lesion (by its structure's name) and of each component that facts name."""
        found = {self.facts.structure: self.own}
        for name in self.facts.components:
            found[name] = tuple(index + 1 for index, part in enumerate(self.parts) if part.name == name)
        return found

    def facts_in(self, deformation: Deformation) -> Lesion:
        """Facts as the images of a scene show them: sides swapped in a mirrored scene, volume of the scaled head."""
        scale = 1.0 / abs(float(torch.linalg.det(deformation.matrix)))
        swapped = {"left": "right", "right": "left"} if deformation.mirrored else {}
        side = swapped.get(self.facts.side, self.facts.side)
        return replace(self.facts, side=side, volume_mm3=self.facts.volume_mm3 * scale)  # type: ignore[arg-type]
