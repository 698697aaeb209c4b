"""The projection to φ is fitted to a table of conditions, more of them than α is wide."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vp_train.language.training import fitted_projection

WIDTH, SIZE, REGIONS = 8, 4, 20


def hidden_and_wanted(exact: bool, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """States of each region in five prompts, and φ; what leads to it lies in their span, or anywhere."""
    noise = torch.Generator().manual_seed(seed)
    states = torch.randn(REGIONS, WIDTH, generator=noise, dtype=torch.double)
    layer = torch.randn(WIDTH, SIZE, generator=noise, dtype=torch.double).abs()
    before = states @ layer if exact else torch.randn(REGIONS, SIZE, generator=noise, dtype=torch.double)
    return states.repeat(5, 1), functional.silu(before.clamp(min=-1.2)).repeat(5, 1)


def error(hidden: torch.Tensor, wanted: torch.Tensor, layer: torch.Tensor) -> float:
    return float((functional.silu(hidden @ layer[:-1] + layer[-1]) - wanted).square().mean())


def test_the_fit_is_never_worse_than_the_layer_that_was_learned() -> None:
    hidden, wanted = hidden_and_wanted(exact=False)
    learned = torch.randn(WIDTH + 1, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    fitted, largest = fitted_projection(hidden, wanted, learned)
    assert error(hidden, wanted, fitted) < 0.5 * error(hidden, wanted, learned)
    found = functional.silu(hidden @ fitted[:-1] + fitted[-1])
    assert largest == pytest.approx(float((found - wanted).abs().max()))


def test_a_layer_that_is_right_already_stays_so() -> None:
    hidden, _ = hidden_and_wanted(exact=True)
    learned = torch.randn(WIDTH + 1, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    wanted = functional.silu(hidden @ learned[:-1] + learned[-1])
    assert fitted_projection(hidden, wanted, learned)[1] < 1e-3
