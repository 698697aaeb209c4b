"""Shape measures against definitions, SimpleITK and scikit-image."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import pdist
from skimage import measure

from tests.vp_model.imaging_cases import ellipsoid, masks, region, worlds
from vp_model.imaging import shape
from vp_model.imaging.grid import to_world

few = settings(max_examples=40, deadline=None)


def corners_of(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> NDArray[np.float64]:
    offsets = np.array(list(product((-0.5, 0.5), repeat=3)))
    return to_world((np.argwhere(mask)[:, None] + offsets).reshape(-1, 3), world)


@few
@given(masks(), worlds())
def test_extents_and_box_are_those_of_the_voxel_corners(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    corners = corners_of(mask, world)
    low, high = shape.bounding_box(region(mask, world))
    assert np.allclose(low, corners.min(axis=0))
    assert np.allclose(high, corners.max(axis=0))
    for axis in range(3):
        length, (first, last) = shape.extent(region(mask, world), axis)
        assert length == pytest.approx(np.ptp(corners[:, axis]))
        assert np.linalg.norm(np.subtract(first, last)) == pytest.approx(length)


@few
@given(masks(), worlds())
def test_longest_diameter_is_the_greatest_distance_of_all_pairs_of_corners(
    mask: NDArray[np.bool_], world: NDArray[np.float64]
) -> None:
    mask = mask[:6, :6, :6]
    if not mask.any():
        mask[0, 0, 0] = True
    length, ends = shape.longest_diameter(region(mask, world))
    assert length == pytest.approx(pdist(np.unique(corners_of(mask, world).round(6), axis=0)).max(), abs=1e-4)
    assert np.linalg.norm(np.subtract(*ends)) == pytest.approx(length)


@few
@given(masks(), worlds())
def test_center_of_mass_agrees_with_scipy(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    expected = to_world(np.array([ndimage.center_of_mass(mask)]), world)[0]
    assert np.allclose(shape.center_of_mass(region(mask, world)), expected)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 3), (0.7, 1.2, 2.0)])
@pytest.mark.parametrize("radii", [(12, 12, 12), (18, 10, 8)])
def test_surface_area_agrees_with_theory_simpleitk_and_marching_cubes(
    spacing: tuple[float, float, float], radii: tuple[float, float, float]
) -> None:
    world = np.diag([*spacing, 1.0])
    mask = ellipsoid(radii, world, tuple(int(44 / size) for size in spacing))  # type: ignore[arg-type]
    area = shape.surface_area(region(mask, world))
    a, b, c = radii
    p = 1.6075  # Knud Thomsen's formula, within 1.1 %
    theory = 4 * np.pi * (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p)
    assert area == pytest.approx(theory, rel=0.04)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(mask.T).astype(np.uint8))
    image.SetSpacing([float(size) for size in spacing])
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.Execute(image)
    # SimpleITK weights the directions for anisotropic voxels more coarsely, and is the further from theory there.
    assert area == pytest.approx(statistics.GetPerimeter(1), rel=0.04 if len(set(spacing)) == 1 else 0.1)
    smooth = ndimage.gaussian_filter(mask.astype(float), [1.0 / size for size in spacing])
    vertices, faces, _, _ = measure.marching_cubes(smooth, 0.5, spacing=spacing)
    assert area == pytest.approx(measure.mesh_surface_area(vertices, faces), rel=0.06)


def test_surface_area_does_not_depend_on_how_the_volume_was_cut() -> None:
    tilted = np.diag([1.0, 1.0, 2.0, 1.0])
    tilted[1, 2] = 0.7
    sphere = ellipsoid((12, 12, 12), tilted, (40, 70, 20))
    assert shape.surface_area(region(sphere, tilted)) == pytest.approx(4 * np.pi * 144, rel=0.05)


def test_oriented_extents_follow_the_region_not_the_axes() -> None:
    angle = np.radians(30)
    world = np.eye(4)
    world[:2, :2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mask = np.zeros((40, 20, 20), np.bool_)
    mask[5:35, 5:15, 8:12] = True
    lengths, axes = shape.oriented_extents(region(mask, world))
    assert lengths == pytest.approx((30, 10, 4), abs=1e-6)
    assert abs(axes[:, 0] @ world[:3, 0]) == pytest.approx(1)


@pytest.mark.parametrize(
    "function",
    [
        shape.center_of_mass,
        shape.bounding_box,
        shape.longest_diameter,
        shape.surface_area,
        shape.oriented_extents,
    ],
)
def test_an_empty_region_has_no_shape(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(shape.EmptyRegionError, match="empty"):
        function(region(np.zeros((4, 4, 4), np.bool_)))
