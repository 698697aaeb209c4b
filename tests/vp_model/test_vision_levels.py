"""m from its first level to its last: what lies where, for any matrices; any order and number of volumes; gradients.

What stands at a place in the world goes through m's own levels, and is looked for there again, by arithmetic that knows
nothing of how m follows its matrices.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tests.vp_model.test_geometry import coordinates, worlds
from tests.vp_model.test_vision import SMALL, network
from vp_model.geometry import Placed, Shape, reference_grid, resample, spacing, upsample_to
from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel
from vp_model.vision.config import VisionConfig
from vp_model.vision.network import VisionNetwork

SIX = VisionConfig(channels=(4,) * 6, interaction="none", condition_size=4, encoding_size=4, conditioning="readout")
"""As deep as the paper's network."""
KINDS = ("attention", "mean", "max")
REFERENCES = ("isotropic", "axis", "own")
shapes = st.tuples(*[st.integers(1, 25)] * 3)


def passing(config: VisionConfig = SIX) -> VisionNetwork:
    """m whose convolutions hand on what stands in their middle, without normalisation: levels and grids remain."""
    torch.manual_seed(0)
    built = VisionNetwork(config).eval()
    built.down_norm = nn.ModuleList(nn.Identity() for _ in built.down_norm)
    built.up_norm = nn.ModuleList(nn.Identity() for _ in built.up_norm)
    for convolution in (*built.down, *(up.from_below for up in built.up), *(up.from_skip for up in built.up)):
        nn.init.zeros_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    for convolution in (*built.down, *(up.from_below for up in built.up)):
        convolution.weight.data[:, 0, 1, 1, 1] = 1.0
    return built


def spot(shape: Shape, place: Shape) -> torch.Tensor:
    """(1, 1, w, h, d): high at one voxel; SiLU of high values is what it was."""
    features = torch.zeros(1, 1, *shape)
    features[(0, 0, *place)] = 100.0
    return features


def similar(world: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix with spacings of 1 to 2.5 mm, at the origin: shared grids stay small."""
    lengths = spacing(world)
    result = world.copy()
    result[:3, :3] *= np.clip(lengths, 1.0, 2.5) / lengths
    result[:3, 3] = 0.0
    return result


def index_of(point: NDArray[np.float64], world: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.solve(world, np.append(point, 1.0))[:3])


@pytest.mark.requirement("world coordinates are exact through every level, for random matrices")
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_what_stands_at_a_place_is_found_there_at_every_level(data: st.DataObject) -> None:
    """Of two volumes of any geometry, seen in one pass: oblique, sheared, anisotropic, mirrored, of odd sizes."""
    given_volumes, points = [], []
    for _ in range(2):
        world, shape = data.draw(worlds()), data.draw(shapes)
        place = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
        given_volumes.append(Placed(spot(shape, place), world))
        points.append(world[:3, :3] @ place + world[:3, 3])
    with torch.inference_mode():
        seen = passing().shared(given_volumes)
    assert len(seen.levels) == 6 and seen.decoded is not None
    for number, (placed, point) in enumerate(zip(given_volumes, points, strict=True)):
        for level in seen.levels:
            here = level[number]
            highest = np.unravel_index(int(here.features[0, 0].argmax()), here.shape)
            assert np.abs(index_of(point, here.world) - highest).max() <= 0.5 + 1e-6
            # A voxel's matrix is the middle of the voxels of the input that it stands for.
            factors = np.rint(spacing(here.world) / spacing(placed.world))
            middle = placed.world[:3, :3] @ ((factors - 1) / 2) + placed.world[:3, 3]
            np.testing.assert_allclose(here.world[:3, 3], middle, atol=1e-6)
            np.testing.assert_allclose(here.world[:3, :3], placed.world[:3, :3] * factors, atol=1e-9)
            assert here.shape == tuple(int(np.ceil(n / f)) for n, f in zip(placed.shape, factors, strict=True))
        back, deepest = seen.decoded[number], seen.levels[-1][number]
        assert back.shape == placed.shape
        np.testing.assert_array_equal(back.world, placed.world)
        highest = np.array(np.unravel_index(int(back.features[0, 0].argmax()), back.shape))
        found = back.world[:3, :3] @ highest + back.world[:3, 3]
        assert np.abs(index_of(found, deepest.world) - index_of(point, deepest.world)).max() <= 1.0


@settings(max_examples=20, deadline=None)
@given(worlds(), shapes)
def test_axes_are_pooled_by_the_papers_rule_at_every_level(world: np.ndarray, shape: Shape) -> None:
    with torch.inference_mode():
        levels = passing().shared([Placed(spot(shape, (0, 0, 0)), world)]).levels
    for (above,), (below,) in pairwise(levels):
        lengths = np.linalg.norm(above.world[:3, :3], axis=0)
        for axis in range(3):
            finer_by = 2 * lengths.min() - lengths[axis]
            if 1e-9 < finer_by < 1e-4:
                continue  # as good as twice the smallest: rounding decides
            pooled = finer_by > 1e-9 and above.shape[axis] > 1
            assert below.shape[axis] == (-(-above.shape[axis] // 2) if pooled else above.shape[axis])


@settings(max_examples=20, deadline=None)
@given(worlds(), shapes)
def test_each_level_returns_to_the_places_of_its_skip_connection(world: np.ndarray, shape: Shape) -> None:
    """Features that hold their own coordinates are interpolated to exactly the coordinates of the level above."""
    with torch.inference_mode():
        levels = passing().shared([Placed(spot(shape, (0, 0, 0)), world)]).levels
    for (above,), (below,) in pairwise(levels):
        up = upsample_to(Placed(coordinates(below.shape, below.world), below.world), above.shape, above.world)
        expected = coordinates(above.shape, above.world)
        index = np.stack(np.meshgrid(*map(np.arange, above.shape), indexing="ij"), axis=-1)
        there = index @ np.linalg.solve(below.world, above.world)[:3, :3].T
        there = there + np.linalg.solve(below.world, above.world)[:3, 3]
        inner = torch.from_numpy(((there >= 0) & (there <= np.array(below.shape) - 1)).all(axis=-1))
        np.testing.assert_allclose(up[0][:, inner], expected[0][:, inner], atol=5e-3)


@settings(max_examples=20, deadline=None)
@given(worlds(), worlds(), *[st.tuples(*[st.integers(2, 7)] * 3)] * 2, st.booleans())
def test_the_shared_grid_is_reached_and_left_without_moving_anything(
    first: np.ndarray, second: np.ndarray, one: Shape, other: Shape, isotropic: bool
) -> None:
    """Where a volume lies inside, its coordinates on the shared grid are the grid's own, and back they are its own."""
    grids = [(one, similar(first)), (other, similar(second))]
    shape, world = reference_grid(grids, isotropic)
    common = coordinates(shape, world)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    for size, matrix in grids:
        there = resample(Placed(coordinates(size, matrix), matrix), shape, world, "border")
        relative = np.linalg.solve(matrix, world)
        place = index @ relative[:3, :3].T + relative[:3, 3]
        inner = torch.from_numpy(((place >= 0) & (place <= np.array(size) - 1)).all(axis=-1))
        np.testing.assert_allclose(there[0][:, inner], common[0][:, inner], atol=1e-2)
        back = resample(Placed(common, world), size, matrix, "border")
        np.testing.assert_allclose(back, coordinates(size, matrix), atol=2e-2)


@settings(max_examples=12, deadline=None)
@given(st.data(), st.sampled_from(KINDS), st.sampled_from(REFERENCES))
def test_any_number_of_volumes_in_another_order_gives_the_same_in_that_order(
    data: st.DataObject, kind: str, reference: str
) -> None:
    """Masks and encodings, for one to five volumes of any geometry at one place."""
    built = network(replace(SMALL, interaction=kind, reference=reference))  # type: ignore[arg-type]
    count = data.draw(st.integers(1, 5))
    given_volumes = []
    for number in range(count):
        world = similar(data.draw(worlds()))
        size = tuple(data.draw(st.integers(2, 5)) for _ in range(3))
        generator = torch.Generator().manual_seed(number)
        given_volumes.append(Placed(torch.rand(1, 1, *size, generator=generator), world))
    phi = torch.randn(2, count, 6, generator=torch.Generator().manual_seed(9))
    order = data.draw(st.permutations(range(count)))
    with torch.inference_mode():
        shared = built.shared(given_volumes)
        found, encoded = built.finish(shared, phi), built.encodings(shared, phi)
        moved = built.shared([given_volumes[index] for index in order])
        again, also = built.finish(moved, phi[:, order]), built.encodings(moved, phi[:, order])
    for position, index in enumerate(order):
        torch.testing.assert_close(again[position], found[index], atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(also[:, position], encoded[:, index], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [2, 4])
def test_a_volume_repeated_is_encoded_and_segmented_as_it_is_alone(kind: str, times: int) -> None:
    """It should: all copies are on one grid, with one φ. With different φ they are different questions."""
    built = network(replace(SMALL, interaction=kind))  # type: ignore[arg-type]
    volume = Placed(torch.rand(1, 1, 9, 8, 5, generator=torch.Generator().manual_seed(3)), np.diag([1.5, 1.5, 4, 1.0]))
    phi = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        alone, many = built.shared([volume]), built.shared([volume] * times)
        for logits in built.finish(many, phi.expand(-1, times, -1)):
            torch.testing.assert_close(logits, built.finish(alone, phi)[0], atol=1e-4, rtol=1e-4)
        encoded = built.encodings(many, phi.expand(-1, times, -1))
        torch.testing.assert_close(encoded, built.encodings(alone, phi).expand(-1, times, -1), atol=1e-4, rtol=1e-4)
        other = torch.cat([phi, -phi] + [phi] * (times - 2), dim=1)
        assert (built.finish(many, other)[1] - built.finish(alone, phi)[0]).abs().max() > 1e-3


@pytest.mark.requirement("gradients flow from the segmentation loss into α through φ")
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
@pytest.mark.parametrize(("kind", "reference"), [*((kind, "isotropic") for kind in KINDS), ("attention", "own")])
def test_the_loss_of_a_mask_reaches_every_weight_of_alphas_decoder(
    conditioning: str, kind: str, reference: str
) -> None:
    torch.manual_seed(5)
    language = LanguageModel(
        LanguageConfig(layers=3, hidden_size=16, linear_size=16, heads=2, condition_size=6, encoding_size=5), 40
    )
    config = replace(SMALL, conditioning=conditioning, interaction=kind, reference=reference)  # type: ignore[arg-type]
    vision = network(config).requires_grad_(False)
    volumes = [Placed(torch.rand(1, 1, 6, 7, 5), np.eye(4)), Placed(torch.rand(1, 1, 5, 6, 3), np.diag([1, 1, 2, 1.0]))]
    ids = torch.randint(0, 40, (1, 9))
    marks = [4, 8]  # where <MOD> was read, once for each volume
    phi = language(ids).phi[0, marks][None]
    masks = [torch.sigmoid(logits) for logits in vision(volumes, phi)]
    target = [torch.rand_like(mask).round() for mask in masks]
    overlap = sum((mask * wanted).sum() for mask, wanted in zip(masks, target, strict=True))
    size = sum(mask.sum() + wanted.sum() for mask, wanted in zip(masks, target, strict=True))
    (1 - 2 * overlap / size).backward()  # type: ignore[union-attr]
    for name, parameter in language.named_parameters():
        if name.startswith(("decoder", "condition")):
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name
    assert language.vocabulary.weight.grad is None, "The loss of a mask says nothing about words."
