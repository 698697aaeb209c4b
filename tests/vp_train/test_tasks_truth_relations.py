"""Target programs that relate regions, or measure in slices, run, and give what is computed here from the masks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tests.vp_train.truth import SPACING, Truth, extents
from tests.vp_train.truth_cases import Voxels, cases, region, segmented, sessions, two, values, voxels_of

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis along which the slices of a plane are stacked."""


def places(truth: Truth, where: Voxels) -> NDArray[np.float64]:
    """RAS mm of the voxels' centres."""
    found: NDArray[np.float64] = np.argwhere(where) @ truth.world[:3, :3].T + truth.world[:3, 3]
    return found


def test_distances_are_those_of_the_nearest_voxels_and_of_the_centres() -> None:
    for example, truth, outcome in cases("distance between"):
        nearest, centres = [], []
        for session in sessions(example, truth):
            first, second = (places(truth, where) for where in two(example, truth, session, "first", "second"))
            nearest.append(float(cKDTree(first).query(second)[0].min()))
            centres.append(float(np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))))
        assert values(outcome, "distance") == pytest.approx(nearest), example.program
        assert values(outcome, "center distance") == pytest.approx(centres)


def test_directions_name_the_greatest_difference_of_the_centres() -> None:
    for example, truth, outcome in cases("direction between"):
        first, second = two(example, truth, sessions(example, truth)[-1], "first", "second")
        difference = places(truth, first).mean(axis=0) - places(truth, second).mean(axis=0)
        axis = int(np.abs(difference).argmax())
        word = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))[axis][int(difference[axis] > 0)]
        (said,) = [text.text for text in outcome.texts if text.topic == "location"]
        if np.abs(difference).max() > 10:
            assert said.startswith(word), (said, difference, example.program)


def test_measures_in_slices_are_those_of_the_masks() -> None:
    measured = set()
    for example, truth, outcome in cases("plane measure"):
        names = segmented(example)
        plane = PLANES[re.findall(r'"(axial|coronal|sagittal)"', example.program)[0]]
        across = [axis for axis in range(3) if axis != plane]
        there = [where for s in sessions(example, truth) if (where := region(example, truth, s)).any()]
        box = (
            len(names) == 1
            and "white matter lesion" not in names
            and names[0] in ("brainstem", "third ventricle", "brain")
        )
        box = box or (len(names) == 1 and names[0].startswith(("left", "right")))
        if found := values(outcome, "cross section"):
            area = np.prod([SPACING[axis] for axis in across])
            wanted = [where.sum(axis=tuple(across)).max() * area for where in there]
            assert found == pytest.approx(wanted)
            measured.add("area")
        if (found := values(outcome, "plane diameter")) and box:
            sizes = [extents(where) for where in there]
            assert found == pytest.approx([float(np.hypot(*(size[axis] for axis in across))) for size in sizes])
            measured.add("diameter")
        for name in ("perpendicular diameter", "bidimensional product"):
            if (found := values(outcome, name)) and box:
                diagonals = [float(np.hypot(*(extents(where)[axis] for axis in across))) for where in there]
                sides = [min(extents(where)[axis] for axis in across) for where in there]
                for value, diagonal, side in zip(found, diagonals, sides, strict=True):
                    short = value if name == "perpendicular diameter" else value / diagonal
                    assert 0.5 * side <= short <= diagonal * (1 + 1e-6)
                measured.add("short")
    assert measured


def test_extreme_intensities_are_those_of_the_images_in_the_masks() -> None:
    for example, truth, outcome in cases("extreme intensity"):
        operation, image = re.findall(r"(min|max)_intensity\(roi, (v\d)\)", example.program)[0]
        where = region(example, truth, truth.session(image))
        if where.any():
            inside = voxels_of(truth, image, where)
            wanted = float(inside.max() if operation == "max" else inside.min())
            assert values(outcome, "maximum intensity" if operation == "max" else "minimum intensity") == [wanted]
