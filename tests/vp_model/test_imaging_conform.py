"""Turning axes never touches a value or its place; other grids agree with independent libraries."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from tests.vp_model.imaging_cases import worlds
from vp_model.imaging.conform import (
    cut,
    orientation,
    reduce,
    reorient,
    resample_spacing,
    resample_to,
    spaced_grid,
    turns,
)
from vp_model.imaging.grid import Grid, to_world
from vp_model.imaging.intensity import Image

TARGETS = ["".join(letters) for order in permutations(("LR", "PA", "IS")) for letters in product(*order)]


def image_of(world: NDArray[np.float64], seed: int = 0, shape: tuple[int, int, int] = (4, 5, 6)) -> Image:
    return Image(np.random.default_rng(seed).normal(size=shape).astype(np.float32), world)


@settings(max_examples=100, deadline=None)
@given(worlds(), st.sampled_from(TARGETS))
def test_every_voxel_keeps_its_value_and_its_place_under_any_turn(world: NDArray[np.float64], target: str) -> None:
    image = image_of(world)
    turned = reorient(image, target)
    assert sorted(turned.voxels.ravel()) == sorted(image.voxels.ravel())
    indices = np.argwhere(np.ones(turned.voxels.shape, bool))
    places = np.rint(to_world(to_world(indices, turned.world), np.linalg.inv(image.world))).astype(int)
    np.testing.assert_allclose(to_world(places, image.world), to_world(indices, turned.world), atol=1e-6)
    np.testing.assert_array_equal(turned.voxels.ravel(), image.voxels[tuple(places.T)])
    assert abs(np.linalg.det(turned.world[:3, :3])) == pytest.approx(abs(np.linalg.det(image.world[:3, :3])))


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_turning_there_and_back_is_the_identity(world: NDArray[np.float64]) -> None:
    image = image_of(world)
    back = reorient(reorient(image, "RAS"), orientation(image.world))
    np.testing.assert_array_equal(back.voxels, image.voxels)
    np.testing.assert_allclose(back.world, image.world, atol=1e-9)
    assert orientation(reorient(image, "RAS").world) == "RAS"


@settings(max_examples=100, deadline=None)
@given(worlds(shear=False), st.sampled_from(TARGETS))
def test_turning_agrees_with_nibabel(world: NDArray[np.float64], target: str) -> None:
    """Wherever nibabel's greedy matching and the best pairing name the same axes (all but extreme obliques)."""
    if nibabel.aff2axcodes(world) != tuple(orientation(world)):
        return
    image = image_of(world)
    reference = nibabel.Nifti1Image(image.voxels, world)
    reference = reference.as_reoriented(ornt_transform(io_orientation(world), axcodes2ornt(target)))
    turned = reorient(image, target)
    np.testing.assert_array_equal(turned.voxels, np.asarray(reference.dataobj))
    np.testing.assert_allclose(turned.world, reference.affine, atol=1e-9)


@pytest.mark.parametrize("target", ["", "RA", "RAX", "RLS", "RASI"])
def test_what_is_no_orientation_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="no orientation"):
        turns("RAS", target)


@settings(max_examples=40, deadline=None)
@given(worlds(shear=False), st.tuples(*[st.floats(0.5, 5.0)] * 3), st.integers(0, 99))
def test_other_voxel_sizes_keep_the_middle_and_agree_with_simpleitk(
    world: NDArray[np.float64], steps: tuple[float, float, float], seed: int
) -> None:
    image = image_of(world, seed, (6, 7, 8))
    grid = spaced_grid(image.grid, steps)
    np.testing.assert_allclose(grid.spacing, steps)
    middles = [to_world((np.asarray([item.shape]) - 1) / 2, item.world) for item in (grid, image.grid)]
    np.testing.assert_allclose(*middles, atol=1e-6)
    assert (np.asarray(grid.shape) * grid.spacing >= np.asarray(image.grid.shape) * image.grid.spacing - 1e-5).all()
    found = resample_to(image, grid, order=0)
    source = as_itk(image.voxels, image.world)
    target = as_itk(np.zeros(grid.shape, np.float32), grid.world)
    nearest = sitk.Resample(source, target, sitk.Transform(), sitk.sitkNearestNeighbor, float(image.voxels.min()))
    reference = sitk.GetArrayFromImage(nearest).transpose(2, 1, 0)
    relative = np.linalg.solve(image.world, grid.world)
    places = to_world(np.argwhere(np.ones(grid.shape, bool)), relative)
    clear = (np.abs(places - np.rint(places)) < 0.49).all(axis=1)  # halfway between two voxels either is right
    np.testing.assert_array_equal(found.voxels.ravel()[clear], reference.ravel()[clear])


def as_itk(voxels: NDArray[np.float32], world: NDArray[np.float64]) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    lengths = np.linalg.norm(world[:3, :3], axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((world[:3, :3] / lengths).ravel().tolist())
    image.SetOrigin(world[:3, 3].tolist())
    return image


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_a_linear_ramp_in_the_world_survives_resampling(world: NDArray[np.float64]) -> None:
    """Trilinear interpolation is exact for a linear function: any misplaced sample shows, shear included."""
    slope = np.array([0.7, -0.4, 0.9])
    indices = np.argwhere(np.ones((8, 8, 8), bool))
    ramp = (to_world(indices, world) @ slope).reshape(8, 8, 8).astype(np.float32)
    grid = spaced_grid(Grid((8, 8, 8), world), np.linalg.norm(world[:3, :3], axis=0) * 0.7)
    found = resample_to(Image(ramp, world), grid)
    places = np.argwhere(np.ones(grid.shape, bool))
    inner = to_world(places, np.linalg.solve(world, grid.world))
    inside = ((inner >= 0) & (inner <= 7)).all(axis=1)
    expected = to_world(places, grid.world) @ slope
    np.testing.assert_allclose(found.voxels.ravel()[inside], expected[inside], atol=2e-3)


def test_coarser_grids_average_what_lies_between() -> None:
    """A fine checkerboard becomes grey, not black or white by chance."""
    board = np.indices((24, 24, 24)).sum(axis=0) % 2
    coarse = resample_spacing(Image(board.astype(np.float32), np.eye(4)), 4.0)
    np.testing.assert_allclose(coarse.voxels[1:-1, 1:-1, 1:-1], 0.5, atol=0.05)


def test_reduction_is_the_mean_of_blocks() -> None:
    image = image_of(np.diag([1.0, 1.5, 4.0, 1.0]), shape=(7, 6, 5))
    found = reduce(image, 3.0)
    expected = ndimage.zoom(np.zeros((6, 6, 5)), 1)[:2, :3, :5] * 0
    for i, j, k in np.ndindex(2, 3, 5):
        expected[i, j, k] = image.voxels[3 * i : 3 * i + 3, 2 * j : 2 * j + 2, k].mean()
    np.testing.assert_allclose(found.voxels, expected, rtol=1e-5)
    np.testing.assert_allclose(to_world(np.array([[0, 0, 0]]), found.world)[0], (1.0, 0.75, 0.0))


@settings(max_examples=50, deadline=None)
@given(worlds(), st.tuples(*[st.integers(-3, 5)] * 3), st.tuples(*[st.integers(1, 8)] * 3))
def test_a_cut_beyond_the_image_is_numpy_padding(
    world: NDArray[np.float64], start: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    image = image_of(world)
    air = image.voxels.min()
    wide = np.pad(image.voxels, 16, constant_values=air)
    expected = wide[tuple(slice(16 + s, 16 + s + n) for s, n in zip(start, shape, strict=True))]
    found = cut(image, start, shape)
    np.testing.assert_array_equal(found.voxels, expected)
    np.testing.assert_allclose(found.world[:3, 3], to_world(np.array([start]), world)[0], atol=1e-6)


@pytest.mark.parametrize("steps", [0.0, -1.0, float("nan")])
def test_voxel_sizes_that_are_none_are_refused(steps: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        spaced_grid(Grid((3, 3, 3), np.eye(4)), steps)
    with pytest.raises(ValueError, match="too large"):
        resample_spacing(image_of(np.eye(4)), 1e-4)
