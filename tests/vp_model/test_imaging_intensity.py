"""Intensities against scipy and SimpleITK, and images made from images."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vp_model.imaging_cases import masks, region, worlds
from vp_model.imaging import intensity
from vp_model.imaging.grid import to_world
from vp_model.imaging.intensity import Image

few = settings(max_examples=30, deadline=None)


def image_like(mask: NDArray[np.bool_], world: NDArray[np.float64], seed: int = 1) -> Image:
    values = np.random.default_rng(seed).normal(100, 30, mask.shape).astype(np.float32)
    return Image(values, world)


@few
@given(masks(), worlds())
def test_statistics_agree_with_simpleitk(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    image = image_like(mask, world)
    values = intensity.values_in(image, region(mask, world))
    statistics = SimpleITK.LabelStatisticsImageFilter()
    statistics.Execute(SimpleITK.GetImageFromArray(image.voxels), SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
    assert values.size == statistics.GetCount(1)
    assert values.mean() == pytest.approx(statistics.GetMean(1), rel=1e-5)
    if values.size > 1:
        assert values.std(ddof=1) == pytest.approx(statistics.GetSigma(1), rel=1e-4)


@few
@given(masks(), worlds(), st.floats(60, 140))
def test_brighter_and_darker_parts_are_those_of_numpy(
    mask: NDArray[np.bool_], world: NDArray[np.float64], threshold: float
) -> None:
    image = image_like(mask, world)
    bright = intensity.brighter_than(image, region(mask, world), threshold).full()
    dark = intensity.darker_than(image, region(mask, world), threshold).full()
    assert np.array_equal(bright, mask & (image.voxels > threshold))
    assert np.array_equal(dark, mask & (image.voxels < threshold))


@few
@given(masks(), worlds(), st.floats(0, 8))
def test_a_crop_keeps_values_at_their_world_coordinates(
    mask: NDArray[np.bool_], world: NDArray[np.float64], margin: float
) -> None:
    image = image_like(mask, world)
    cropped = intensity.crop(image, region(mask, world), margin)
    corner = to_world(np.array([[0, 0, 0]]), cropped.world)
    start = np.rint(np.linalg.solve(world[:3, :3], (corner - world[:3, 3]).T).T)[0].astype(int)
    box = tuple(slice(first, first + size) for first, size in zip(start, cropped.voxels.shape, strict=True))
    assert np.array_equal(cropped.voxels, image.voxels[box])
    outside = mask.copy()
    outside[box] = False
    assert not outside.any()
    restored = intensity.pad(
        cropped,
        start.tolist(),
        [whole - first - size for whole, first, size in zip(mask.shape, start, cropped.voxels.shape, strict=True)],
    )
    assert np.allclose(restored.world, world)
    assert restored.voxels.shape == mask.shape


@few
@given(masks(), worlds())
def test_removed_and_isolated_tissue_complement_each_other(mask: NDArray[np.bool_], world: NDArray[np.float64]) -> None:
    image = image_like(mask, world)
    removed = intensity.remove(image, region(mask, world))
    isolated = intensity.isolate(image, region(mask, world))
    air = image.voxels.min()
    assert (removed.voxels[mask] == air).all()
    assert np.array_equal(removed.voxels[~mask], image.voxels[~mask])
    assert np.array_equal(isolated.voxels[mask], image.voxels[mask])
    assert (isolated.voxels[~mask] == air).all()


def test_values_outside_every_number_are_left_out() -> None:
    voxels = np.array([[[1.0, np.nan, 3.0]]], dtype=np.float32)
    assert intensity.values_in(Image(voxels, np.eye(4)), region(np.ones((1, 1, 3), np.bool_))).tolist() == [1, 3]


def test_asymmetry_is_positive_where_the_left_is_larger() -> None:
    assert intensity.asymmetry(3, 1) == pytest.approx(100)
    assert intensity.asymmetry(1, 3) == pytest.approx(-100)
    assert intensity.asymmetry(2, 2) == 0
    with pytest.raises(ValueError, match="zero"):
        intensity.asymmetry(0, 0)


def test_histogram_counts_every_value_once() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    counts, edges = intensity.histogram(values, 20)
    assert counts.sum() == 1000
    assert len(edges) == 21
    assert (edges[0], edges[-1]) == (values.min(), values.max())


def test_cropping_to_nothing_and_negative_padding_are_errors() -> None:
    image = Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="empty"):
        intensity.crop(image, region(np.zeros((4, 4, 4), np.bool_)), 2)
    with pytest.raises(ValueError, match="negative"):
        intensity.pad(image, (0, -1, 0), (0, 0, 0))
