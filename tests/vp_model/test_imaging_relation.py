"""Relations of regions against SimpleITK and all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tests.vp_model.imaging_cases import masks, region, worlds
from vp_model.imaging import relation
from vp_model.imaging.grid import shifted, to_world
from vp_model.imaging.shape import EmptyRegionError

few = settings(max_examples=40, deadline=None)


@few
@given(masks(), worlds())
def test_overlap_agrees_with_simpleitk(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    other = np.roll(mask, 1, axis=0)
    measures = SimpleITK.LabelOverlapMeasuresImageFilter()
    images = [SimpleITK.GetImageFromArray(array.astype(np.uint8)) for array in (mask, other)]
    measures.Execute(*images)
    first, second = region(mask, world), region(other, world)
    assert relation.dice(first, second) == pytest.approx(measures.GetDiceCoefficient(1))
    assert relation.share_inside(first, second) == pytest.approx((mask & other).sum() / mask.sum())


@few
@given(masks(), masks(), worlds())
def test_gap_is_the_smallest_distance_of_all_pairs(
    mask: NDArray[np.bool_], other: NDArray[np.bool_], world: NDArray[np.float64]
) -> None:
    moved = shifted(world, (12, -3, 4))
    distance, ends = relation.gap(region(mask, world), region(other, moved))
    pairs = cdist(to_world(np.argwhere(mask), world), to_world(np.argwhere(other), moved))
    assert distance == pytest.approx(pairs.min())
    assert np.linalg.norm(np.subtract(*ends)) == pytest.approx(distance)


def test_directions_are_the_patients() -> None:
    cube = np.ones((2, 2, 2), np.bool_)
    here = region(cube)
    there = region(cube, shifted(np.eye(4), (-20, 3, 30)))
    assert relation.direction(there, here) == ("superior", "left")
    assert relation.direction(here, there) == ("inferior", "right")


def test_the_component_at_a_position_is_the_nearest() -> None:
    mask = np.zeros((20, 5, 5), np.bool_)
    mask[2:4], mask[12:18] = True, True
    assert relation.component_at(region(mask), (3.0, 2.0, 2.0)).count == 50
    assert relation.component_at(region(mask), (10.0, 2.0, 2.0)).count == 150


def test_relations_of_empty_regions_are_defined_or_refused() -> None:
    empty, full = region(np.zeros((3, 3, 3), np.bool_)), region(np.ones((3, 3, 3), np.bool_))
    assert relation.dice(empty, empty) == 1
    assert relation.dice(empty, full) == relation.share_inside(empty, full) == 0
    with pytest.raises(EmptyRegionError):
        relation.gap(empty, full)
    with pytest.raises(EmptyRegionError):
        relation.component_at(empty, (0, 0, 0))
