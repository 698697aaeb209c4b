"""Shapes of lesions: connected, of the wanted size, nested, from noise and from real masks."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.shapes import (
    NEVER,
    brownian_field,
    depth,
    largest,
    reached,
    read_shapes,
    real_field,
    spread,
)

SHAPE = (40, 40, 40)
MIDDLE = (20, 20, 20)
CUBE = np.ones((3, 3, 3))


def seed() -> torch.Tensor:
    found = torch.zeros(SHAPE, dtype=torch.bool)
    found[MIDDLE] = True
    return found


def pieces(mask: torch.Tensor) -> int:
    return int(ndimage.label(mask.numpy(), CUBE)[1])


def test_spreading_takes_the_largest_neighbour() -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(7, 8, 9)))
    expected = ndimage.maximum_filter(values.numpy(), size=3, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(spread(values), expected)


@given(number=st.integers(0, 10_000), roughness=st.floats(0.0, 0.8), volume=st.integers(30, 3000))
@settings(max_examples=15, deadline=None)
def test_shapes_are_connected_at_any_size_and_nested(number: int, roughness: float, volume: int) -> None:
    field = brownian_field(SHAPE, MIDDLE, (8, 9, 10), roughness, Chance.seeded(number))
    level = reached(field, seed())
    small, large = largest(level, volume), largest(level, 1.5 * volume)
    assert pieces(small) == 1
    assert pieces(large) == 1
    assert not bool((small & ~large).any())


@pytest.mark.parametrize("volume", [200, 1000, 4000])
def test_shapes_have_the_wanted_size(volume: int) -> None:
    radius = (3 * volume / (4 * math.pi)) ** (1 / 3)
    for number in range(4):
        field = brownian_field(SHAPE, MIDDLE, (radius,) * 3, 0.3, Chance.seeded(number))
        found = torch.zeros(SHAPE, dtype=torch.bool)
        found.view(-1)[int(field.argmax())] = True
        assert int(largest(reached(field, found), volume).sum()) == pytest.approx(volume, rel=0.15)


def test_without_noise_a_shape_has_the_drawn_dimensions() -> None:
    field = brownian_field(SHAPE, MIDDLE, (5.0, 8.0, 12.0), 0.0, Chance.seeded(1))
    mask = largest(reached(field, seed()), 4 / 3 * math.pi * 5 * 8 * 12)
    at = mask.nonzero().double()
    variances = torch.linalg.eigvalsh(torch.cov((at - at.mean(dim=0)).T))
    np.testing.assert_allclose((5 * variances).sqrt().numpy(), [5, 8, 12], rtol=0.06)  # of an ellipsoid: r²/5


def test_noise_makes_a_shape_lobulated() -> None:
    def surface(roughness: float) -> float:
        field = brownian_field(SHAPE, MIDDLE, (9, 9, 9), roughness, Chance.seeded(2))
        mask = largest(reached(field, seed()), 2000)
        return float((depth(mask) == 1).sum()) / float(mask.sum())

    assert surface(0.5) > 1.3 * surface(0.0)


def test_a_border_is_not_crossed_but_walked_around() -> None:
    field = brownian_field(SHAPE, MIDDLE, (9, 9, 9), 0.2, Chance.seeded(3))
    field[24] = NEVER
    closed = reached(field, seed())
    assert not bool((closed[24:] > NEVER).any())
    field[24, 20:22, 20:22] = 0.0
    assert bool((reached(field, seed())[25:] > NEVER).any())


def test_depth_counts_voxels_from_the_border() -> None:
    mask = torch.zeros(11, 11, 11, dtype=torch.bool)
    mask[2:9, 2:9, 2:9] = True
    deep = depth(mask)
    assert float(deep[5, 5, 5]) == 4
    assert float(deep[2, 5, 5]) == 1
    assert float(deep[0, 0, 0]) == 0


def written(folder: Path) -> None:
    voxels = np.zeros((40, 40, 40), dtype=np.uint8)
    voxels[5:15, 5:11, 5:9] = 1  # 240 mm³
    voxels[25:30, 25:35, 25:30] = 1  # 250 mm³
    voxels[1, 1, 1] = 1  # too small
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "patient_mask.nii.gz")


def test_real_masks_give_one_shape_a_lesion(tmp_path: Path) -> None:
    written(tmp_path)
    shapes = read_shapes(tmp_path, "*_mask.nii.gz")
    assert sorted(shape.volume for shape in shapes) == [240.0, 250.0]
    assert all(int((shape.distance > 0).sum()) == shape.volume for shape in shapes)


def test_a_folder_without_masks_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No mask"):
        read_shapes(tmp_path)


def test_a_real_shape_is_kept_when_it_is_scaled_and_turned(tmp_path: Path) -> None:
    written(tmp_path)
    long = next(shape for shape in read_shapes(tmp_path) if shape.volume == 240.0)
    field = real_field(SHAPE, MIDDLE, 8 * 240, long, 0.0, Chance.seeded(4))
    mask = largest(reached(field, seed()), 8 * 240)
    assert pieces(mask) == 1
    at = mask.nonzero().double()
    variances = torch.linalg.eigvalsh(torch.cov((at - at.mean(dim=0)).T))
    np.testing.assert_allclose((12 * variances).sqrt().numpy(), [8, 12, 20], rtol=0.12)  # of a box: side²/12
