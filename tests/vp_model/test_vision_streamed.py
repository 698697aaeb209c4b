"""m in bounded memory gives what m gives with everything in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vp_model.imaging_cases import worlds
from tests.vp_model.test_vision import ISOTROPIC, SMALL, THICK, conditions, network, volumes
from vp_model.geometry import Placed
from vp_model.vision.config import VisionConfig
from vp_model.vision.fields import Convolved, Stored
from vp_model.vision.footprint import dense_bytes
from vp_model.vision.inference import FeatureCache, each_condition, segment_volumes
from vp_model.vision.network import VisionNetwork
from vp_model.vision.slabs import slabs
from vp_model.vision.streamed import Gathering, Memory, StreamedLook, look_streamed
from vp_model.volume import Volume

TIGHT, NARROW, AMPLE = 20_000, 60_000, 10**9
"""Bytes: nearly nothing is kept, some of it, all of it."""


def trained(config: VisionConfig) -> VisionNetwork:
    """A network whose normalisations, also with negative weights, and refinements do something."""
    built = network(config)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif "refinement" in name or "read_out.below" in name:
                parameter.normal_(std=0.1)
    return built


def assert_same(built: VisionNetwork, given_volumes: list[Placed], limit: int) -> None:
    phi = conditions(2, len(given_volumes))
    with torch.inference_mode():
        expected = built(given_volumes, phi)
        look = look_streamed(built, given_volumes, Memory(limit))
        for found, dense in zip(look.logits(phi), expected, strict=True):
            torch.testing.assert_close(found, dense, atol=2e-5, rtol=1e-4)
        encoded = built.encodings(built.shared(given_volumes), phi)
        torch.testing.assert_close(look.encodings(phi), encoded, atol=2e-5, rtol=1e-4)


@pytest.mark.requirement("slab by slab, the vision network finds what it finds with everything in memory")
@pytest.mark.parametrize("limit", [TIGHT, NARROW, AMPLE])
@pytest.mark.parametrize("interaction", ["attention", "mean", "max"])
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_slabs_give_what_the_whole_gives(conditioning: str, interaction: str, limit: int) -> None:
    config = replace(SMALL, conditioning=conditioning, interaction=interaction, depth=2)  # type: ignore[arg-type]
    assert_same(trained(config), volumes(((17, 12, 14), ISOTROPIC), ((12, 13, 4), THICK)), limit)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 5])
def test_slabs_give_what_the_whole_gives_with_a_perceptron_before_the_read_out(size: int, levels: int) -> None:
    config = replace(SMALL, conditioning="readout", readout_hidden=6, readout_size=size, readout_levels=levels)
    for limit in (TIGHT, AMPLE):
        assert_same(trained(config), volumes(((17, 12, 14), ISOTROPIC), ((12, 13, 4), THICK)), limit)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 11)] * 3), worlds(), st.sampled_from([TIGHT, NARROW]))
def test_slabs_give_what_the_whole_gives_on_any_grid(
    shape: tuple[int, int, int], world: NDArray[np.float64], limit: int
) -> None:
    """Oblique, sheared and anisotropic lattices of any size."""
    assert_same(trained(SMALL), volumes((shape, world)), limit)


@pytest.mark.parametrize("limit", [TIGHT, AMPLE])
@pytest.mark.parametrize(
    ("interaction", "conditioning"),
    [("attention", "all"), ("attention", "readout"), ("mean", "decoder"), ("max", "all")],
)
def test_slabs_give_what_the_whole_gives_where_each_volume_asks_at_home(
    interaction: str, conditioning: str, limit: int
) -> None:
    config = replace(SMALL, interaction=interaction, conditioning=conditioning, reference="own")  # type: ignore[arg-type]
    assert_same(trained(config), volumes(((13, 12, 9), ISOTROPIC), ((12, 13, 4), THICK)), limit)


@pytest.mark.parametrize("reference", ["isotropic", "own"])
def test_slabs_give_what_the_whole_gives_on_grids_that_lie_across_each_other(reference: str) -> None:
    turned = ISOTROPIC.copy()
    turned[:2, :2] = 1.7 * np.array([[0.8, -0.6], [0.6, 0.8]])
    turned[:3, 3] = 4.0, -3.0, 2.0
    built = trained(replace(SMALL, reference=reference))  # type: ignore[arg-type]
    assert_same(built, volumes(((12, 13, 9), ISOTROPIC), ((10, 9, 4), THICK), ((9, 8, 11), turned)), TIGHT)


def test_a_field_gives_any_box_as_the_layer_gives_the_whole() -> None:
    built = trained(SMALL)
    (placed,) = volumes(((7, 8, 9), ISOTROPIC))
    with torch.inference_mode():
        whole = torch.nn.functional.silu(built.down[0](placed.features))
        box = Convolved(Stored(placed), built.down[0]).box((0, 3, 4), (5, 4, 9))  # type: ignore[arg-type]
    torch.testing.assert_close(box, whole[:, :, 0:5, 3:4, 4:9], atol=1e-6, rtol=1e-5)


def test_gathered_statistics_are_those_of_the_whole_also_far_from_zero() -> None:
    x = torch.randn(2, 8, 13, 5, 6, generator=torch.Generator().manual_seed(0)) + 300.0
    gathering = Gathering()
    for low, high in slabs((13, 5, 6), 4):
        gathering.add(x[:, :, low[0] : high[0]])
    found = gathering.of_groups(2)
    groups = x.double().view(2, 2, -1)
    torch.testing.assert_close(found.mean, groups.mean(dim=2), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.variance, groups.var(dim=2, correction=0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("limit", [TIGHT, NARROW])
def test_what_is_kept_stays_within_the_memory(limit: int) -> None:
    built = trained(replace(SMALL, conditioning="readout"))
    memory = Memory(limit)
    look = look_streamed(built, volumes(((33, 24, 28), ISOTROPIC)), memory)
    assert 0 <= memory.free < limit
    del look
    assert memory.free == limit - limit // 16


def test_large_volumes_go_through_in_slabs_and_small_ones_as_they_are() -> None:
    built = trained(replace(SMALL, working_spacing_mm=None))
    volume = Volume(torch.rand(1, 24, 22, 20), ISOTROPIC)
    phi = conditions(3, 1)
    ample, tight = FeatureCache(), FeatureCache(memory_bytes=TIGHT)
    dense = segment_volumes(built, [volume], phi, ample)[0]
    streamed = segment_volumes(built, [volume], phi, tight)[0]
    assert isinstance(tight.look(built, [volume]).look, StreamedLook)
    assert not isinstance(ample.look(built, [volume]).look, StreamedLook)
    torch.testing.assert_close(streamed, dense, atol=1e-5, rtol=1e-4)


def test_the_cache_forgets_what_does_not_fit_beside_the_new() -> None:
    built = trained(replace(SMALL, conditioning="readout"))
    given_volumes = [Volume(torch.rand(1, 16, 16, 16), ISOTROPIC) for _ in range(3)]
    one = FeatureCache().look(built, given_volumes[:1])
    needed = dense_bytes(built.config, [item.image for item in one.prepared])
    cache = FeatureCache(memory_bytes=needed + one.size)
    first = cache.look(built, given_volumes[:1])
    second = cache.look(built, given_volumes[1:2])
    assert cache.look(built, given_volumes[:1]) is first
    cache.look(built, given_volumes[2:])
    assert cache.look(built, given_volumes[1:2]) is not second


def test_conditions_come_one_after_the_other() -> None:
    built = trained(replace(SMALL, conditioning="readout"))
    volume = Volume(torch.rand(1, 12, 13, 14), THICK)
    phi = conditions(3, 1)
    together = segment_volumes(built, [volume], phi)[0]
    for number, (probability,) in enumerate(each_condition(built, [volume], phi)):
        assert tuple(probability.shape) == volume.shape
        torch.testing.assert_close(probability, together[number])


@pytest.mark.parametrize("limit", [TIGHT, AMPLE])
@pytest.mark.parametrize("conditioning", ["all", "readout"])
def test_half_precision_finds_nearly_the_same_and_answers_in_full(conditioning: str, limit: int) -> None:
    built = trained(replace(SMALL, conditioning=conditioning, depth=2))  # type: ignore[arg-type]
    volume, phi = Volume(torch.rand(1, 12, 13, 14), THICK), conditions(2, 1)
    exact = segment_volumes(built, [volume], phi)[0]
    cache = FeatureCache(memory_bytes=limit, precision="bfloat16")
    found = segment_volumes(built, [volume], phi, cache)[0]
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.1
    assert not torch.is_autocast_enabled("cpu")
