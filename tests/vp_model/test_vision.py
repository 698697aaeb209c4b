"""The vision network: its size, its conditions, its volumes, its geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vp_model.geometry import Placed
from vp_model.vision.config import VisionConfig, config_from_dict, preset
from vp_model.vision.network import VisionNetwork

SMALL = VisionConfig(channels=(4, 8, 8), interaction_size=8, interaction_heads=2, condition_size=6, encoding_size=5)
ISOTROPIC = np.diag([2.0, 2.0, 2.0, 1.0])
THICK = np.array([[1.5, 0.0, 0.6, 3.0], [0.0, 1.5, 0.0, -2.0], [-0.2, 0.0, 5.0, 1.0], [0, 0, 0, 1.0]])


def network(config: VisionConfig = SMALL, seed: int = 0) -> VisionNetwork:
    """A network whose interaction, which starts at zero, has something to say."""
    torch.manual_seed(seed)
    built = VisionNetwork(config).eval()
    for name, parameter in built.named_parameters():
        if "expand" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return built


def volumes(*places: tuple[tuple[int, int, int], np.ndarray]) -> list[Placed]:
    generator = torch.Generator().manual_seed(1)
    return [Placed(torch.rand(1, 1, *shape, generator=generator), world) for shape, world in places]


def conditions(count: int, n: int, size: int = 6) -> torch.Tensor:
    return torch.randn(count, n, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("name", "millions"), [("paper", 3.48), ("compact", 1.329)])
def test_presets_have_the_stated_number_of_parameters(name: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in VisionNetwork(preset(name)).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_paper_preset_is_the_paper() -> None:
    config = preset("paper")
    assert config.channels == (32, 96, 96, 96, 96, 96)
    assert (config.interaction, config.interaction_size, config.condition_size, config.group) == (
        "attention",
        32,
        32,
        4,
    )
    assert (config.conditioning, config.reference, config.working_spacing_mm) == ("all", "isotropic", None)
    assert (config.depth, config.readout_hidden, config.interaction_from) == (1, 0, 1)
    built = VisionNetwork(config)
    assert list(built.down_interaction) == ["1", "2", "3", "4", "5"]
    assert list(built.up_interaction) == ["1", "2", "3", "4"]
    assert all(layer.condition is not None for layer in built.down_interaction.values())


def test_configuration_survives_writing_and_reading() -> None:
    for name in ("paper", "compact"):
        assert config_from_dict(preset(name).as_dict()) == preset(name)


def test_unknown_configuration_key_is_named() -> None:
    with pytest.raises(ValueError, match="breadth"):
        config_from_dict({**preset("compact").as_dict(), "breadth": 3})


@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
@pytest.mark.parametrize("interaction", ["attention", "mean", "max"])
def test_each_volume_gets_logits_on_its_own_grid(conditioning: str, interaction: str) -> None:
    config = replace(SMALL, conditioning=conditioning, interaction=interaction)  # type: ignore[arg-type]
    given = volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK))
    found = network(config)(given, conditions(3, 2))
    assert [tuple(logits.shape) for logits in found] == [(3, 9, 8, 7), (3, 12, 11, 4)]


@pytest.mark.parametrize("interaction", ["attention", "mean", "max"])
def test_volumes_in_another_order_give_the_same_results_in_that_order(interaction: str) -> None:
    built = network(replace(SMALL, interaction=interaction))  # type: ignore[arg-type]
    given = volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK), ((8, 8, 8), ISOTROPIC))
    phi = conditions(2, 3)
    found = built(given, phi)
    order = [2, 0, 1]
    moved = built([given[index] for index in order], phi[:, order])
    for index, logits in zip(order, moved, strict=True):
        torch.testing.assert_close(logits, found[index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("conditioning", ["all", "readout"])
@pytest.mark.parametrize("interaction", ["attention", "mean", "max"])
def test_a_volume_given_twice_is_segmented_as_if_given_once(conditioning: str, interaction: str) -> None:
    built = network(replace(SMALL, conditioning=conditioning, interaction=interaction))  # type: ignore[arg-type]
    (given,) = volumes(((9, 8, 7), THICK))
    phi = conditions(2, 1)
    once = built([given], phi)[0]
    for logits in built([given, given], phi.expand(-1, 2, -1)):
        torch.testing.assert_close(logits, once, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("reference", ["isotropic", "own"])
@pytest.mark.parametrize("interaction", ["attention", "mean", "max"])
def test_volumes_of_a_set_see_each_other(interaction: str, reference: str) -> None:
    built = network(replace(SMALL, interaction=interaction, reference=reference))  # type: ignore[arg-type]
    first, second = volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK))
    phi = conditions(1, 2)
    before = built([first, second], phi)[0]
    after = built([first, second.with_features(1 - second.features)], phi)[0]
    assert (before - after).abs().max() > 1e-3


def test_without_interaction_volumes_are_left_alone() -> None:
    built = network(replace(SMALL, interaction="none", conditioning="readout"))
    first, second = volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK))
    phi = conditions(1, 2)
    torch.testing.assert_close(built([first, second], phi)[0], built([first], phi[:, :1])[0])


@pytest.mark.parametrize("reference", ["axis", "own"])
def test_volume_elsewhere_changes_nothing_here(reference: str) -> None:
    """A volume that covers no part of another is not read there."""
    far = ISOTROPIC.copy()
    far[0, 3] = 4000.0
    built = network(replace(SMALL, channels=(4, 8), reference=reference))  # type: ignore[arg-type]
    first, second = volumes(((6, 6, 6), ISOTROPIC), ((6, 6, 6), far))
    phi = conditions(1, 2)
    before = built([first, second], phi)[0]
    after = built([first, second.with_features(1 - second.features)], phi)[0]
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reference", ["isotropic", "own"])
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_conditions_together_equal_conditions_one_by_one(conditioning: str, reference: str) -> None:
    built = network(replace(SMALL, conditioning=conditioning, reference=reference))  # type: ignore[arg-type]
    given = volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK))
    phi = conditions(3, 2)
    shared = built.shared(given)
    together = built.finish(shared, phi)
    for index in range(3):
        alone = built.finish(shared, phi[index : index + 1])
        for volume in range(2):
            torch.testing.assert_close(alone[volume][0], together[volume][index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_condition_changes_what_is_found(conditioning: str) -> None:
    built = network(replace(SMALL, conditioning=conditioning))  # type: ignore[arg-type]
    found = built(volumes(((9, 8, 7), ISOTROPIC)), conditions(2, 1))[0]
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_encodings_have_one_row_for_each_volume(conditioning: str) -> None:
    built = network(replace(SMALL, conditioning=conditioning))  # type: ignore[arg-type]
    shared = built.shared(volumes(((9, 8, 7), ISOTROPIC), ((12, 11, 4), THICK)))
    assert tuple(built.encodings(shared, conditions(3, 2)).shape) == (3, 2, 5)


def test_split_convolution_equals_convolution_of_the_concatenation() -> None:
    up = network().up[0]
    below, skip = torch.rand(1, 8, 5, 6, 7), torch.rand(1, 4, 5, 6, 7)
    weight = torch.cat([up.from_below.weight, up.from_skip.weight], dim=1)
    whole = torch.nn.functional.conv3d(torch.cat([below, skip], dim=1), weight, up.from_below.bias, padding=1)
    torch.testing.assert_close(up(below, skip), torch.nn.functional.silu(whole), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("world", [ISOTROPIC, THICK])
@pytest.mark.parametrize("conditioning", ["all", "readout"])
def test_levels_joined_slab_by_slab_are_joined_as_a_whole(
    conditioning: str, world: np.ndarray, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = network(replace(SMALL, conditioning=conditioning))  # type: ignore[arg-type]
    given, phi = volumes(((11, 8, 7), world)), conditions(2, 1)
    with torch.inference_mode():
        whole = built(given, phi)[0]
        monkeypatch.setattr("vp_model.vision.slabs.UPSAMPLED_BYTES", 0)
        monkeypatch.setattr("vp_model.vision.slabs.LEAST_ROWS", rows)
        torch.testing.assert_close(built(given, phi)[0], whole, atol=2e-5, rtol=1e-4)


def test_network_that_grows_deeper_starts_as_the_network_it_was() -> None:
    config = replace(SMALL, conditioning="readout")
    shallow = network(config)
    deep = VisionNetwork(replace(config, depth=3, readout_hidden=7)).eval()
    missing, unexpected = deep.load_state_dict(shallow.state_dict(), strict=False)
    assert not unexpected
    assert all("refinement" in name or "hidden" in name for name in missing)
    given, phi = volumes(((9, 8, 7), THICK)), conditions(2, 1)
    torch.testing.assert_close(deep(given, phi)[0], shallow(given, phi)[0], atol=1e-5, rtol=1e-5)


def test_conditions_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(k, 1, 6\)"):
        network()(volumes(((6, 6, 6), ISOTROPIC)), conditions(2, 2))
