"""Interpolation by sums of rows gives what torch's own sampling gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vp_model.interpolation import interpolated


@pytest.mark.parametrize("shape", [(5, 4, 6), (7, 1, 3), (1, 1, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_features_and_gradients_at_any_places_are_those_of_grid_sample(shape: tuple[int, int, int], batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(batch, 6, *shape, generator=generator).requires_grad_()
    places = torch.rand(1, 4, 5, 3, 3, generator=generator) * 3 - 1.5  # a third of them outside
    weights = torch.rand(batch, 6, 4, 5, 3, generator=generator)
    found = interpolated(features, places)
    expected = functional.grid_sample(
        features, places.expand(batch, -1, -1, -1, -1), padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad((found * weights).sum(), features)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), features)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-5)


def test_places_by_the_thousands_go_through_in_parts() -> None:
    features = torch.rand(1, 2, 9, 8, 7)
    places = torch.rand(1, 40, 35, 30, 3) * 2 - 1
    expected = functional.grid_sample(features, places, padding_mode="border", align_corners=False)
    torch.testing.assert_close(interpolated(features, places), expected, atol=1e-6, rtol=1e-5)


def test_half_precision_is_interpolated_in_full_and_stays_half() -> None:
    features = torch.rand(1, 2, 9, 8, 7).bfloat16()
    places = torch.rand(1, 4, 5, 3, 3) * 2 - 1
    found = interpolated(features, places)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, interpolated(features.float(), places).bfloat16())
