"""Averaging over the mirror image: left and right change places, volumes stay aligned, voxels stay where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vp_model.vision.config import preset
from vp_model.vision.inference import FeatureCache, segment_volumes
from vp_model.vision.mirrored import MirroredViews, load_conditions, mirrored, other_side, segment_averaged
from vp_model.vision.network import VisionNetwork
from vp_model.volume import Volume
from vp_train.training.condition import ConditionTable, save_conditions

REGIONS = ("left thalamus", "right thalamus", "brainstem")


@pytest.fixture(scope="module")
def network() -> VisionNetwork:
    torch.manual_seed(3)
    config = replace(preset("slim"), working_spacing_mm=4.0)
    return VisionNetwork(config).eval()


def head(world: np.ndarray, seed: int = 1) -> Volume:
    generator = torch.Generator().manual_seed(seed)
    voxels = torch.nn.functional.interpolate(torch.rand(1, 1, 6, 5, 5, generator=generator) + 0.2, (40, 36, 32))
    return Volume(voxels[0], world, "v1", "T1", None, 0)


STRAIGHT = np.diag([2.0, 2.0, 2.0, 1.0])
OBLIQUE = np.array([[1.98, 0.2, 0.0, -40.0], [-0.2, 1.97, 0.3, -30.0], [0.02, -0.29, 1.98, -35.0], [0, 0, 0, 1.0]])


def conditions() -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    return {name: torch.rand(32) for name in REGIONS}


@pytest.mark.parametrize("world", [STRAIGHT, OBLIQUE])
def test_a_mirrored_world_is_the_flipped_image(network: VisionNetwork, world: np.ndarray) -> None:
    volume = head(world)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.shape[0] - 1
    flipped = replace(volume, features=volume.features.flip(1), world=np.diag([-1.0, 1, 1, 1]) @ world @ flip)
    phi = conditions()["brainstem"].expand(1, 1, -1)
    one = segment_volumes(network, [mirrored(volume)], phi)[0]
    other = segment_volumes(network, [flipped], phi)[0].flip(1)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_left_of_the_image_is_right_of_its_mirror_image(network: VisionNetwork) -> None:
    known, volume = conditions(), head(OBLIQUE)
    views, cache = MirroredViews(known), FeatureCache()
    left = segment_averaged(network, [volume], "left thalamus", known["left thalamus"].expand(1, 1, -1), views, cache)
    swapped = mirrored(volume)
    right = segment_averaged(
        network, [swapped], "right thalamus", known["right thalamus"].expand(1, 1, -1), views, FeatureCache()
    )
    torch.testing.assert_close(left[0], right[0], atol=1e-5, rtol=1e-4)


def test_a_region_without_a_trained_condition_is_not_averaged(network: VisionNetwork) -> None:
    volume, phi = head(STRAIGHT), torch.rand(1, 1, 32)
    averaged = segment_averaged(network, [volume], "left putamen", phi, MirroredViews(conditions()), FeatureCache())
    torch.testing.assert_close(averaged[0], segment_volumes(network, [volume], phi)[0])


def test_each_volume_is_mirrored_once(network: VisionNetwork) -> None:
    views, volume = MirroredViews(conditions()), head(STRAIGHT)
    assert views.of(volume) is views.of(volume)


def test_sides_change_places() -> None:
    assert [other_side(name) for name in REGIONS] == ["right thalamus", "left thalamus", "brainstem"]


def test_conditions_are_read_by_their_names(tmp_path: Path) -> None:
    table = ConditionTable(REGIONS, 32)
    save_conditions(table, tmp_path / "table.safetensors")
    read = load_conditions(tmp_path / "table.safetensors")
    assert list(read) == list(REGIONS)
    torch.testing.assert_close(read["brainstem"], table(1).detach()[2, 0])


def test_a_table_without_names_is_refused(tmp_path: Path) -> None:
    save_file({"phi": torch.rand(3, 32)}, tmp_path / "table.safetensors")
    with pytest.raises(ValueError, match="names 0 regions"):
        load_conditions(tmp_path / "table.safetensors")
