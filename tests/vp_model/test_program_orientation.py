"""An operation's answer is about the patient: it does not depend on the order and direction of a file's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.vp_model.test_program_grammar import example_line
from tests.vp_model.test_program_references import IMAGE, LANDMARKS, SHAPE, TARGETS, VOLUMES, A, B, C
from vp_model.imaging.conform import reorient
from vp_model.imaging.intensity import Image
from vp_model.imaging.landmarks import Landmarks
from vp_model.program.environment import ProgramEnvironment
from vp_model.program.operations import OPERATIONS
from vp_model.program.types import Type
from vp_model.program.values import DerivedImage, Point, Quantity, Roi, Value

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (11, -8, 14), degrees=True).as_matrix() * (1.0, 1.5, 2.0)
SHEARED = OBLIQUE.copy()
SHEARED[:3, 2] += 0.5 * SHEARED[:3, 1]  # as by a gantry tilt
WORLDS = {"oblique": OBLIQUE, "sheared": SHEARED}
TURNS = ("LIP", "ASR", "PSR")
START = """\
roi = segment("brainstem", v1<MOD>)
other = segment("left hippocampus", v1<MOD>)
size = volume(roi)
level = mean_intensity(roi, v1)
"""
NOT_HERE = {
    "segment",
    "encode",
    "align_to",
    "assemble",
    "per_year",
    "reorient",
    "pad",
    "resample",
    "crop",
    "crop_cavity",
}
"""What has two sessions, or the network, or an image on a grid of its own: compared elsewhere."""
TIMES = (Type.NOTHING, Type.VISIT, Type.VISITS)
ASKED = [name for name, operation in OPERATIONS.items() if operation.result not in TIMES and name not in NOT_HERE]


class Masks:
    """The masks of the references, with their axes turned as the image's are."""

    def __init__(self, world: NDArray[np.float64], turn: str) -> None:
        self.world, self.turn = world, turn
        self.found = {
            name: reorient(Image(mask.astype(np.float32), world), turn).voxels
            for name, mask in {"brainstem": A | C, "left hippocampus": B}.items()
        }

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        return dict.fromkeys(volumes, self.found[name])

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(volumes), 8), np.float32)

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        names = tuple(name for name in LANDMARKS if name in regions)
        labels = np.zeros(SHAPE, np.float32)
        for number, name in enumerate(names, start=1):
            labels[tuple(LANDMARKS[name].T)] = number
        turned = reorient(Image(labels, self.world), self.turn)
        return Landmarks(names, turned.voxels.astype(np.uint8), turned.world)


def answer(name: str, world: NDArray[np.float64], turn: str) -> object:
    """What an operation gives, without what depends on the grid."""
    image = reorient(Image(IMAGE, world), turn)
    environment = ProgramEnvironment(VOLUMES, {"v1": image, "v2": image}, Masks(world, turn), TARGETS)
    result = environment.step(START + example_line(name))
    assert result.error == "", result.error
    return plain(environment.values["x"], world)


def plain(value: Value, world: NDArray[np.float64]) -> object:
    if isinstance(value, Quantity):
        return value.value
    if isinstance(value, Point):
        return value.position
    if isinstance(value, Roi):
        return [part.region.on(Image(IMAGE, world).grid).full() for part in value.parts]
    if isinstance(value, DerivedImage):
        turned = reorient(value.image, "RAS")
        np.testing.assert_allclose(turned.world, reorient(Image(IMAGE, world), "RAS").world, atol=1e-6)
        return turned.voxels
    if isinstance(value, list):
        return [plain(item, world) for item in value]
    return value


@pytest.mark.requirement("everything is exact under oblique, sheared and anisotropic matrices")
@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize("name", ASKED)
def test_turned_axes_change_no_answer(name: str, kind: str) -> None:
    world = WORLDS[kind].copy()
    world[:3, 3] = -world[:3, :3] @ (np.array(SHAPE) / 2)
    expected = answer(name, world, "RAS")
    for turn in TURNS:
        found = answer(name, world, turn)
        if isinstance(expected, str | bool):
            assert found == expected
        elif name == "components":  # those of one size may stand in any order
            assert sizes(found) == sizes(expected)
        elif name == "on_side":  # a voxel that lies on the plane itself may fall to either side
            assert np.mean(np.not_equal(found, expected)) < 1e-3  # type: ignore[call-overload]
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=f"{name} {turn}")  # type: ignore[arg-type]


def sizes(components: object) -> list[int]:
    assert isinstance(components, list)
    return [int(np.count_nonzero(part)) for parts in components for part in parts]
