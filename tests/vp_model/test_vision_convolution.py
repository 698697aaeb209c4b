"""Gradients of the convolution in lower precision on small grids: computed, not read from what lay in memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vp_model.vision.convolution import MISREAD, Convolution


def littered() -> None:
    """Leaves freed memory full of NaN for whoever asks for memory next and does not write it."""
    sizes = (10, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
    litter = [torch.full((size,), torch.nan) for size in sizes for _ in range(3)]
    assert all(bool(piece.isnan().all()) for piece in litter)


@pytest.mark.requirement("Mixed precision gives the gradients of full precision")
@pytest.mark.parametrize("first", [1, MISREAD, 3])
def test_weight_gradient_in_bfloat16_does_not_depend_on_what_lay_in_memory(first: int) -> None:
    generator = torch.Generator().manual_seed(first)
    layer = Convolution(16, 16)
    x, wanted = (torch.randn(1, 16, first, 4, 3, generator=generator) for _ in range(2))
    (exact,) = torch.autograd.grad(functional.conv3d(x, layer.weight, layer.bias, padding=1), layer.weight, wanted)
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            littered()
            found = layer(x)
        littered()
        (gradient,) = torch.autograd.grad(found, layer.weight, wanted.bfloat16())
        assert found.shape == wanted.shape
        assert float((gradient - exact).abs().max() / exact.abs().max()) < 0.02


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (5, 6, 7), (12, 11, 10)])
@pytest.mark.parametrize("padding", [(1, 1, 1), (0, 1, 1)])
@pytest.mark.parametrize("inputs", [1, 16])
def test_without_gradients_a_convolution_of_any_size_gives_what_it_gives_with_them(
    inputs: int, padding: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Convolution(inputs, 16)
    x = torch.randn(1, inputs, shape[0] + 2 * (1 - padding[0]), *shape[1:], generator=generator)
    expected = functional.conv3d(x, layer.weight, layer.bias, padding=padding)
    with torch.inference_mode():
        found = layer.padded(x, padding)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last_3d) or inputs > 1
