"""Synthetic lesions in real images (paper B.6): drawn into the label map of a healthy head, painted into its images
relative to the signal of the tissue that each image shows around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Shape, World, corners, cropped_world
from vp_train.datasets.labels import load_labels
from vp_train.datasets.public.cases import PreparedCase
from vp_train.datasets.public.heads import Head, has_anatomy, head_of
from vp_train.datasets.public.pose import Pose
from vp_train.datasets.public.sampling import divided, parts_between, positions
from vp_train.synthesis.artefacts import average
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.lesions.painting import Layer, measured_references, member, paint
from vp_train.synthesis.pathology import PAINTED_AS, load_lesion_changes
from vp_train.synthesis.regions import codes_of
from vp_train.tasks.scene import Lesion


@dataclass(frozen=True, eq=False)
class Lesioned:
    """Lesions in a head.

    Attributes:
        layer: on the label map of `head`, on the device of the images.
        facts: of each lesion, as the study shows it.
    """

    head: Head
    layer: Layer
    facts: tuple[Lesion, ...]

    @property
    def regions(self) -> tuple[str, ...]:
        """Structures and components that the lesions add to what may be asked for."""
        return tuple(dict.fromkeys(name for lesion in self.layer.lesions for name in lesion.masks))

    def share(self, region: str, shape: Shape, world: World) -> torch.Tensor | None:
        """(w, h, d) share of each voxel of a grid (voxel → mm of the case) that the lesions which are a pathology fill,
        or their components of this name; None where none is.
        """
        wanted = [
            code
            for number, lesion in enumerate(self.layer.lesions)
            for code in self.layer.with_codes(number, codes_of(lesion, region))
        ]
        return self._share(wanted, shape, world) if wanted else None

    def share_of(self, lesion: Lesion, component: str, shape: Shape, world: World) -> torch.Tensor:
        """The same of one lesion of `facts`, or of a component of it."""
        number = self.facts.index(lesion)
        one = self.layer.lesions[number]
        codes = one.masks.get(component, ()) if component else one.own
        return self._share(self.layer.with_codes(number, codes), shape, world)

    def replaced(self, shape: Shape, world: World) -> torch.Tensor:
        """(w, h, d) share of each voxel in which no healthy tissue is left."""
        return self._share(self.layer.replacing, shape, world)

    def corners(self, one: str | Lesion) -> NDArray[np.float64] | None:
        """(8 n, 3) mm of the case: corners of the blocks that hold a pathology, or a lesion; None where none does."""
        chosen = [
            lesion
            for lesion, facts in zip(self.layer.lesions, self.facts, strict=True)
            if (codes_of(lesion, one) if isinstance(one, str) else facts == one)
        ]
        if not chosen:
            return None
        return np.concatenate([corners(_shape(one), cropped_world(self.head.world, one.origin)) for one in chosen])

    def painted(self, image: torch.Tensor, kind: str, world: World) -> torch.Tensor:
        """An image (w, h, d) of the case with the lesions in it.

        Args:
            kind: sequence type.
            world: voxel → mm of the case.
        """
        shape: Shape = (image.shape[0], image.shape[1], image.shape[2])
        parts = parts_between(self.head.world, world)
        places = self._places(*divided(shape, world, parts))
        codes = self.layer.codes.labels.flatten()[places]
        if not bool(codes.any()):
            return image
        labels = load_labels().plain.to(image.device)[self._labels(image.device)[self._places(shape, world)].long()]
        own = self.layer.codes.labels.flatten()[self._places(shape, world)]
        brain = torch.tensor(load_labels().brain, device=image.device)
        healthy = torch.isin(labels, brain) & (own == 0) & (image > 0)
        reference = measured_references(image, healthy, self.layer.lesions, labels)
        fine = image
        for axis, part in enumerate(parts):
            fine = fine.repeat_interleave(part, dim=axis)
        texture = self.layer.texture.flatten()[places].float()
        laid = average(paint(fine, codes, texture, self.layer, PAINTED_AS.get(kind, kind), reference), parts)
        touched = average((codes > 0).float(), parts) > 0
        return torch.where(touched, laid.clamp(0.0, 1.0), image)

    def _labels(self, device: torch.device) -> torch.Tensor:
        return self.head.subject.labels.flatten().to(device)

    def _places(self, shape: Shape, world: World) -> torch.Tensor:
        size = self.head.subject.labels.shape
        return positions((size[0], size[1], size[2]), self.head.world, shape, world, self.layer.codes.labels.device)

    def _share(self, codes: Sequence[int], shape: Shape, world: World) -> torch.Tensor:
        parts = parts_between(self.head.world, world)
        found = self.layer.codes.labels.flatten()[self._places(*divided(shape, world, parts))]
        return average(member(found, codes).float(), parts)


def draw_lesioned(
    case: PreparedCase,
    images: Sequence[int],
    pose: Pose,
    kinds: Sequence[str],
    chance: Chance,
    device: torch.device | str,
    cache: Path | None = None,
) -> Lesioned | None:
    """Lesions in the head of a session; None where no label map of it tells of the brain, or there is no room.

    Args:
        images: numbers of the session's images in the case.
        kinds: names of `kinds.json` to draw from; by their weights where there are none.
    """
    known = next((number for number in images if has_anatomy(case.images[number])), None)
    if known is None:
        return None
    head = head_of(case, known, cache)
    counts = load_lesion_changes().counts
    drawn = draw_lesions(
        head.subject, head.anatomy, Chance.seeded(chance.seed()), 1 + chance.choice(counts), kinds or None
    )
    if not drawn:
        return None
    subject = replace(head.subject, labels=head.subject.labels.to(device))
    facts = tuple(lesion.facts_in(pose.deformation) for lesion in drawn)
    return Lesioned(head, Layer.of(drawn, subject), facts)


def _shape(lesion: SyntheticLesion) -> Shape:
    return lesion.codes.shape[0], lesion.codes.shape[1], lesion.codes.shape[2]
