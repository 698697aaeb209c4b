"""World matrices through pooling, cropping, reduction and resampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_model.geometry import (
    Placed,
    cropped_world,
    pool,
    pooling_factors,
    reference_grid,
    resample,
    same_geometry,
    scaled_world,
    spacing,
    upsample_to,
)


@st.composite
def worlds(draw: st.DrawFn) -> np.ndarray:
    """Oblique, anisotropic, mirrored and slightly sheared matrices."""
    angles = [draw(st.floats(-np.pi, np.pi)) for _ in range(3)]
    lengths = np.array([draw(st.floats(0.5, 6.0)) for _ in range(3)])
    signs = np.array([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    shear = np.eye(3)
    shear[1, 2] = draw(st.floats(-0.4, 0.4))
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    turn = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )
    world = np.eye(4)
    world[:3, :3] = turn @ shear * (lengths * signs)
    world[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return world


shapes = st.tuples(*[st.integers(2, 13)] * 3)


def coordinates(shape: tuple[int, int, int], world: np.ndarray) -> torch.Tensor:
    """(1, 3, w, h, d): each voxel holds its own place in mm."""
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), axis=-1)
    return torch.from_numpy(np.moveaxis(index @ world[:3, :3].T + world[:3, 3], -1, 0)[None].astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(worlds(), shapes)
def test_world_matrix_stays_true_through_every_level(world: np.ndarray, shape: tuple[int, int, int]) -> None:
    """A field that holds its own coordinates, averaged over what each pooling covers, still agrees with the matrix."""
    # Even sizes: an odd last voxel is pooled alone, and its mean is not the middle of two.
    shape = tuple(size * 8 for size in np.minimum(shape, 3))  # type: ignore[assignment]
    placed = Placed(coordinates(shape, world), world)
    for _ in range(3):
        factors = pooling_factors(placed.world, placed.shape)
        averaged = torch.nn.functional.avg_pool3d(placed.features, factors)
        pooled = pool(placed)
        assert pooled.shape == tuple(averaged.shape[-3:])
        np.testing.assert_allclose(averaged, coordinates(pooled.shape, pooled.world), atol=2e-3)
        placed = Placed(averaged, pooled.world)


@settings(max_examples=40, deadline=None)
@given(worlds(), shapes)
def test_upsampling_returns_every_inner_voxel_to_its_place(world: np.ndarray, shape: tuple[int, int, int]) -> None:
    pooled = pool(Placed(coordinates(shape, world), world))
    coarse = Placed(coordinates(pooled.shape, pooled.world), pooled.world)
    back = upsample_to(coarse, shape, world)
    assert tuple(back.shape[-3:]) == shape
    # The outermost voxels lie beyond the first and last coarse centre, where trilinear interpolation repeats.
    inner = (..., *[slice(1, 2 * ((size - 1) // 2)) if size > 2 else slice(0, 0) for size in shape])
    if back[inner].numel():
        np.testing.assert_allclose(back[inner], coordinates(shape, world)[inner], atol=2e-3)


@pytest.mark.parametrize(
    ("lengths", "shape", "expected"),
    [
        ((1.0, 1.0, 1.0), (8, 8, 8), (2, 2, 2)),
        ((1.0, 1.0, 1.9), (8, 8, 8), (2, 2, 2)),
        ((1.0, 1.0, 2.0), (8, 8, 8), (2, 2, 1)),
        ((1.0, 5.0, 1.0), (8, 8, 8), (2, 1, 2)),
        ((1.0, 1.0, 1.0), (8, 8, 1), (2, 2, 1)),
    ],
)
def test_axis_is_pooled_only_while_its_anisotropy_is_below_the_factor(
    lengths: tuple[float, float, float], shape: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    assert pooling_factors(np.diag([*lengths, 1.0]), shape) == expected


def test_thick_slices_are_pooled_once_the_plane_is_as_coarse() -> None:
    placed = Placed(torch.rand(1, 1, 32, 32, 12), np.diag([1.0, 1.0, 4.0, 1.0]))
    seen = []
    for _ in range(3):
        placed = pool(placed)
        seen.append(placed.shape)
    assert seen == [(16, 16, 12), (8, 8, 12), (4, 4, 6)]


@settings(max_examples=30, deadline=None)
@given(worlds(), shapes, st.floats(1.0, 4.0))
def test_reduction_keeps_the_outer_border_of_the_first_voxel(
    world: np.ndarray, shape: tuple[int, int, int], factor: float
) -> None:
    reduced = scaled_world(world, [factor] * 3)
    corner = world[:3, :3] @ [-0.5, -0.5, -0.5] + world[:3, 3]
    np.testing.assert_allclose(reduced[:3, :3] @ [-0.5, -0.5, -0.5] + reduced[:3, 3], corner, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(worlds(), shapes)
def test_resampling_to_a_cropped_grid_takes_exactly_those_voxels(
    world: np.ndarray, shape: tuple[int, int, int]
) -> None:
    start = tuple(size // 3 for size in shape)
    features = torch.rand(1, 2, *shape)
    wanted = features[..., start[0] :, start[1] :, start[2] :]
    size = tuple(int(n) for n in wanted.shape[-3:])
    found = resample(Placed(features, world), size, cropped_world(world, start))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, wanted, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(worlds(), worlds(), shapes, shapes)
def test_reference_grid_covers_all_volumes_in_any_order(
    first: np.ndarray, second: np.ndarray, shape: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    second = second.copy()
    second[:3, 3] = first[:3, 3]
    size, world = reference_grid([(shape, first), (other, second)], isotropic=True)
    again, matrix = reference_grid([(other, second), (shape, first)], isotropic=True)
    assert size == again
    np.testing.assert_allclose(world, matrix, atol=1e-9)
    np.testing.assert_allclose(spacing(world), min(spacing(first).min(), spacing(second).min()))
    for extent, grid in ((shape, first), (other, second)):
        corner = (np.array(extent) - 1) @ grid[:3, :3].T + grid[:3, 3]
        index = np.linalg.solve(world, [*corner, 1.0])[:3]
        assert (index > -0.51).all()
        assert (index < np.array(size) - 0.49).all()


def test_reference_grid_of_axes_that_differ_by_a_hair_does_not_depend_on_the_order() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(6e-5), -np.sin(6e-5)], [np.sin(6e-5), np.cos(6e-5)]]
    grids = [((4, 4, 4), np.eye(4)), ((4, 4, 4), turned)]
    size, world = reference_grid(grids, isotropic=True)
    again, matrix = reference_grid(grids[::-1], isotropic=True)
    assert size == again
    np.testing.assert_allclose(world, matrix, atol=1e-12)


def test_grids_that_differ_by_a_hair_are_one() -> None:
    world = np.diag([1.0, 1.0, 1.0, 1.0])
    moved = world.copy()
    moved[0, 3] = 1e-5
    assert same_geometry([((4, 4, 4), world), ((4, 4, 4), moved)])
    moved[0, 3] = 0.1
    assert not same_geometry([((4, 4, 4), world), ((4, 4, 4), moved)])
