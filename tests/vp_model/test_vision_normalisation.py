"""Normalisation in groups of channels, as a GPU computes it, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vp_model.vision.normalisation import GroupNorm, normalised


def parts(shape: tuple[int, ...], memory: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64) * 2 + 1
    weight, bias = (torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in range(2))
    return x.to(memory_format=memory).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("shape", [(1, 8, 5, 4, 3), (2, 12, 3, 1, 4)])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], memory: torch.memory_format) -> None:
    x, weight, bias = parts(shape, memory)
    found = normalised(x, shape[1] // 4, weight, bias, 1e-5)
    expected = functional.group_norm(x, shape[1] // 4, weight, bias, 1e-5)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight, bias), cotangent),
        torch.autograd.grad(expected, (x, weight, bias), cotangent),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_lower_precision_is_normalised_in_single() -> None:
    x, weight, bias = (part.detach() for part in parts((1, 8, 6, 6, 6), torch.channels_last_3d))
    low = x.bfloat16().requires_grad_()
    found = normalised(low, 2, weight.float(), bias.float(), 1e-5)
    assert found.dtype == torch.float32
    expected = functional.group_norm(low.detach().double(), 2, weight, bias, 1e-5)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    found.sum().backward()
    assert low.grad is not None and low.grad.dtype == torch.bfloat16


def test_a_layer_on_a_cpu_is_torch_s_own() -> None:
    layer = GroupNorm(2, 8)
    x = torch.randn(1, 8, 3, 3, 3)
    assert torch.equal(layer(x), functional.group_norm(x, 2, layer.weight, layer.bias, layer.eps))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_layer_on_a_gpu_gives_what_the_cpu_gives() -> None:
    layer = GroupNorm(4, 16)
    x = torch.randn(1, 16, 20, 24, 18)
    torch.testing.assert_close(layer.to("cuda")(x.to("cuda")).cpu(), layer.cpu()(x), atol=1e-5, rtol=1e-5)
