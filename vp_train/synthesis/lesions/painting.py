"""Painting lesions into an image, and their masks on the image's grid (paper B.6).

Each part gets the signal of the healthy brain tissue around the lesion times one plus its shift, its texture, and what
is left to be seen of the anatomy under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vp_train.datasets.maps import Subject
from vp_train.synthesis.artefacts import average
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.space import look_up

DARKEST = 0.004
"""Share of the reference below which no signal falls."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Lesions laid on a subject's label map.

    Attributes:
        codes: a subject whose labels are, at each voxel, 1 + number of the part among all parts of all lesions.
        texture: (w, h, d) of the label map.
        first: number of the first part of each lesion.
    """

    lesions: tuple[SyntheticLesion, ...]
    codes: Subject
    texture: torch.Tensor
    first: tuple[int, ...]

    @staticmethod
    def of(lesions: Sequence[SyntheticLesion], subject: Subject) -> Layer:
        """On the device of the subject's labels. What an earlier lesion holds, a later one does not take.

        Raises:
            ValueError: more parts than a byte can number.
        """
        device = subject.labels.device
        codes = torch.zeros_like(subject.labels)
        texture = torch.zeros(codes.shape, dtype=torch.float16, device=device)
        first: list[int] = []
        count = 0
        for lesion in lesions:
            box = tuple(slice(a, a + n) for a, n in zip(lesion.origin, lesion.codes.shape, strict=True))
            here, own = codes[box], lesion.codes.to(device)
            free = (own > 0) & (here == 0)
            if count + len(lesion.parts) > 255:
                raise ValueError("The lesions of a scene have more than 255 parts.")
            here[free] = own[free] + count
            texture[box][free] = lesion.texture.to(device)[free].to(torch.float16)
            first.append(count)
            count += len(lesion.parts)
        return Layer(tuple(lesions), replace(subject, labels=codes), texture, tuple(first))

    def at(self, voxels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and texture (w, h, d) at indices of the label map, as `Deformation.voxels` gives them."""
        return look_up(self.codes, voxels), look_up_values(self.texture, voxels)

    @property
    def replacing(self) -> list[int]:
        """Codes under which no healthy tissue is left."""
        return [
            code
            for number, lesion in enumerate(self.lesions)
            if lesion.replaces
            for code in self.with_codes(number, lesion.own)
        ]

    def of_structure(self, structure: str) -> list[int]:
        """Codes of all lesions of one structure of the ontology."""
        return [
            code
            for number, lesion in enumerate(self.lesions)
            if lesion.facts.structure == structure
            for code in self.with_codes(number, lesion.own)
        ]

    def with_codes(self, lesion: int, codes: Sequence[int]) -> list[int]:
        """Codes of a lesion (by its number) as this layer counts them."""
        return [self.first[lesion] + code for code in codes]


def look_up_values(values: torch.Tensor, voxels: list[torch.Tensor]) -> torch.Tensor:
    """(w, h, d) float: the value nearest to each index."""
    index = torch.zeros(voxels[0].shape, dtype=torch.int64, device=voxels[0].device)
    for axis, size in enumerate(values.shape):
        index.mul_(size).add_(voxels[axis].round().clamp(0, size - 1).to(torch.int64))
    return values.flatten()[index.flatten()].view(index.shape).float()


def references(lesions: Sequence[SyntheticLesion], means: torch.Tensor) -> list[float]:
    """Of each lesion the mean signal of the healthy brain tissue around it, of an image whose labels have `means`."""
    return [float((lesion.reference * means.cpu()).sum()) for lesion in lesions]


def measured_references(
    image: torch.Tensor, parenchyma: torch.Tensor, lesions: Sequence[SyntheticLesion], labels: torch.Tensor
) -> list[float]:
    """The same, measured in a real image: mean of each label's voxels, weighted as the lesion's surroundings are.

    Args:
        image: (w, h, d); parenchyma: (w, h, d) bool, healthy brain; labels: (w, h, d) compact labels.
    """
    size = len(lesions[0].reference) if lesions else 0
    inside = labels[parenchyma].long()
    counts = torch.bincount(inside, minlength=size).double()
    sums = torch.zeros(size, dtype=torch.float64, device=image.device).index_add_(0, inside, image[parenchyma].double())
    whole = sums.sum() / counts.sum().clamp(min=1)
    means = torch.where(counts > 0, sums / counts.clamp(min=1), whole).float()
    return references(lesions, means)


def paint(
    image: torch.Tensor,
    codes: torch.Tensor,
    texture: torch.Tensor,
    layer: Layer,
    kind: str,
    reference: Sequence[float],
) -> torch.Tensor:
    """The image (w, h, d) with the lesions in it.

    Args:
        codes, texture: (w, h, d) as `layer.at` gives them on the image's grid.
        kind: the image's sequence type; CT on the scale of the brain window, not in HU.
        reference: of each lesion, the signal of the brain around it (`references`).
    """
    image = image.clone()
    for lesion, first, around in zip(layer.lesions, layer.first, reference, strict=True):
        for index, part in enumerate(lesion.parts):
            here = codes == first + index + 1
            under = image[here]
            if not len(under):
                continue
            signal = around * (1 + part.shift(kind))
            seen = part.kept * (under - under.mean()) + part.grain * around * texture[here]
            image[here] = (signal + seen).clamp(min=DARKEST * around)
    return image


def shares(
    layer: Layer, lesion: int, codes: torch.Tensor, parts: tuple[int, int, int] = (1, 1, 1)
) -> dict[str, torch.Tensor]:
    """(w, h, d) share of each voxel, of a lesion (by its number) under its structure's name and of its components.

    Args:
        codes: as `layer.at` gives them, on a grid whose voxels are divided into `parts`.
    """
    masks = layer.lesions[lesion].masks
    return {name: average(member(codes, layer.with_codes(lesion, own)).float(), parts) for name, own in masks.items()}


def member(codes: torch.Tensor, wanted: Sequence[int]) -> torch.Tensor:
    """(w, h, d) bool: codes that are among those wanted."""
    table = torch.zeros(256, dtype=torch.bool, device=codes.device)
    table[list(wanted)] = True
    return table[codes.long()]
