"""What is known of a prepared case in each of its sessions: masks of regions, on any grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Shape, World, corners, cropped_world
from vp_model.ontology import load_ontology
from vp_train.datasets.labels import load_labels
from vp_train.datasets.public.cases import PreparedCase, PreparedImage
from vp_train.datasets.public.known import is_lesion
from vp_train.datasets.public.sampling import sampled

BRAIN = "brain"
OTHER_SIDE = {"left": "right", "right": "left"}


def swapped(region: str) -> str:
    """The region of the other side."""
    side, _, name = region.partition(" ")
    return f"{OTHER_SIDE[side]} {name}" if side in OTHER_SIDE else region


def askable(marked: Mapping[str, bool]) -> frozenset[str]:
    """Of regions that label maps tell of, and whether any voxel is one, those that a prompt may ask for: lesions that a
    reader looked for, found or not; anatomy that is there, on both sides where there are two.
    """
    return frozenset(
        region
        for region, there in marked.items()
        if is_lesion(region) or (there and marked.get(swapped(region), False) and _whole(region))
    )


@dataclass(frozen=True, eq=False)
class CaseTruth:
    """Masks of a case, by session (as the case counts them) and region."""

    case: PreparedCase

    @cached_property
    def sessions(self) -> tuple[int, ...]:
        """Those of which anything may be asked."""
        return tuple(session for session, regions in self._regions.items() if regions)

    @cached_property
    def _regions(self) -> dict[int, frozenset[str]]:
        return {image.volume.session: self._askable(image.volume.session) for image in self.case.images}

    def images(self, session: int) -> list[int]:
        return [number for number, image in enumerate(self.case.images) if image.volume.session == session]

    def regions(self, session: int) -> frozenset[str]:
        """What may be asked of a session: `askable`, and the brain where all that it consists of is marked."""
        return self._regions[session]

    def _askable(self, session: int) -> frozenset[str]:
        marked: dict[str, bool] = {}
        for number in self.images(session):
            masks = self.case.images[number].masks
            for region in masks:
                marked[region] = marked.get(region, False) or region in masks.marked
        found = set(askable(marked))
        if any(set(_brain()) <= self.case.images[number].masks.marked for number in self.images(session)):
            found.add(BRAIN)
        return frozenset(found)

    def mask(self, session: int, region: str) -> tuple[NDArray[np.bool_], World]:
        """(w, h, d) where a region is in a session, in the case's own sides, and the matrix of its grid.

        Raises:
            ValueError: no label map of the session tells of it.
        """
        wanted = _brain() if region == BRAIN else (region,)
        for number in self.images(session):
            image = self.case.images[number]
            if all(name in image.masks for name in wanted):
                whole = image.masks[wanted[0]]
                for name in wanted[1:]:
                    whole |= image.masks[name]
                return whole, image.volume.world
        raise ValueError(f"{self.case.subject} has no mask of {region!r} in session {session}.")

    def share(self, session: int, region: str, shape: Shape, world: World, device: torch.device) -> torch.Tensor:
        """(w, h, d) share of each voxel of a grid (voxel → mm of the case) that a region fills."""
        mask, own = self.mask(session, region)
        return sampled(torch.from_numpy(mask).to(device), own, shape, world)

    def corners(self, session: int, region: str) -> NDArray[np.float64] | None:
        """(8, 3) mm of the case: corners of the block that holds a region; None where it is nowhere."""
        mask, world = self.mask(session, region)
        if not mask.any():
            return None
        ends = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
        w, h, d = (int(last - first) + 1 for first, last in ends)
        return corners((w, h, d), cropped_world(world, [int(first) for first, _ in ends]))

    def blanked(self, number: int) -> NDArray[np.bool_] | None:
        """(w, h, d) where a reader of lesions said neither yes nor no on an image; None where he always did.

        Tables of anatomy have such labels too: what is no structure is none of those asked for.
        """
        image: PreparedImage = self.case.images[number]
        if image.unknown.any() and any(is_lesion(region) for region in image.masks):
            return image.unknown
        return None


def _brain() -> tuple[str, ...]:
    labels = load_labels()
    return tuple(labels.names[index] for index in labels.brain)


def _whole(region: str) -> bool:
    """Whether a program segments it as it is: one that is put together from parts is asked for by its parts."""
    resolved = load_ontology().resolve(region)
    return resolved is not None and not resolved[0].parts
