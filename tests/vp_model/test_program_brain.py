"""Programs on a real head's label map: sides are the patient's, and numbers are those of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vp_model.program_cases import MODEL
from vp_model.imaging.intensity import Image
from vp_model.outcome import InputVolume, Outcome, Step
from vp_model.program.environment import ProgramEnvironment, Target
from vp_model.program.results import build_outcome

LABELS = {"left hippocampus": 17, "right hippocampus": 53, "left lateral ventricle": 4, "right lateral ventricle": 43}
TARGETS = {
    "hippocampus": Target("hippocampus", ("left", "right")),
    "left lateral ventricle": Target("lateral ventricle", ("left",)),
    "right lateral ventricle": Target("lateral ventricle", ("right",)),
}


class Truth:
    """A vision network that knows the labels."""

    def __init__(self, labels: Mapping[str, NDArray[np.int16]]) -> None:
        self.labels = labels

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        return {volume: (self.labels[volume] == LABELS[name]).astype(np.float32) for volume in volumes}

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(volumes), 8), np.float32)


@pytest.fixture(scope="module")
def head(shared_data: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    path = shared_data / "brains" / "synthseg_01_seg.nii.gz"
    if not path.is_file():
        pytest.skip("The label maps are absent from the shared data.")
    image = nibabel.nifti1.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj, dtype=np.int16), np.asarray(image.affine, dtype=np.float64)


def run(code: str, labels: NDArray[np.int16], world: NDArray[np.float64]) -> Outcome:
    """The head at full resolution and, in the same session, with only every fourth slice."""
    world_thick = world.copy()
    world_thick[:3, 2] *= 4
    given = {"v1": labels, "v2": labels[:, :, ::4].copy()}
    images = {
        "v1": Image(labels.astype(np.float32), world),
        "v2": Image(given["v2"].astype(np.float32), world_thick),
    }
    volumes = [InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "FLAIR", "2024-03-01", 0)]
    environment = ProgramEnvironment(volumes, images, Truth(given), TARGETS)
    result = environment.step(code)
    assert result.error == ""
    return build_outcome(environment, "", [Step(code, result.output)], MODEL)


def test_volumes_and_sides_are_those_of_the_labels(head: tuple[NDArray[np.int16], NDArray[np.float64]]) -> None:
    labels, world = head
    outcome = run(
        """\
task("volume comparison")
roi = segment("hippocampus", v1<MOD>)
show(roi)
report("volume", volume(roi))
left = segment("left lateral ventricle", v1<MOD>)
right = segment("right lateral ventricle", v1<MOD>)
show(left)
show(right)
report("volume asymmetry", asymmetry(volume(left), volume(right)))
report("center of mass", center_of_mass(left))
""",
        labels,
        world,
    )
    voxel = abs(np.linalg.det(world[:3, :3])) / 1000
    count = {name: int((labels == label).sum()) for name, label in LABELS.items()}
    found = {measurement.name: measurement for measurement in outcome.measurements}
    both = count["left hippocampus"] + count["right hippocampus"]
    assert found["volume"].value == pytest.approx(both * voxel)
    one, other = count["left lateral ventricle"], count["right lateral ventricle"]
    assert found["volume asymmetry"].value == pytest.approx(200 * (one - other) / (one + other))
    assert found["volume asymmetry"].side == "both"
    for mask in outcome.masks:
        assert np.array_equal(mask.voxels, labels == LABELS[mask.label])
        centre = (np.argwhere(mask.voxels) @ world[:3, :3].T + world[:3, 3]).mean(axis=0)
        middle = (np.argwhere(labels > 0) @ world[:3, :3].T + world[:3, 3]).mean(axis=0)
        assert (centre[0] < middle[0]) == (mask.side == "left")


def test_a_thick_volume_of_the_same_session_changes_volumes_little(
    head: tuple[NDArray[np.int16], NDArray[np.float64]],
) -> None:
    labels, world = head
    code = 'roi = segment("hippocampus", {})\nshow(roi)\nreport("volume", volume(roi))\n'
    alone = run(code.format("v1<MOD>"), labels, world)
    together = run(code.format("v1<MOD>, v2<MOD>"), labels, world)
    assert [mask.volume for mask in together.masks] == ["v1", "v2", "v1", "v2"]
    before, after = alone.measurements[0].value, together.measurements[0].value
    assert before <= after < 1.35 * before  # the maximum never loses, and adds a rim of interpolation
    sizes = [mask.voxels.sum() * abs(np.linalg.det(mask.world)) / 1000 for mask in together.masks]
    assert sizes[0] + sizes[2] == pytest.approx(after)
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)  # majority of each 4 mm voxel
    assert sizes[3] == pytest.approx(sizes[2], rel=0.2)
