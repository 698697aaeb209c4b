"""The crop around the cranial cavity holds all of it with its margin, on MR of any contrast and on CT, tilted too."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vp_model.imaging_cases import worlds
from vp_model.imaging.cranium import MARGIN_MM, box_around, cavity_on_ct, cranial_bounds, cranial_box, cranial_crop
from vp_model.imaging.grid import to_world
from vp_model.imaging.intensity import Image

LOOKS = {
    "T1": {"air": 0, "soft": 600, "bone": 60, "fluid": 150, "brain": 700},
    "T2": {"air": 0, "soft": 350, "bone": 40, "fluid": 1000, "brain": 500},
    "FLAIR": {"air": 0, "soft": 400, "bone": 50, "fluid": 60, "brain": 600},
    "CT": {"air": -1000, "soft": 40, "bone": 900, "fluid": 8, "brain": 35},
}
CAVITY = ((-68.0, -82.0, -65.0), (68.0, 82.0, 70.0))
"""Lowest and highest RAS mm of the cavity of `head`."""


def head(kind: str, world: NDArray[np.float64], shape: tuple[int, int, int]) -> Image:
    """A head of nested ellipsoids with a neck and a face, on any grid."""
    points = to_world(np.argwhere(np.ones(shape, bool)), world).reshape(*shape, 3)
    look = LOOKS[kind]
    low, high = np.asarray(CAVITY)
    middle, radii = (low + high) / 2, (high - low) / 2

    def ball(grow: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (((points - middle) / (radii + grow)) ** 2).sum(axis=-1) < 1
        return inside

    voxels = np.full(shape, look["air"], dtype=np.float32)
    neck = (np.hypot(points[..., 0], points[..., 1] + 20) < 55) & (points[..., 2] < -40)
    face = (np.abs(points[..., 0]) < 50) & (points[..., 1] > 20) & (points[..., 1] < 100) & (points[..., 2] < -30)
    voxels[neck | face | ball(14)] = look["soft"]
    voxels[ball(8)] = look["bone"]
    voxels[ball(0)] = look["fluid"]
    voxels[ball(-4)] = look["brain"]
    return Image(voxels, world)


def grid(spacing: tuple[float, float, float], tilt: float = 0.0) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """A field of view of 230 × 260 × 260 mm down to the shoulders, tilted about the left-right axis by shear."""
    world = np.eye(4)
    world[:3, :3] = np.array([[1, 0, 0], [0, 1, np.tan(np.radians(tilt))], [0, 0, 1]]) * spacing
    shape = tuple(int(extent / step) for extent, step in zip((230, 260, 260), spacing, strict=True))
    world[:3, 3] = np.array([0, 10, -25]) - world[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return world, (shape[0], shape[1], shape[2])


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.parametrize(("spacing", "tilt"), [((2.0, 2.0, 2.0), 0.0), ((1.5, 1.5, 6.0), 0.0), ((2.0, 2.0, 4.0), 18.0)])
def test_cavity_and_margin_are_kept_and_the_neck_is_cut(
    kind: str, spacing: tuple[float, float, float], tilt: float
) -> None:
    image = head(kind, *grid(spacing, tilt))
    bounds = cranial_bounds(image, kind)
    assert bounds is not None
    room = np.concatenate([np.subtract(CAVITY[0], bounds[0]), np.subtract(bounds[1], CAVITY[1])])
    assert room.min() > -MARGIN_MM / 2, room  # at least half of the margin remains wherever the method errs
    assert room.max() < 35, room
    cropped = cranial_crop(image, kind)
    start, shape = cranial_box(image, kind)
    assert cropped.voxels.shape == shape and shape[2] < image.voxels.shape[2]
    np.testing.assert_array_equal(
        cropped.voxels, image.voxels[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
    )
    np.testing.assert_allclose(cropped.world[:3, 3], to_world(np.array([start]), image.world)[0])


def test_cavity_on_ct_is_what_lies_within_the_skull() -> None:
    image = head("CT", *grid((2.0, 2.0, 2.0)))
    cavity = cavity_on_ct(image)
    assert cavity is not None
    radii = np.subtract(CAVITY[1], CAVITY[0]) / 2
    assert cavity.volume == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.08)


def test_ct_is_told_by_its_values_where_its_kind_is_unknown() -> None:
    image = head("CT", *grid((3.0, 3.0, 3.0)))
    assert cranial_bounds(image) == cranial_bounds(image, "CT")


@pytest.mark.parametrize("kind", ["T1", "CT"])
def test_image_of_nothing_stays_whole(kind: str) -> None:
    image = Image(np.zeros((10, 11, 12), np.float32), np.eye(4))
    assert cranial_bounds(image, kind) is None
    assert cranial_box(image, kind) == ((0, 0, 0), (10, 11, 12))


@settings(max_examples=60, deadline=None)
@given(worlds(), st.tuples(*[st.floats(0, 1)] * 3), st.floats(0, 30))
def test_box_holds_every_voxel_within_the_margin_on_any_lattice(
    world: NDArray[np.float64], where: tuple[float, float, float], margin: float
) -> None:
    image = Image(np.zeros((12, 13, 14), np.float32), world)
    points = to_world(np.argwhere(np.ones((12, 13, 14), bool)), world)
    low = points.min(axis=0) + np.asarray(where) * np.ptp(points, axis=0) * 0.5
    centre = points[np.argmin(np.linalg.norm(points - low, axis=1))]
    bounds = (tuple(centre - 1.0), tuple(centre + 1.0))
    start, shape = box_around(image, bounds, margin)
    near = ((points >= centre - 1 - margin) & (points <= centre + 1 + margin)).all(axis=1)
    indices = np.argwhere(np.ones((12, 13, 14), bool))[near]
    assert ((indices >= start) & (indices < np.add(start, shape))).all()


def test_ct_without_soft_tissue_has_no_cavity() -> None:
    """Found where a CT of values other than Hounsfield units ended its prompt with an error of numpy."""
    world, shape = grid((2.0, 2.0, 2.0))
    bone = Image(np.full(shape, 900.0, dtype=np.float32), world)
    assert cavity_on_ct(bone) is None
    assert cranial_bounds(bone, "CT") is None


def test_bounds_outside_the_image_are_an_error() -> None:
    with pytest.raises(ValueError, match="outside"):
        box_around(Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), ((90, 90, 90), (95, 95, 95)), 5.0)


@pytest.mark.parametrize("name", ["real_icbm152", "real_vxm", "real_fsaverage"])
def test_no_voxel_of_a_real_brain_is_cut(shared_data: Path, name: str) -> None:
    scan = nibabel.load(shared_data / "brains_validation" / f"{name}_t1.nii.gz")
    labels = nibabel.load(shared_data / "brains_validation" / f"{name}_seg.nii.gz")
    start, shape = cranial_box(Image(np.asarray(scan.dataobj, dtype=np.float32), scan.affine), "T1")
    found = np.argwhere(np.asarray(labels.dataobj) > 0)
    assert ((found >= start) & (found < np.add(start, shape))).all()


def test_real_head_ct_is_cut_to_its_cavity(shared_data: Path) -> None:
    """Gantry tilt, fractures, 2.8 mm slices: the cavity's size is that of an adult's, and the headrest is gone."""
    scan = nibabel.load(shared_data / "brains_validation" / "head_trauma_ct.nii.gz")
    cavity = cavity_on_ct(Image(np.asarray(scan.dataobj, dtype=np.float32), scan.affine))
    assert cavity is not None
    assert 1100e3 < cavity.volume < 1900e3
