"""Cross-sections on oblique, anisotropic and sheared grids; distances on sheared ones; relations on any lattice."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tests.vp_model.imaging_cases import ellipsoid, masks, region, worlds
from vp_model.imaging.grid import to_world
from vp_model.imaging.morphology import dilate
from vp_model.imaging.plane import PLANES, largest_section, plane_diameters, slice_axis
from vp_model.imaging.relation import apart_from, boundary, near, on_side, touching
from vp_model.imaging.shape import EmptyRegionError, center_of_mass, longest_diameter
from vp_model.program.grids import distances


@settings(max_examples=60, deadline=None)
@given(masks(), worlds(), st.sampled_from(sorted(PLANES)))
def test_diameters_are_those_of_all_pairs_of_corners_within_a_slice(
    mask: NDArray[np.bool_], world: NDArray[np.float64], plane: str
) -> None:
    axis = slice_axis(world, plane)
    offsets = np.insert(np.array(list(product((-0.5, 0.5), repeat=2))), axis, 0.0, axis=1)
    longest, areas = 0.0, []
    for index in range(mask.shape[axis]):
        found = np.argwhere(mask)
        found = found[found[:, axis] == index]
        areas.append(len(found))
        if len(found):
            corners = to_world((found[:, None] + offsets).reshape(-1, 3), world)
            longest = max(longest, float(cdist(corners, corners).max()))
    result = plane_diameters(region(mask, world), plane)
    assert result.long == pytest.approx(longest)
    ends = [np.subtract(*pair) for pair in (result.long_ends, result.short_ends)]
    assert np.linalg.norm(ends[0]) == pytest.approx(result.long)
    assert np.linalg.norm(ends[1]) == pytest.approx(result.short)
    assert abs(float(ends[0] @ ends[1])) < 1e-6 * result.long * max(result.short, 1.0)
    assert 0 < result.short <= result.long + 1e-9 <= longest_diameter(region(mask, world))[0] + 1e-6
    area, index = largest_section(region(mask, world), plane)
    sides = np.delete(world[:3, :3], axis, axis=1)
    assert area == pytest.approx(max(areas) * np.linalg.norm(np.cross(sides[:, 0], sides[:, 1])))
    assert areas[index] == max(areas)


def test_diameters_of_an_ellipsoid_are_its_axes_however_it_was_scanned() -> None:
    """Oblique by 20° and sheared by 10°: slices cut it a little askew, and its axes come out within two voxels."""
    world = np.eye(4)
    tilt = np.radians(20)
    world[:3, :3] = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    for shear in (0.0, np.tan(np.radians(10))):
        world[:3, 2] += shear * world[:3, 1]
        found = plane_diameters(region(ellipsoid((20, 12, 12), world, (50, 40, 40)), world), "axial")
        assert found.long == pytest.approx(40, abs=2)
        assert found.short == pytest.approx(24, abs=2)
        assert found.product == pytest.approx(found.long * found.short)


def test_an_empty_region_has_no_cross_section() -> None:
    empty = region(np.zeros((3, 3, 3), bool))
    for function in (plane_diameters, largest_section):
        with pytest.raises(EmptyRegionError):
            function(empty, "axial")


@settings(max_examples=25, deadline=None)
@given(masks(), worlds())
def test_distances_agree_with_all_pairs_on_any_axes(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    """Exact on orthogonal axes; on sheared ones an interpolation, off by less than two of the finest steps."""
    given = region(mask, world)
    indices = np.argwhere(np.ones(mask.shape, bool))
    pairs = cdist(to_world(indices, world), to_world(np.argwhere(mask), world)).min(axis=1).reshape(mask.shape)
    found = distances(given)
    axes = world[:3, :3] / given.grid.spacing
    exact = np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4
    outside = ~mask & (pairs > 0)
    tolerance = 1e-3 if exact else 1.8 * float(given.grid.spacing.max())
    np.testing.assert_allclose(found[outside], pairs[outside], atol=tolerance)


@settings(max_examples=50, deadline=None)
@given(masks(), masks(), worlds(), st.floats(0.5, 12))
def test_what_is_near_is_what_the_dilation_reaches(
    mask: NDArray[np.bool_], other: NDArray[np.bool_], world: NDArray[np.float64], radius: float
) -> None:
    shape = tuple(max(pair) for pair in zip(mask.shape, other.shape, strict=True))
    one, two = (np.zeros(shape, bool) for _ in range(2))
    one[tuple(map(slice, mask.shape))], two[tuple(map(slice, other.shape))] = mask, other
    found = near(region(one, world), region(two, world), radius).full()
    np.testing.assert_array_equal(found, one & dilate(region(two, world), radius).full())
    beside, apart = (function(region(one, world), region(two, world)).full() for function in (touching, apart_from))
    np.testing.assert_array_equal(beside | apart, one)
    assert not (beside & apart).any() and (beside & two).sum() == (one & two).sum()


@settings(max_examples=50, deadline=None)
@given(masks(), worlds())
def test_halves_on_both_sides_of_the_centre_make_the_whole(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    whole = region(mask, world)
    middle = center_of_mass(whole)
    for axis, pair in enumerate((("left", "right"), ("anterior", "posterior"), ("superior", "inferior"))):
        parts = [on_side(whole, word, middle).count for word in pair]
        assert sum(parts) == np.count_nonzero(whole.points()[:, axis] != middle[axis])
    assert 0 < boundary(whole).count <= whole.count
