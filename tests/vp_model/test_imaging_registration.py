"""Registration finds a known motion, across contrasts, thickness and shear, and says how well it went."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vp_model.imaging.grid import Grid, resample, to_world
from vp_model.imaging.intensity import Image
from vp_model.imaging.registration import RegistrationError, register


def phantom(contrast: tuple[float, float, float, float] = (0.9, 0.6, 0.8, 0.15)) -> Image:
    """A head of 150 mm: scalp, skull, brain with folded grey matter, ventricles, and nothing symmetric about it."""
    points = np.stack(np.meshgrid(*[np.arange(-84.0, 84.0, 2.0)] * 3, indexing="ij"), axis=-1)

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (((points - centre) / np.asarray(radii)) ** 2).sum(-1) < 1
        return inside

    scalp, grey, white, fluid = contrast
    chance = np.random.default_rng(3)
    folds = ndimage.gaussian_filter(chance.standard_normal(points.shape[:3]), 3)
    image = np.zeros(points.shape[:3], dtype=np.float32)
    image[ball((0, 0, 0), (72, 80, 76))] = scalp
    image[ball((0, 0, 2), (66, 75, 70))] = 0.05
    brain = ball((0, 2, 5), (60, 70, 62))
    image[brain] = np.where(folds[brain] > 0, grey, white)
    image[ball((-10, 5, 8), (6, 24, 9)) | ball((11, 3, 9), (7, 26, 10)) | ball((30, -20, -10), (9, 7, 8))] = fluid
    image[ball((0, 78, -12), (9, 14, 12))] = scalp
    image += 0.01 * chance.standard_normal(image.shape).astype(np.float32)
    world = np.diag([2.0, 2.0, 2.0, 1.0])
    world[:3, 3] = (-80, -100, -50)
    return Image(ndimage.gaussian_filter(image, 0.5), world)


def motion(about: NDArray[np.float64], seed: int, degrees: float = 10, shift: float = 12) -> NDArray[np.float64]:
    chance = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", chance.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    matrix[:3, 3] = about - matrix[:3, :3] @ about + chance.uniform(-shift, shift, 3)
    return matrix


def middle(scan: Image) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = to_world((np.array(scan.voxels.shape)[None] - 1) / 2, scan.world)[0]
    return centre


def displaced(scan: Image, transform: NDArray[np.float64], step: tuple[float, float, float] = (1, 1, 1)) -> Image:
    """The scan of the head after it moved by `transform`, on a grid with steps `step` times as large."""
    factors = np.asarray(step)
    world = np.array(scan.world)
    world[:3, :3] = scan.world[:3, :3] * factors
    shape = np.ceil(np.asarray(scan.voxels.shape) / factors).astype(int)
    smooth = ndimage.gaussian_filter(scan.voxels, np.where(factors > 1, factors / 3, 0))
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), world)
    return Image(resample(smooth, transform @ scan.world, grid, outside=float(scan.voxels.min())), world)


def error(expected: NDArray[np.float64], found: NDArray[np.float64], about: NDArray[np.float64]) -> float:
    """Largest distance in mm over the head between two transforms."""
    points = about + np.array(np.meshgrid(*[(-50, 50)] * 3)).reshape(3, -1).T
    return float(np.linalg.norm(to_world(points, expected) - to_world(points, found), axis=1).max())


@pytest.mark.parametrize("seed", [0])
def test_known_motion_is_found_within_half_a_millimetre(seed: int) -> None:
    fixed = phantom()
    moved = motion(middle(fixed), seed)
    result = register(fixed, displaced(fixed, moved))
    assert error(np.linalg.inv(moved), result.world_transform, middle(fixed)) < 0.5
    assert result.metric_after > result.metric_before + 0.1
    assert result.overlap > 0.95 and result.shared > 0.85 and result.iterations > 0


def test_motion_between_contrasts_is_found() -> None:
    fixed, other = phantom(), phantom((0.3, 0.8, 0.4, 1.0))
    moved = motion(middle(fixed), 4)
    result = register(fixed, displaced(other, moved))
    assert error(np.linalg.inv(moved), result.world_transform, middle(fixed)) < 0.5


def test_thick_and_sheared_slices_are_laid_where_they_belong() -> None:
    fixed = phantom()
    moved = motion(middle(fixed), 5, degrees=6)
    thick = displaced(fixed, moved, (1, 1, 2))
    tilt = np.array(thick.world)
    tilt[:3, 2] += np.tan(np.radians(15)) * np.array([0.0, thick.world[2, 2], 0.0])
    tilt[:3, 3] = middle(thick) - tilt[:3, :3] @ ((np.array(thick.voxels.shape) - 1) / 2)
    sheared = Image(resample(thick.voxels, thick.world, Grid(thick.grid.shape, tilt)), tilt)
    result = register(fixed, sheared)
    assert error(np.linalg.inv(moved), result.world_transform, middle(fixed)) < 0.5


def test_other_axis_order_and_far_origin_make_no_difference() -> None:
    """Two frames of reference: the heads lie 400 mm apart, and the second volume's axes are turned and flipped."""
    fixed = phantom()
    away = np.eye(4)
    away[:3, 3] = (400, -250, 90)
    flipped = fixed.voxels[::-1].transpose(2, 0, 1)
    world = np.zeros((4, 4))
    world[:3, 0], world[:3, 1], world[:3, 2] = fixed.world[:3, 2], -fixed.world[:3, 0], fixed.world[:3, 1]
    world[:3, 3] = fixed.world[:3, 3] + fixed.world[:3, 0] * (fixed.voxels.shape[0] - 1)
    world[3, 3] = 1
    result = register(fixed, Image(np.ascontiguousarray(flipped), away @ world), finest_mm=3.0)
    assert error(np.linalg.inv(away), result.world_transform, middle(fixed) + away[:3, 3]) < 0.5
    assert result.head_motion_mm == pytest.approx(np.linalg.norm(away[:3, 3]), abs=1)


def test_same_image_stays_where_it_is() -> None:
    fixed = phantom()
    result = register(fixed, fixed, finest_mm=3.0)
    assert error(np.eye(4), result.world_transform, middle(fixed)) < 0.05
    assert result.metric_after >= result.metric_before
    np.testing.assert_allclose(result.moved_world(fixed.world), fixed.world, atol=0.05)


def test_two_runs_give_the_same_matrix() -> None:
    fixed = phantom()
    moving = displaced(fixed, motion(middle(fixed), 7))
    first, second = (register(fixed, moving, finest_mm=4.0) for _ in range(2))
    np.testing.assert_allclose(first.world_transform, second.world_transform, atol=1e-6)


def test_result_is_a_rigid_motion() -> None:
    fixed = phantom()
    matrix = register(fixed, displaced(fixed, motion(middle(fixed), 8)), finest_mm=4.0).world_transform
    np.testing.assert_allclose(matrix[:3, :3].T @ matrix[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_array_equal(matrix[3], (0, 0, 0, 1))


def test_constant_image_is_refused() -> None:
    fixed = phantom()
    with pytest.raises(RegistrationError, match="same value everywhere"):
        register(fixed, Image(np.zeros_like(fixed.voxels), fixed.world))


def test_real_scans_are_laid_on_each_other_again(shared_data: Path) -> None:
    """A real T1, moved and cut into 5 mm slices; and a FLAIR and T1 of one patient, of which one was moved."""

    def read(name: str) -> Image:
        image = nibabel.load(shared_data / "brains_validation" / name)
        return Image(np.asarray(image.dataobj, dtype=np.float32)[::2, ::2, ::2], image.affine @ np.diag([2, 2, 2, 1]))

    scan = read("real_vxm_t1.nii.gz")
    moved = motion(middle(scan), 11)
    result = register(scan, displaced(scan, moved, (1, 1, 2.5)))
    assert error(np.linalg.inv(moved), result.world_transform, middle(scan)) < 0.5
    flair, other = read("real_ms26_flair.nii.gz"), read("real_ms26_t1.nii.gz")
    moved = motion(middle(other), 12)
    rest = register(flair, other, finest_mm=3.0).world_transform  # the published pair is itself half a millimetre off
    result = register(flair, displaced(other, moved), finest_mm=3.0)
    assert error(rest @ np.linalg.inv(moved), result.world_transform, middle(flair)) < 0.5
