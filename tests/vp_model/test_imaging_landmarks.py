"""Which landmark a point is nearest to."""

from __future__ import annotations

import numpy as np
import pytest

from vp_model.imaging.landmarks import Landmarks


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_between_two_landmarks_that_are_equally_near_the_first_counts_however_the_axes_lie(
    order: tuple[int, int, int], mirrored: bool
) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[0], labels[4] = 2, 1
    world = np.eye(4)
    turned = np.transpose(labels, order)
    matrix = np.eye(4)
    matrix[:3, :3] = world[:3, :3][:, list(order)]
    if mirrored:
        turned = turned[::-1]
        matrix[:3, 3] += matrix[:3, 0] * (turned.shape[0] - 1)
        matrix[:3, 0] *= -1
    found = Landmarks(("one", "other"), np.ascontiguousarray(turned), matrix)
    points = np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 2.0], [3.0, 2.0, 2.0]])
    assert found.nearest(points, ("one", "other")) == ["one", "other", "one"]
    assert found.nearest(points, ("other",)) == ["other"] * 3
    assert found.nearest(points, ("none",)) == []
