"""Where volumes of different geometries meet: on a shared grid, or each at home."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from tests.vp_model.test_vision import ISOTROPIC, SMALL, THICK, conditions, network, volumes
from vp_model.geometry import Placed, field_of_view, same_geometry
from vp_model.vision.config import Reference, config_from_dict
from vp_model.vision.interaction import Interaction

REFERENCES: tuple[Reference, ...] = get_args(Reference)
KINDS = ("attention", "mean", "max")
ACROSS = ISOTROPIC.copy()
ACROSS[:2, :2] = 1.7 * np.array([[0.8, -0.6], [0.6, 0.8]])
ACROSS[:3, 3] = 4.0, -3.0, 2.0


def a_set() -> list[Placed]:
    """Three volumes whose grids lie across each other."""
    return volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK), ((6, 7, 8), ACROSS))


def an_interaction(reference: Reference, kind: str, channels: int = 8) -> Interaction:
    torch.manual_seed(0)
    layer = Interaction(channels, replace(SMALL, reference=reference, interaction=kind), True)  # type: ignore[arg-type]
    torch.nn.init.normal_(layer.expand.weight)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_the_same_wherever_volumes_meet(kind: str) -> None:
    states = [
        network(replace(SMALL, reference=reference, interaction=kind)).state_dict()  # type: ignore[arg-type]
        for reference in REFERENCES
    ]
    for state in states[1:]:
        assert {name: value.shape for name, value in state.items()} == {
            name: value.shape for name, value in states[0].items()
        }


@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_volumes_of_one_geometry_are_seen_alike_wherever_volumes_meet(conditioning: str, kind: str, count: int) -> None:
    given = volumes(*[((9, 8, 5), THICK)] * count)
    phi = conditions(2, count)
    found = []
    for reference in REFERENCES:
        config = replace(SMALL, reference=reference, interaction=kind, conditioning=conditioning)  # type: ignore[arg-type]
        with torch.inference_mode():
            found.append(network(config)(given, phi))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_at_home_each_volume_asks_at_its_own_voxels_what_the_others_tell_there(kind: str) -> None:
    """Against scipy's interpolation and torch's own attention, voxel by voxel."""
    layer = an_interaction("own", kind)
    generator = torch.Generator().manual_seed(3)
    given = [placed.with_features(torch.randn(1, 8, *placed.shape, generator=generator)) for placed in a_set()]
    phi = conditions(1, 3)
    told = [_told(layer, placed, phi[0, index]) for index, placed in enumerate(given)]
    originals = [placed.features.clone() for placed in given]
    with torch.inference_mode():
        found = layer(given, phi)
    for index, placed in enumerate(found):
        met = torch.stack([_sampled(rows, other, placed) for rows, other in zip(told, given, strict=True)])
        seen = torch.stack(
            [field_of_view(other.shape, other.world, placed.shape, placed.world).flatten() for other in given]
        )
        expected = originals[index].flatten(2)[0].T + _learned(layer, met, seen, index)
        torch.testing.assert_close(placed.features.flatten(2)[0].T, expected, atol=1e-4, rtol=1e-4)


def _told(layer: Interaction, placed: Placed, phi: torch.Tensor) -> NDArray[np.float32]:
    """(s, w, h, d)."""
    assert layer.condition is not None
    both = torch.cat([layer.features.weight, layer.condition.weight], dim=1)
    rows = placed.features.flatten(2)[0].T
    voiced = functional.silu(torch.cat([rows, phi.expand(len(rows), -1)], dim=1) @ both.T + layer.features.bias)
    narrow = layer.reduce(voiced) if layer.kind == "attention" else voiced
    return narrow.T.reshape(-1, *placed.shape).numpy()


def _sampled(told: NDArray[np.float32], other: Placed, placed: Placed) -> torch.Tensor:
    """(v, s): what one volume tells at the voxels of another."""
    index = np.stack(np.meshgrid(*map(np.arange, placed.shape), indexing="ij")).reshape(3, -1)
    there = np.linalg.solve(other.world, placed.world)
    points = there[:3, :3] @ index + there[:3, 3:]
    channels = [ndimage.map_coordinates(channel, points, order=1, mode="nearest") for channel in told]
    return torch.from_numpy(np.stack(channels, axis=-1)).float()


def _learned(layer: Interaction, met: torch.Tensor, seen: torch.Tensor, index: int) -> torch.Tensor:
    """(v, c), of tokens (n, v, s); `seen` (n, v)."""
    if layer.kind == "mean":
        summary = (met * seen[..., None]).sum(dim=0) / seen.sum(dim=0)[:, None]
        return layer.expand(torch.cat([met[index], summary], dim=1))
    if layer.kind == "max":
        summary = torch.where(seen[..., None], met, -torch.inf).amax(dim=0)
        return layer.expand(torch.cat([met[index], summary], dim=1))
    attention = layer.exchange
    normed = attention.norm_attention(met).transpose(0, 1)  # (v, n, s)
    query, key = attention.query_key(normed).chunk(2, dim=-1)
    query, key, value = (
        x.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for x in (query, key, attention.value(normed))
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen.T[:, None, None, :])
    tokens = met[index] + attention.out(mixed.transpose(1, 2).flatten(2)[:, index])
    return layer.expand(tokens + attention.mlp(attention.norm_mlp(tokens)))


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_and_without_gradients_m_finds_the_same_and_leaves_what_it_was_given(
    reference: Reference, conditioning: str, kind: str
) -> None:
    config = replace(SMALL, reference=reference, interaction=kind, conditioning=conditioning, depth=2)  # type: ignore[arg-type]
    built, given, phi = network(config), a_set(), conditions(2, 3)
    before = [placed.features.clone() for placed in given]
    learning = built(given, phi)
    built.recomputed_levels = 2
    recomputing = built(given, phi)
    with torch.inference_mode():
        shared = built.shared(given)
        kept = [placed.features.clone() for level in shared.levels for placed in level]
        asking, again, whole = built.finish(shared, phi), built.finish(shared, phi), built(given, phi)
    for index, logits in enumerate(learning):
        for other in (recomputing, asking, again, whole):
            torch.testing.assert_close(other[index], logits, atol=2e-5, rtol=1e-4)
        assert torch.equal(given[index].features, before[index])
    now = [placed.features for level in shared.levels for placed in level]
    assert all(torch.equal(one, other) for one, other in zip(now, kept, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_and_every_volume_at_home(kind: str) -> None:
    built = network(replace(SMALL, reference="own", interaction=kind))  # type: ignore[arg-type]
    given = [placed.with_features(placed.features.requires_grad_()) for placed in a_set()]
    phi = conditions(1, 3).requires_grad_()
    torch.stack([logits.square().mean() for logits in built(given, phi)[:1]]).sum().backward()
    assert phi.grad is not None and (phi.grad.abs().sum(dim=-1) > 0).all()
    for placed in given:
        assert placed.features.grad is not None and placed.features.grad.abs().sum() > 0
    for name, parameter in built.named_parameters():
        if "interaction" in name:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_no_grid_is_made_at_home() -> None:
    layer = an_interaction("own", "attention")
    grids = [(placed.shape, placed.world) for placed in a_set()]
    assert not same_geometry(grids)
    assert layer.grid(grids) is None
    assert layer.grid(grids[:1]) == grids[0]


def test_an_unknown_meeting_place_is_refused() -> None:
    with pytest.raises(ValueError, match="own"):
        config_from_dict({**SMALL.as_dict(), "reference": "somewhere"})
