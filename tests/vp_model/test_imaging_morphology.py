"""Morphology against scipy, scikit-image and SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage import measure, morphology

from tests.vp_model.imaging_cases import masks, region, worlds
from vp_model.imaging import morphology as ours
from vp_model.imaging.grid import shifted, to_world

few = settings(max_examples=40, deadline=None)
radii = st.floats(0.3, 6.0)


def near(mask: NDArray[np.bool_], world: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """By definition: centres within the radius of a centre in the mask, all pairs compared."""
    everywhere = to_world(np.argwhere(np.ones_like(mask)), world)
    distances = cdist(everywhere, to_world(np.argwhere(mask), world)).min(axis=1)
    result: NDArray[np.bool_] = (distances <= radius + 1e-6).reshape(mask.shape)
    return result


@few
@given(masks(), worlds(), radii)
def test_dilation_reaches_exactly_the_radius_on_any_lattice(
    mask: NDArray[np.bool_], world: NDArray[np.float64], radius: float
) -> None:
    assert np.array_equal(ours.dilate(region(mask, world), radius).full(), near(mask, world, radius))


@few
@given(masks(), worlds(), radii)
def test_erosion_is_the_dilation_of_the_background(
    mask: NDArray[np.bool_], world: NDArray[np.float64], radius: float
) -> None:
    padded = np.pad(mask, 1)
    expected = ~near(~padded, shifted(world, (-1, -1, -1)), radius)[1:-1, 1:-1, 1:-1]
    assert np.array_equal(ours.erode(region(mask, world), radius).full(), expected)


@pytest.mark.parametrize("radius", [1.0, 2.0, 4.0])
def test_a_gantry_tilt_is_respected_by_the_direct_and_the_spectral_way(radius: float) -> None:
    world = np.diag([0.6, 0.7, 1.5, 1.0])
    world[1, 2] = 0.5
    mask = np.random.default_rng(3).random((14, 15, 9)) < 0.02
    assert (np.count_nonzero(ours._ball(world, radius)) > ours.DIRECT_BALL) == (radius == 4.0)
    assert np.array_equal(ours.dilate(region(mask, world), radius).full(), near(mask, world, radius))
    assert ours.working_bytes(region(mask, world), radius) > mask.size * 48


@few
@given(masks(), st.integers(1, 2))
def test_isotropic_morphology_agrees_with_scikit_image(mask: NDArray[np.bool_], radius: int) -> None:
    ball = morphology.ball(radius).astype(bool)
    wide = np.pad(mask, 2 * radius + 1)
    for function, reference in (
        (ours.dilate, ndimage.binary_dilation),
        (ours.erode, ndimage.binary_erosion),
        (ours.opening, ndimage.binary_opening),
        (ours.closing, ndimage.binary_closing),
    ):
        assert np.array_equal(function(region(wide), radius).full(), reference(wide, structure=ball)), function


@few
@given(masks(), worlds(), radii)
def test_closing_contains_and_opening_is_contained(
    mask: NDArray[np.bool_], world: NDArray[np.float64], radius: float
) -> None:
    opened = ours.opening(region(mask, world), radius).full()
    closed = ours.closing(region(mask, world), radius).full()
    assert not (opened & ~mask).any()
    assert not (mask & ~closed).any()


@few
@given(masks(), worlds(), radii)
def test_surrounding_is_the_dilation_without_the_region(
    mask: NDArray[np.bool_], world: NDArray[np.float64], radius: float
) -> None:
    ring = ours.surrounding(region(mask, world), radius).full()
    assert np.array_equal(ring, near(mask, world, radius) & ~mask)


@few
@given(masks())
def test_components_agree_with_scikit_image(mask: NDArray[np.bool_]) -> None:
    labels = measure.label(mask, connectivity=3)
    sizes = sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)
    parts = ours.components(region(mask))
    assert [part.count for part in parts] == sizes
    assert np.array_equal(sum(part.full().astype(int) for part in parts), mask.astype(int))
    for part in parts:
        assert len(np.unique(labels[part.full()])) == 1
    assert ours.largest(region(mask)).count == sizes[0]
    assert ours.component_sizes(region(mask))[0] == len(sizes)


@few
@given(masks(), worlds(), st.floats(0.5, 20))
def test_filters_by_size_split_the_region(mask: NDArray[np.bool_], world: NDArray[np.float64], limit: float) -> None:
    found = region(mask, world)
    large, small = ours.larger_than(found, limit), ours.smaller_than(found, limit)
    voxel = found.grid.voxel_volume
    parts = ours.components(found)
    assert large.count == sum(part.count for part in parts if part.count * voxel > limit)
    assert small.count == sum(part.count for part in parts if part.count * voxel < limit)


@few
@given(masks())
def test_filling_agrees_with_simpleitk(mask: NDArray[np.bool_]) -> None:
    image = SimpleITK.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    filled = SimpleITK.GetArrayFromImage(SimpleITK.BinaryFillhole(image, fullyConnected=False))
    assert np.array_equal(ours.fill(region(mask)).full(), filled[1:-1, 1:-1, 1:-1].astype(bool))


@few
@given(masks(), worlds(shear=False))
def test_distance_map_agrees_with_all_pairs(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    distances = ours.distance_map(region(mask, world))
    everywhere = to_world(np.argwhere(np.ones_like(mask)), world)
    outside = cdist(everywhere, to_world(np.argwhere(mask), world)).min(axis=1).reshape(mask.shape)
    assert np.allclose(distances[~mask], outside[~mask], atol=1e-3)
    assert (distances[mask] < 0).all()


def test_distance_map_refuses_sheared_axes() -> None:
    world = np.eye(4)
    world[1, 2] = 0.4
    with pytest.raises(ValueError, match="orthogonal"):
        ours.distance_map(region(np.ones((3, 3, 3), np.bool_), world))


@few
@given(masks(), masks(), worlds(), st.tuples(*[st.integers(-4, 4)] * 3))
def test_set_operations_are_exact_on_one_lattice(
    one: NDArray[np.bool_], two: NDArray[np.bool_], world: NDArray[np.float64], start: tuple[int, int, int]
) -> None:
    first, second = region(one, world), region(two, shifted(world, start))
    here = {tuple(index) for index in np.argwhere(one)}
    there = {tuple(np.add(index, start)) for index in np.argwhere(two)}
    assert ours.union(first, second).count == len(here | there)
    assert ours.intersection(first, second).count == len(here & there)
    assert ours.difference(first, second).count == len(here - there)


def test_operations_on_an_empty_region_give_an_empty_region() -> None:
    empty = region(np.zeros((4, 4, 4), np.bool_))
    for function in (ours.dilate, ours.erode, ours.opening, ours.closing, ours.surrounding):
        assert function(empty, 3).empty
    assert ours.fill(empty).empty
    assert ours.largest(empty).empty
    assert ours.components(empty) == ()
    assert ours.union(empty, empty).empty
    assert np.isinf(ours.distance_map(empty)).all()
