"""Muon for convolutions."""

from __future__ import annotations

import torch
from torch import nn

from vp_model.vision.convolution import Convolution
from vp_train.training.convolution_muon import ConvolutionMuon


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.deeper = Convolution(2, 4), Convolution(4, 4)
        self.read = nn.Conv3d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.read(self.deeper(self.enter(x)))
        return found


def spread(weight: torch.Tensor) -> float:
    """How far the strongest direction of a matrix is above the weakest."""
    strengths = torch.linalg.svdvals(weight.flatten(1))
    return float(strengths.max() / strengths.min())


def test_convolutions_change_by_orthogonal_steps_and_the_rest_changes_as_well() -> None:
    torch.manual_seed(3)
    network = Two()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser = ConvolutionMuon(network, decay=0.0)
    network(torch.randn(1, 2, 6, 6, 6)).square().mean().backward()
    assert network.deeper.weight.grad is not None
    of_gradient = spread(network.deeper.weight.grad)
    optimiser.step(1e-3)
    changed = {name: value.detach() - before[name] for name, value in network.named_parameters()}
    assert all(bool(change.any()) for change in changed.values())
    assert spread(changed["deeper.weight"]) < 0.2 * of_gradient
    assert all(value.grad is None for value in network.parameters())


def test_steps_lower_a_loss() -> None:
    torch.manual_seed(4)
    network, image = Two(), torch.randn(1, 2, 6, 6, 6)
    wanted = image[:, :1] - image[:, 1:]
    optimiser = ConvolutionMuon(network, decay=0.0)
    losses = []
    for _ in range(200):
        loss = (network(image) - wanted).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(5e-3)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]


def test_the_order_in_memory_changes_nothing() -> None:
    found = []
    for order in (torch.contiguous_format, torch.channels_last_3d):
        torch.manual_seed(4)
        network, image = Two().to(memory_format=order), torch.randn(1, 2, 6, 6, 6)  # type: ignore[call-overload]
        other = nn.Parameter(torch.ones(3))
        optimiser = ConvolutionMuon(network, decay=0.01, others=[other])
        for _ in range(3):
            (network(image).square().mean() + other.square().sum()).backward()
            optimiser.step(5e-3)
        assert bool((other < 1).all())
        found.append(network.state_dict())
    for name, value in found[0].items():  # orthogonal steps are computed in half precision
        torch.testing.assert_close(found[1][name], value, atol=2e-4, rtol=0.02)
