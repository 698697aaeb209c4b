"""A made-up brain of boxes, in two or three sessions: the synthetic truth that target programs are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.imaging.intensity import Image
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, ModelIdentity, Outcome
from vp_model.program.environment import ProgramEnvironment, region_targets
from vp_model.program.results import build_outcome
from vp_train.tasks.scene import Example

SHAPE = (40, 44, 36)
SPACING = (1.5, 1.0, 2.0)
VOXEL_ML = float(np.prod(SPACING)) / 1000
REGIONS = (
    "left cerebral white matter",
    "right cerebral white matter",
    "left cerebral cortex",
    "right cerebral cortex",
    "left lateral ventricle",
    "right lateral ventricle",
    "left hippocampus",
    "right hippocampus",
    "left caudate",
    "right caudate",
    "brainstem",
    "third ventricle",
    "brain",
    "white matter lesion",
)
BOXES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "left cerebral white matter": ((4, 20), (4, 40), (4, 32)),
    "right cerebral white matter": ((20, 36), (4, 40), (4, 32)),
    "left cerebral cortex": ((2, 4), (4, 40), (4, 32)),
    "right cerebral cortex": ((36, 38), (4, 40), (4, 32)),
    "left lateral ventricle": ((16, 18), (14, 30), (20, 26)),
    "right lateral ventricle": ((22, 25), (14, 30), (20, 26)),
    "left hippocampus": ((6, 12), (12, 22), (8, 12)),
    "right hippocampus": ((28, 33), (12, 21), (8, 12)),
    "left caudate": ((13, 15), (22, 32), (16, 20)),
    "right caudate": ((25, 28), (22, 32), (16, 20)),
    "brainstem": ((18, 22), (8, 16), (0, 8)),
    "third ventricle": ((19, 21), (16, 26), (10, 16)),
    "brain": ((2, 38), (4, 40), (0, 32)),
}
LESIONS = (
    ((14, 16), (18, 22), (21, 24)),  # beside the left ventricle
    ((5, 7), (30, 33), (24, 26)),  # beside the left cortex
    ((9, 12), (34, 38), (14, 19)),  # deep on the left
    ((30, 32), (24, 26), (14, 16)),  # deep on the right
)


@dataclass(frozen=True)
class Truth:
    """Where everything is in each session, and what the images of an example show."""

    volumes: tuple[InputVolume, ...]

    @cached_property
    def world(self) -> NDArray[np.float64]:
        world = np.diag([*SPACING, 1.0])
        world[:3, 3] = [-30.0, -20.0, 5.0]
        return world

    @cached_property
    def visits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(volume.visit for volume in self.volumes))

    def mask(self, name: str, session: int = 0) -> NDArray[np.bool_]:
        """Voxels of a region (`left hippocampus`, or `hippocampus` for both) in a session: it shrinks, lesions grow."""
        if name not in REGIONS:
            return self.mask(f"left {name}", session) | self.mask(f"right {name}", session)
        voxels = np.zeros(SHAPE, bool)
        boxes = LESIONS if name == "white matter lesion" else (BOXES[name],)
        for box in boxes:
            grown = session if name == "white matter lesion" else -session if box[1][1] - box[1][0] > 8 else 0
            (a, b), (c, d), (e, f) = box
            voxels[a:b, c : d + grown, e:f] = True
        return voxels

    def session(self, volume: str) -> int:
        return next(item.session for item in self.volumes if item.name == volume)

    @cached_property
    def images(self) -> Mapping[str, Image]:
        """Each sequence type has a gradient and grain of its own; lesions are bright, dark on ADC and T1."""
        found = {}
        for number, volume in enumerate(self.volumes):
            chance = np.random.default_rng(number)
            voxels = 100 + chance.normal(0, 2, SHAPE) + np.arange(SHAPE[1])[None, :, None] * 0.2
            for position, name in enumerate(REGIONS[:-2]):
                voxels[self.mask(name, volume.session)] += 3 * position
            shift = {"ADC": -60.0, "T1": -25.0, "CT": -30.0}.get(volume.kind, 80.0)
            voxels[self.mask("white matter lesion", volume.session)] += shift
            found[volume.name] = Image(voxels.astype(np.float32), self.world)
        return found

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        assert len(modulations) == len(volumes)
        return {volume: self.mask(name, self.session(volume)).astype(np.float32) for volume in volumes}

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones((len(volumes), 8), np.float32)


def run(example: Example) -> tuple[Truth, Outcome]:
    """The target program of an example on the truth.

    Raises:
        AssertionError: it stops with an error.
    """
    truth = Truth(example.scene.volumes)
    targets = region_targets(load_ontology(), REGIONS)
    environment = ProgramEnvironment(truth.volumes, truth.images, truth, targets)
    result = environment.step(example.program, np.zeros((example.program.count("<MOD>"), 32), np.float32))
    assert not result.error, f"{example.prompt}\n{example.program}\n{result.error}"
    return truth, build_outcome(environment, example.prompt, (), ModelIdentity("truth", "0", "0" * 64))


def millilitres(voxels: NDArray[np.bool_]) -> float:
    return float(voxels.sum()) * VOXEL_ML


def near(voxels: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Voxels within a distance (mm) of a region, itself among them."""
    found: NDArray[np.bool_] = ndimage.distance_transform_edt(~voxels, sampling=SPACING) <= distance + 1e-6
    return found


def parts(voxels: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Connected parts (26 neighbours), largest first."""
    labels, count = ndimage.label(voxels, np.ones((3, 3, 3)))
    return sorted((labels == number for number in range(1, count + 1)), key=lambda part: -int(part.sum()))


def extents(voxels: NDArray[np.bool_]) -> tuple[float, ...]:
    """Outer extents (mm) along left-right, anterior-posterior, superior-inferior."""
    places = np.argwhere(voxels)
    size = (np.ptp(places, axis=0) + 1) * np.asarray(SPACING)
    return tuple(float(value) for value in size)
