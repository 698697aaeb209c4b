"""φ moved to the condition that m was trained with."""

from __future__ import annotations

import torch

from vp_model.vision.conditions import settled

CONDITIONS = {"left thalamus": torch.tensor([1.0, 0.0]), "right thalamus": torch.tensor([0.0, 1.0])}


def test_a_vector_near_one_condition_becomes_it_for_each_volume_and_condition() -> None:
    phi = torch.tensor([[[0.9, 0.1], [0.2, 1.1]]])
    expected = torch.stack(list(CONDITIONS.values()))[None]
    assert torch.equal(settled(phi, CONDITIONS), expected)


def test_a_vector_between_conditions_stays_as_it_is() -> None:
    phi = torch.tensor([[[0.5, 0.45]]])
    assert torch.equal(settled(phi, CONDITIONS), phi)


def test_without_a_table_phi_stays_as_it_is() -> None:
    phi = torch.rand(2, 3, 4)
    assert torch.equal(settled(phi, {}), phi)
