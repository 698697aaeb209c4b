"""Grids, regions on grids, and the merge of a session's volumes."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vp_model.imaging_cases import ellipsoid, masks, region, worlds
from vp_model.imaging.grid import Grid, coverage, lattice_offset, resample, shifted, to_world, voxel_volume
from vp_model.imaging.merge import merge_probabilities
from vp_model.imaging.region import crop_region, region_from_mask

few = settings(max_examples=40, deadline=None)


def itk_image(voxels: NDArray[np.float32], world: NDArray[np.float64]) -> SimpleITK.Image:
    """The same image for SimpleITK; coordinates are left in RAS, which it does not mind."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    spacing = np.linalg.norm(world[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((world[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(world[:3, 3].tolist())
    return image


@few
@given(worlds())
def test_voxel_volume_is_the_spanned_parallelepiped(world: NDArray[np.float64]) -> None:
    a, b, c = world[:3, :3].T
    assert voxel_volume(world) == pytest.approx(abs(np.dot(a, np.cross(b, c))))


@few
@given(worlds(), st.tuples(*[st.integers(-7, 7)] * 3))
def test_a_shifted_lattice_is_recognised_with_its_offset(
    world: NDArray[np.float64], start: tuple[int, int, int]
) -> None:
    assert lattice_offset(shifted(world, start), world, (30, 30, 30)) == start
    half = shifted(world, start)
    half[:3, 3] += world[:3, :3] @ [0.5, 0, 0]
    assert lattice_offset(half, world, (30, 30, 30)) is None


@few
@given(worlds(shear=False), worlds(shear=False), st.integers(0, 2**32 - 1))
def test_resampling_agrees_with_simpleitk(source: NDArray[np.float64], target: NDArray[np.float64], seed: int) -> None:
    voxels = np.random.default_rng(seed).random((7, 8, 9)).astype(np.float32)
    centre = to_world(np.array([[3.0, 3.5, 4.0]]), source)[0]
    target = target.copy()
    target[:3, 3] = centre - target[:3, :3] @ [2.2, 1.9, 2.4]
    ours = resample(voxels, source, Grid((5, 4, 6), target))
    reference = itk_image(np.zeros((5, 4, 6), np.float32), target)
    theirs = SimpleITK.Resample(itk_image(voxels, source), reference, SimpleITK.Transform(), SimpleITK.sitkLinear, 0.0)
    # At the border of the field of view the two define "outside" differently: compare inside.
    indices = np.linalg.solve(source, target @ np.insert(np.indices((5, 4, 6)).reshape(3, -1), 3, 1, axis=0))[:3]
    inside = np.all((indices > 0.01) & (indices < np.array([[5.99], [6.99], [7.99]])), axis=0).reshape(5, 4, 6)
    assert np.allclose(ours[inside], SimpleITK.GetArrayFromImage(theirs).T[inside], atol=1e-4)


@few
@given(masks(), worlds())
def test_a_region_keeps_every_voxel_and_its_volume(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    found = region(mask, world)
    assert np.array_equal(found.full(), mask)
    assert found.volume == pytest.approx(mask.sum() * abs(np.linalg.det(world[:3, :3])))
    centres = to_world(np.argwhere(mask), world)
    assert np.allclose(np.sort(found.points(), axis=0), np.sort(centres, axis=0))


@few
@given(masks(), worlds(), st.tuples(*[st.integers(-3, 3)] * 3))
def test_a_region_moves_exactly_between_grids_of_one_lattice(
    mask: NDArray[np.bool_], world: NDArray[np.float64], start: tuple[int, int, int]
) -> None:
    wide = Grid(tuple(size + 8 for size in mask.shape), shifted(world, (-4, -4, -4)))  # type: ignore[arg-type]
    there = region(mask, world).on(wide)
    assert np.array_equal(there.full()[4:-4, 4:-4, 4:-4], mask)
    cut = Grid((4, 4, 4), shifted(world, start))
    expected = there.full()[tuple(slice(4 + first, 8 + first) for first in start)]
    assert np.array_equal(there.on(cut).full(), expected)


def test_a_region_keeps_its_volume_on_a_coarser_oblique_grid() -> None:
    world = np.diag([1.0, 1.0, 1.0, 1.0])
    mask = ellipsoid((14, 12, 10), world, (40, 40, 40))
    coarse = np.array([[2.0, 0.3, 0, -3], [-0.3, 2.0, 0, 2], [0, 0, 5.0, -4], [0, 0, 0, 1]])
    moved = region(mask, world).on(Grid((24, 24, 12), coarse))
    assert moved.volume == pytest.approx(mask.sum(), rel=0.03)


@few
@given(masks(), worlds())
def test_coverage_of_the_own_grid_is_the_mask(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    shape = (int(mask.shape[0]), int(mask.shape[1]), int(mask.shape[2]))
    assert np.allclose(coverage(np.pad(mask, 1), shifted(world, (-1, -1, -1)), Grid(shape, world)), mask, atol=1e-3)


def test_an_empty_mask_is_an_empty_region_everywhere() -> None:
    empty = region_from_mask(np.zeros((4, 5, 6), np.bool_), np.eye(4))
    assert empty.empty
    assert empty.volume == 0
    assert not empty.full().any()
    assert empty.on(Grid((3, 3, 3), 2 * np.eye(4))).empty
    assert crop_region(empty.grid, (0, 0, 0), np.zeros((0, 0, 0), np.bool_)).empty


@few
@given(worlds(), st.integers(0, 2**32 - 1))
def test_merge_on_one_grid_is_the_maximum(world: NDArray[np.float64], seed: int) -> None:
    chance = np.random.default_rng(seed)
    one, other = chance.random((2, 6, 7, 5)).astype(np.float32)
    merged = merge_probabilities([(one, world), (other, world)])
    assert np.array_equal(merged.full(), np.maximum(one, other) > 0.5)


@few
@given(worlds(shear=False), worlds(shear=False), st.integers(0, 2**32 - 1))
def test_merge_on_different_grids_is_the_resampled_maximum_on_the_finest(
    one: NDArray[np.float64], other: NDArray[np.float64], seed: int
) -> None:
    """Against the plain way: everything resampled to the whole extended grid, then compared."""
    chance = np.random.default_rng(seed)
    first = np.pad(chance.random((6, 7, 5)).astype(np.float32) ** 3, 1)
    second = np.pad(chance.random((4, 5, 6)).astype(np.float32) ** 3, 1)
    middle = to_world(np.array([[4.0, 4.0, 3.0]]), one)[0]
    other = other.copy()
    other[:3, 3] = middle - other[:3, :3] @ [3.0, 3.0, 4.0]
    merged = merge_probabilities([(first, one), (second, other)])
    values, world = (first, one) if voxel_volume(one) <= voxel_volume(other) else (second, other)
    assert merged.grid.voxel_volume == pytest.approx(voxel_volume(world))
    resampled = [resample(array, matrix, merged.grid) for array, matrix in ((first, one), (second, other))]
    expected = np.maximum(*resampled) > 0.5
    assert np.mean(merged.full() != expected) < 2e-3  # values within rounding of 0.5
    offset = lattice_offset(world, merged.grid.world, values.shape)  # type: ignore[arg-type]
    assert offset is not None


def test_merge_keeps_what_only_the_coarse_volume_saw() -> None:
    fine = np.zeros((10, 10, 10), np.float32)
    coarse = np.zeros((10, 10, 10), np.float32)
    coarse[6:9, 3:7, 3:7] = 1.0  # 6 mm × 8 mm × 8 mm, beyond the fine volume's 9.5 mm
    world = np.diag([2.0, 2.0, 2.0, 1.0])
    world[:3, 3] = 0.3
    merged = merge_probabilities([(fine, np.eye(4)), (coarse, world)])
    assert merged.grid.voxel_volume == pytest.approx(1.0)
    assert merged.volume == pytest.approx(6 * 8 * 8, rel=0.1)
    assert merged.points()[:, 0].min() > 10
