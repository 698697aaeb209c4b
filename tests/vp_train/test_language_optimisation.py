"""How α's weights are changed and averaged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel
from vp_train.language.optimisation import ADAMW, MUON, MovingAverage, Optimisers, weights_of_tokens

SMALL = LanguageConfig(layers=2, hidden_size=16, linear_size=24, heads=2, encoding_size=8)
IDS = torch.arange(12).reshape(2, 6)


def model_of(seed: int = 1) -> LanguageModel:
    torch.manual_seed(seed)
    return LanguageModel(SMALL, 20)


def learn(model: LanguageModel, optimisers: Optimisers, steps: int, rate: float = 1e-2) -> float:
    """The loss of the last step."""
    loss = torch.zeros(())
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(IDS).logits.flatten(0, 1), IDS.flatten())
        loss.backward()
        optimisers.step(rate)
    return float(loss.detach())


@pytest.mark.parametrize("kind", [ADAMW, MUON])
def test_every_kind_learns(kind: str) -> None:
    model = model_of()
    optimisers = Optimisers(model, kind, 1e-2)
    first = learn(model, optimisers, 1)
    assert learn(model, optimisers, 20) < first / 2


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="adamw and muon"):
        Optimisers(model_of(), "sgd", 1e-2)


def test_muon_changes_a_matrix_of_a_layer_in_all_directions_alike() -> None:
    model = model_of()
    weight = dict(model.named_parameters())["decoder.layers.0.self_attn.o_proj.weight"]
    before = weight.detach().clone()
    learn(model, Optimisers(model, MUON, 1e-3), 1, rate=1e-3)
    strengths = torch.linalg.svdvals(weight.detach() - before)
    # Half precision within, and a weak gradient's last directions, leave them within a factor of some.
    assert strengths[: len(strengths) // 2].max() < 2 * strengths[: len(strengths) // 2].min()


def test_the_rate_is_that_of_the_step() -> None:
    model = model_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learn(model, Optimisers(model, MUON, 1e-2), 1, rate=0.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [ADAMW, MUON])
def test_going_on_from_a_saved_state_is_as_if_nothing_had_been_saved(kind: str) -> None:
    through, first, second = model_of(), model_of(), model_of(2)
    learn(through, Optimisers(through, kind, 1e-2), 4)
    optimisers = Optimisers(first, kind, 1e-2)
    learn(first, optimisers, 2)
    second.load_state_dict(first.state_dict())
    again = Optimisers(second, kind, 1e-2)
    again.take(optimisers.state())
    learn(second, again, 2)
    for name, value in through.state_dict().items():
        assert torch.allclose(value, second.state_dict()[name], atol=1e-6), name


def test_the_average_follows_the_weights_and_forgets_the_old_ones() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, 0.9)
    nn.init.ones_(model.weight)
    values = []
    for _ in range(200):
        average.update(model)
        values.append(float(average.weights["weight"]))
    assert values == sorted(values)
    assert 0 < values[0] < 1
    assert values[-1] == pytest.approx(1, abs=1e-3)


def test_an_average_that_is_gone_on_from_is_the_saved_one() -> None:
    model = nn.Linear(2, 2)
    average = MovingAverage(model, 0.99)
    saved = {name: value + 1 for name, value in average.weights.items()}
    average.take(saved)
    average.update(model)
    for name, value in average.weights.items():
        assert torch.allclose(value, saved[name] * 0.99 + model.state_dict()[name] * 0.01, atol=1e-6)


def test_the_first_token_of_each_program_counts_more() -> None:
    assert weights_of_tokens(torch.tensor([0, 0, 0, 1, 1, 3]), 2.0).tolist() == [2, 1, 1, 2, 1, 2]
