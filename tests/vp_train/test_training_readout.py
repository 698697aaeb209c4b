"""The read-out learned alone, on features that the trunk made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.vp_train.lesion_heads import head_and_anatomy, whole_head
from tests.vp_train.test_parcels import BROAD, LABELS, parcelled, write_subject
from vp_model.vision.config import VisionConfig
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import load_vision, save_vision
from vp_train.datasets.parcels import load_parcels
from vp_train.training import readout_run
from vp_train.training.condition import ConditionTable, read_table, save_conditions
from vp_train.training.examples import draw_example, lesions_from
from vp_train.training.loss import whole_map_loss
from vp_train.training.readout import ReadoutRecipe, keep_voxels, learn_readout, sampled_loss

TINY = VisionConfig(
    (4, 8, 8), readout_hidden=8, readout_size=12, key_hidden=6, readout_levels=2, conditioning="readout",
    interaction_size=8, interaction_heads=2, encoding_size=5, reference="axis",
)  # fmt: skip
READOUT = ReadoutRecipe(images=2, voxels=500, steps=40, rate=0.02)


def test_all_voxels_of_an_image_once_give_the_loss_of_the_image() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, shares = torch.randn(3, 50, generator=generator), torch.rand(3, 50, generator=generator)
    importance = torch.tensor([1.0, 2.0, 0.5])
    found, dice = sampled_loss(logits, shares, torch.ones(50), 0.7, importance)
    expected, mean = whole_map_loss(logits, shares, 0.7, importance)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(dice, mean, atol=1e-4, rtol=1e-4)


def test_the_read_out_learns_every_target_of_what_was_kept_and_the_trunk_stays() -> None:
    torch.manual_seed(1)
    subject, anatomy = head_and_anatomy()
    subject = parcelled(subject)
    recipe = replace(BROAD, regions=1)
    assert recipe.lesions is not None
    network, table = VisionNetwork(TINY), ConditionTable(recipe.targets, 32)
    kept = keep_voxels(network, [subject], recipe, READOUT, lesions_from({subject.name: anatomy}, recipe.lesions))
    names = recipe.targets
    assert names == (*LABELS.targets, *load_parcels().names, *recipe.pathologies)
    assert [voxels.shares.shape for voxels in kept] == [(len(names), 500)] * 2
    before = {name: value.clone() for name, value in network.state_dict().items()}
    said: list[str] = []

    def loss() -> float:
        phi = table(1).detach()[:, 0]
        with torch.no_grad():
            logits = network.read_out.of_voxels(kept[0].features.float(), phi)
            shares = kept[0].shares.float() / 255
            return float(sampled_loss(logits, shares, kept[0].weights, 0.5, torch.ones(len(names)))[0])

    first = loss()
    learn_readout(network, table, names, kept, READOUT, recipe.weight_of, said.append)
    assert loss() < first
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("read_out.") for name in changed)


def test_kept_voxels_stand_for_the_volumes_of_the_image() -> None:
    torch.manual_seed(1)
    subject, _ = head_and_anatomy()
    recipe = replace(BROAD, regions=0, lesions=None)
    (voxels,) = keep_voxels(VisionNetwork(TINY), [subject], recipe, replace(READOUT, images=1, voxels=20_000))
    brain = LABELS.targets.index("brain")
    share = voxels.shares[brain].float() / 255
    estimated = float((share * voxels.weights).sum())
    (image,) = draw_example([subject], replace(recipe, several=0.0), 0).images
    assert estimated == pytest.approx(float(image.targets[brain].sum()), rel=0.05)


def test_a_bent_read_out_begins_as_the_linear_one() -> None:
    torch.manual_seed(3)
    bent = VisionNetwork(TINY).read_out
    linear = VisionNetwork(replace(TINY, key_hidden=0)).read_out
    linear.load_state_dict({name: value for name, value in bent.state_dict().items() if not name.startswith("bend.")})
    voxels, phi = torch.randn(27, 12), torch.randn(5, 32)
    torch.testing.assert_close(bent.of_voxels(voxels, phi), linear.of_voxels(voxels, phi))
    with pytest.raises(ValueError, match="key_hidden"):
        replace(TINY, conditioning="all")


def test_a_trunk_belongs_to_networks_that_are_conditioned_in_the_read_out() -> None:
    network = VisionNetwork(VisionConfig((4, 8), interaction_size=8, interaction_heads=2))
    with pytest.raises(ValueError, match="before its read-out"):
        network.trunk([])


def test_a_network_trained_with_a_linear_read_out_is_taken_on_and_exported_without_lesions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readout_run, "preset", lambda _: TINY)
    write_subject(tmp_path, whole_head())
    trained, out = tmp_path / "trained", tmp_path / "out"
    trained.mkdir()
    linear = VisionNetwork(replace(TINY, key_hidden=0, readout_levels=1))
    save_vision(linear, trained)
    recipe = replace(BROAD, regions=0)
    save_conditions(ConditionTable(recipe.targets, 32), trained / "condition_table.safetensors")
    readout = replace(READOUT, steps=3)
    readout_run.train_readout(recipe, tmp_path, trained, out, 6.0, readout, lesions=False, say=lambda _: None)
    found, before = load_vision(TINY, out).state_dict(), linear.state_dict()
    assert torch.equal(found["down.0.weight"], before["down.0.weight"].half().float())
    assert bool((found["read_out.bend.2.weight"] != 0).any()) and bool((found["read_out.below.0.weight"] != 0).any())
    assert read_table(out / "condition_table.safetensors").names == LABELS.targets


def test_an_export_that_does_not_fit_the_preset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_subject(tmp_path, whole_head())
    recipe = replace(BROAD, regions=0, lesions=None)
    save_conditions(ConditionTable(recipe.targets, 32), tmp_path / "condition_table.safetensors")
    for other in (replace(TINY, channels=(8, 8, 8)), replace(TINY, readout_levels=3), replace(TINY, depth=1)):
        save_vision(VisionNetwork(other), tmp_path)
        monkeypatch.setattr(readout_run, "preset", lambda _: replace(TINY, depth=2))
        with pytest.raises(ValueError, match="does not fit the preset"):
            readout_run.train_readout(recipe, tmp_path, tmp_path, tmp_path / "out", 6.0, READOUT, say=lambda _: None)
