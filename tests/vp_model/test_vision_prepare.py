"""Preparation of volumes and the way back to their own grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes

from tests.vp_model.test_geometry import shapes, worlds
from vp_model.geometry import scaled_world, spacing
from vp_model.vision.config import VisionConfig
from vp_model.vision.inference import FeatureCache, encode_volumes, segment_volumes
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import area_weights, normalise, prepare, reach, reduce_to, restore, to_ras
from vp_model.volume import Volume


def ball(shape: tuple[int, int, int], world: np.ndarray, radius: float = 40.0) -> np.ndarray:
    """A bright ball of `radius` mm in the middle of the grid, brighter towards the patient's right."""
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), axis=-1)
    points = index @ world[:3, :3].T + world[:3, 3]
    centre = (np.array(shape) - 1) / 2 @ world[:3, :3].T + world[:3, 3]
    inside = np.linalg.norm(points - centre, axis=-1) < radius
    return (inside * (500 + 2 * (points - centre)[..., 0])).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(worlds(), shapes)
def test_every_voxel_keeps_its_place_when_axes_turn_to_ras(world: np.ndarray, shape: tuple[int, int, int]) -> None:
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), axis=-1)
    places = index @ world[:3, :3].T + world[:3, 3]
    turned = [to_ras(np.ascontiguousarray(places[..., axis]), world) for axis in range(3)]
    matrix = turned[0][1]
    found = np.stack([voxels for voxels, _ in turned], axis=-1)
    index = np.stack(np.meshgrid(*[np.arange(size) for size in found.shape[:3]], indexing="ij"), axis=-1)
    np.testing.assert_allclose(index @ matrix[:3, :3].T + matrix[:3, 3], found, atol=1e-6)
    assert aff2axcodes(matrix) == ("R", "A", "S")


@settings(max_examples=40, deadline=None)
@given(worlds(), shapes)
def test_values_return_to_exactly_the_voxels_they_came_from(world: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Without reduction, preparation moves and cuts voxels only, and the way back undoes it."""
    voxels = np.random.default_rng(0).uniform(0.2, 1.0, size=shape).astype(np.float32)
    volume = Volume(torch.from_numpy(voxels)[None], world, kind="T1")
    prepared = prepare(volume, None)
    back = restore(prepared, prepared.image.features[0])[0].numpy()
    assert back.shape == shape
    kept = back > 0
    np.testing.assert_allclose(back[kept], normalise(voxels)[kept], atol=1e-3)


@pytest.mark.parametrize(
    ("lengths", "flip"), [((1.0, 1.0, 1.0), False), ((0.9, 0.9, 4.0), True), ((4.4, 0.7, 0.7), False)]
)
def test_working_spacing_and_back_keeps_a_body_where_it_was(lengths: tuple[float, float, float], flip: bool) -> None:
    shape = tuple(round(110 / length) for length in lengths)
    world = np.diag([*lengths, 1.0])
    world[0, 2] = 0.3  # sheared, as a CT with a tilted gantry
    if flip:
        world[:3, 0] *= -1
    voxels = ball(shape, world)  # type: ignore[arg-type]
    volume = Volume(torch.from_numpy(voxels)[None], world, kind="T1")
    prepared = prepare(volume, 2.0)
    assert (spacing(prepared.image.world) >= 1.99).all()
    back = restore(prepared, prepared.image.features[0])[0].numpy() > 0.4
    overlap = 2 * np.logical_and(back, voxels > 0).sum() / (back.sum() + (voxels > 0).sum())
    assert overlap > 0.96


def test_thick_axis_is_left_at_its_own_spacing() -> None:
    image = torch.rand(1, 1, 40, 40, 10)
    reduced = reduce_to(image, np.diag([1.0, 1.0, 5.0, 1.0]), 2.0)
    assert reduced.shape == (20, 20, 10)
    np.testing.assert_allclose(spacing(reduced.world), [2.0, 2.0, 5.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(1.0, 5.0))
def test_reduction_averages_by_area(size: int, factor: float) -> None:
    target = max(int(np.ceil(size / factor - 1e-6)), 1)
    weights = area_weights(size, target, factor).numpy()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    # A ramp keeps its slope: the mean of a coarse voxel is the value at its centre (the last may be cut short).
    ramp = weights @ np.arange(size)
    centres = scaled_world(np.eye(4), [factor] * 3)[0, 3] + np.arange(target) * factor
    whole = (np.arange(target) + 1) * factor <= size
    # Voxels cut by a border count as constant, which moves their mean by at most an eighth.
    np.testing.assert_allclose(ramp[whole], centres[whole], atol=0.126)


def test_intensities_are_scaled_by_the_foreground_alone() -> None:
    """The same head in a large empty field of view keeps its brightness."""
    image = ball((60, 60, 60), np.eye(4), 25.0)
    wide = np.pad(image, 40)
    inner = (slice(40, 100),) * 3
    np.testing.assert_allclose(normalise(image), normalise(wide)[inner], atol=0.02)
    assert normalise(image).max() == 1.0


def test_computed_tomography_is_windowed_in_hounsfield_units() -> None:
    image = np.array([[[-1000.0, -30.0, 35.0, 100.0, 1500.0]]], dtype=np.float32)
    np.testing.assert_allclose(normalise(image, "CT")[0, 0], [0, 0, 0.5, 1, 1], atol=1e-6)


def test_neck_and_empty_space_are_cut_off() -> None:
    voxels = np.zeros((60, 60, 100), dtype=np.float32)
    voxels[15:45, 12:48, 5:90] = 100.0  # 4 mm voxels: a body 340 mm tall
    prepared = prepare(Volume(torch.from_numpy(voxels)[None], np.diag([4.0, 4.0, 4.0, 1.0]), kind="T1"), None)
    assert prepared.image.shape[2] < 55
    top = prepared.image.world[:3, :3] @ [0, 0, prepared.image.shape[2] - 1] + prepared.image.world[:3, 3]
    assert top[2] >= 4.0 * 89


def test_image_without_contrast_is_taken_as_it_is() -> None:
    prepared = prepare(Volume(torch.zeros(1, 8, 8, 8), np.eye(4)), 2.0)
    assert prepared.image.shape == (4, 4, 4)
    assert torch.isfinite(prepared.image.features).all()


def test_several_features_are_refused() -> None:
    with pytest.raises(ValueError, match="one feature"):
        prepare(Volume(torch.zeros(3, 8, 8, 8), np.eye(4)), None)


def small_network() -> VisionNetwork:
    torch.manual_seed(0)
    config = VisionConfig((4, 8, 8), conditioning="readout", condition_size=6, encoding_size=5, working_spacing_mm=3.0)
    return VisionNetwork(config).eval()


def test_probabilities_lie_on_each_input_grid() -> None:
    oblique = np.array([[0.0, 0.2, 3.0, 5.0], [1.1, 0.0, 0.0, -3.0], [0.0, -1.1, 0.4, 9.0], [0, 0, 0, 1.0]])
    volumes = [
        Volume(torch.from_numpy(ball((60, 50, 20), oblique, 20.0))[None], oblique, "v1", "FLAIR"),
        Volume(torch.from_numpy(ball((50, 50, 50), np.eye(4), 20.0))[None], np.eye(4), "v2", "T1"),
    ]
    found = segment_volumes(small_network(), volumes, torch.randn(3, 2, 6))
    assert [tuple(part.shape) for part in found] == [(3, 60, 50, 20), (3, 50, 50, 50)]
    assert all(float(part.min()) >= 0.0 and float(part.max()) <= 1.0 for part in found)


def test_volumes_are_looked_at_once_for_many_conditions() -> None:
    network = small_network()
    volume = Volume(torch.from_numpy(ball((40, 40, 40), np.eye(4), 15.0))[None], np.eye(4))
    cache = FeatureCache(capacity=1)
    first = cache.look(network, [volume])
    segment_volumes(network, [volume], torch.randn(2, 1, 6), cache)
    assert tuple(encode_volumes(network, [volume], torch.randn(1, 6), cache).shape) == (1, 5)
    assert cache.look(network, [volume]) is first
    other = Volume(volume.features, volume.world)
    assert cache.look(network, [other]) is not first
    assert cache.look(network, [volume]) is not first  # only one set is kept


@settings(max_examples=40, deadline=None)
@given(worlds(), st.sampled_from([None, 3.0]), st.integers(0, 1_000))
def test_nothing_lies_beyond_what_restored_values_reach(world: np.ndarray, working: float | None, seed: int) -> None:
    shape = (12, 9, 10)
    prepared = prepare(Volume(torch.rand(1, *shape), world, name="v1"), working)
    generator = torch.Generator().manual_seed(seed)
    sparse = torch.rand(1, *prepared.image.shape, generator=generator)
    sparse[sparse < 0.97] = 0.0
    rows = [np.arange(2, 11), np.arange(9), np.arange(0, 10, 2)]
    found = reach(prepared, sparse, rows, 1e-4)
    whole = restore(prepared, sparse, rows)[0]
    outside = whole.clone()
    outside[tuple(found)] = 0.0
    assert float(outside.max()) <= 1e-4
    if all(part.stop > part.start for part in found):
        inner = restore(prepared, sparse, [index[part] for index, part in zip(rows, found, strict=True)])[0]
        torch.testing.assert_close(inner, whole[tuple(found)])
