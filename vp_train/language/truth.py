"""A made-up brain of boxes for any set of regions: on it, two programs can be asked for the same prompt's result.

A written program is right when its result equals the target's: the same masks, numbers and words. Its text may differ
(names of variables, order of lines).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.imaging.landmarks import Landmarks
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, ModelIdentity, Outcome
from vp_model.program.environment import ProgramEnvironment, region_targets
from vp_model.program.results import build_outcome

SHAPE = (44, 48, 36)
SPACING = (1.5, 1.0, 2.0)
MIDDLE = SHAPE[0] // 2
CELLS = (3, 7)
"""Regions of one side: columns from front to back, rows from bottom to top."""
WHOLES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "brain": ((2, 42), (2, 46), (1, 35)),
    "left cerebral white matter": ((4, 20), (4, 44), (4, 34)),
    "right cerebral white matter": ((24, 40), (4, 43), (4, 34)),
}
"""Regions that hold others: (start, end) along x (left to right), y, z."""
LESIONS = (
    ((13, 15), (18, 22), (21, 24)),
    ((5, 7), (30, 33), (24, 26)),
    ((9, 12), (34, 38), (14, 19)),
    ((30, 32), (24, 26), (14, 16)),
)
CONDITION_SIZE = 32


@dataclass(frozen=True)
class MadeUpBrain:
    """Where everything is in each session, and what the images show. It is its own vision network.

    Attributes:
        volumes: the study.
        regions: what the weights know (`left hippocampus`, `brainstem`…).
    """

    volumes: tuple[InputVolume, ...]
    regions: tuple[str, ...]

    def mask(self, name: str, session: int) -> NDArray[np.bool_]:
        """Voxels of a region in a session: anatomy shrinks from session to session, lesions grow."""
        voxels = np.zeros(SHAPE, bool)
        lesion = load_ontology().structures[name].kind == "pathology" if name in load_ontology().structures else False
        for (a, b), (c, d), (e, f) in LESIONS if lesion else (self._box(name),):
            voxels[a:b, c : d + (session if lesion else -min(session, d - c - 1)), e:f] = True
        return voxels

    @cached_property
    def images(self) -> dict[str, Image]:
        """Each volume has a gradient and grain of its own; lesions stand out."""
        world = np.diag([*SPACING, 1.0])
        world[:3, 3] = [-33.0, -24.0, 5.0]
        found = {}
        for number, volume in enumerate(self.volumes):
            chance = np.random.default_rng(number)
            voxels = 100 + chance.normal(0, 2, SHAPE) + 0.2 * np.arange(SHAPE[1])[None, :, None]
            for position, region in enumerate(self.regions):
                voxels[self.mask(region, volume.session)] += position - 40 * (region in self._lesions)
            found[volume.name] = Image(voxels.astype(np.float32), world)
        return found

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        sessions = {volume.name: volume.session for volume in self.volumes}
        return {volume: self.mask(name, sessions[volume]).astype(np.float32) for volume in volumes}

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones((len(volumes), 8), np.float32)

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        (session,) = (item.session for item in self.volumes if item.name == volume)
        known = [region for region in regions if region in self.regions]
        labels = np.zeros(SHAPE, np.uint8)
        for number, region in enumerate(known, start=1):
            labels[self.mask(region, session)] = number
        return Landmarks(tuple(known), labels, self.images[volume].world)

    @cached_property
    def _lesions(self) -> frozenset[str]:
        return frozenset(name for name, item in load_ontology().structures.items() if item.kind == "pathology")

    def _box(self, region: str) -> tuple[tuple[int, int], ...]:
        """A cell of a grid for each name; the right one mirrors the left, a little shorter."""
        if region in WHOLES:
            return WHOLES[region]
        names = sorted({item.removeprefix("left ").removeprefix("right ") for item in self.regions})
        number = names.index(region.removeprefix("left ").removeprefix("right "))
        column, row = divmod(number, CELLS[1])
        low = 5 + 5 * column
        y, z = 5 + 13 * (number % 3), 4 + 4 * row
        shorter = 1 if region.startswith("right ") else 0
        x = (2 * MIDDLE - low - 4, 2 * MIDDLE - low) if region.startswith("right ") else (low, low + 4)
        return x, (y, y + 9 - shorter - number % 2), (z, z + 3)


def result_of(program: str, prompt: str, volumes: Sequence[InputVolume], regions: Sequence[str]) -> Outcome | None:
    """What a one-step program gives on the made-up brain; None where it stops with an error."""
    brain = MadeUpBrain(tuple(volumes), tuple(regions))
    environment = ProgramEnvironment(brain.volumes, brain.images, brain, region_targets(load_ontology(), list(regions)))
    result = environment.step(program, np.zeros((program.count("<MOD>"), CONDITION_SIZE), np.float32))
    if result.error:
        return None
    return build_outcome(environment, prompt, (), ModelIdentity("made-up brain", "0", "0" * 64))


def same_result(first: Outcome, second: Outcome) -> bool:
    """Equal status, task, masks, numbers, words and images, in any order; of what is empty, the same was looked for."""
    return _essence(first) == _essence(second)


def _essence(outcome: Outcome) -> tuple[Any, ...]:
    masks = {
        mask.identifier: (
            *(mask.structure, mask.side, mask.visit, mask.volume, mask.voxels.tobytes()),
            *_unless(mask.voxels.any(), mask.label),
        )
        for mask in outcome.masks
    }
    measurements = sorted(
        (
            *(item.name, item.structure, item.side, str(item.visit), item.unit, f"{item.value:.6g}"),
            *_unless(item.value, item.label),
        )
        for item in outcome.measurements
    )
    texts = sorted((text.topic, text.text) for text in outcome.texts)
    derived = sorted((image.operation, image.source, image.voxels.tobytes()) for image in outcome.derived)
    return outcome.status, outcome.task, sorted(masks.values()), measurements, texts, derived


def _unless(found: object, label: str) -> tuple[str, ...]:
    """What was looked for, where nothing was found: empty masks of two lobes are not the same."""
    return () if found else (label,)
