"""Borders from the image: mixtures learned from one image, and probabilities that they refine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vp_model.agent import Agent
from vp_model.checkpoint import BUNDLED, CONDITIONS_FILE, CheckpointError, open_checkpoint
from vp_model.vision import refinement
from vp_model.vision.config import Refining, VisionConfig
from vp_model.vision.inference import FeatureCache, segment_volumes
from vp_model.vision.mirrored import MirroredViews
from vp_model.vision.network import VisionNetwork
from vp_model.vision.refinement import Refiner
from vp_model.vision.tissues import Tissues, learn_tissues, tissues_of
from vp_model.volume import Volume

SHAPE = (40, 40, 40)
TINY = VisionConfig(
    channels=(4, 8, 8), readout_hidden=8, interaction="none", conditioning="readout", encoding_size=8,
    working_spacing_mm=3.0,
)  # fmt: skip
REGIONS = ("left thalamus", "right thalamus", "brainstem", "third ventricle", "brain")


def distances(centre: tuple[float, float, float]) -> torch.Tensor:
    grid = torch.meshgrid(*[torch.arange(size, dtype=torch.float32) for size in SHAPE], indexing="ij")
    return torch.stack([(axis - at) ** 2 for axis, at in zip(grid, centre, strict=True)]).sum(dim=0).sqrt()


def head(inner: float, outer: float, noise: float = 0.02) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(priors (2, …), truth of the inner structure, image): a ball in a ball, seen by m with a soft border."""
    distance = distances((20.3, 19.6, 20.1))
    truth = distance < 9
    whole = torch.sigmoid((16 - distance) * 2)
    soft = torch.sigmoid((9 - distances((21.8, 19.6, 20.1))) / 1.5)  # m is 1.5 voxels off, and unsure
    image = torch.where(truth, inner, torch.where(distance < 16, outer, 0.0))
    image = image + noise * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return torch.stack([soft * whole, (1 - soft) * whole]), truth, image.clamp(min=0)


def refined(priors: torch.Tensor, image: torch.Tensor, found: Tissues) -> torch.Tensor:
    scaled = found.scaled(image)
    parts = [prior * found.density(index, scaled) for index, prior in enumerate(priors)]
    background = (1 - priors.sum(dim=0)).clamp(min=1e-4) * found.background_density(scaled)
    return parts[0] / (sum(parts, background))


def overlap(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


@pytest.mark.parametrize(("inner", "outer"), [(300.0, 600.0), (600.0, 300.0), (40.0, 30.0)])
def test_a_border_moves_to_where_the_image_has_it_whichever_tissue_is_brighter(inner: float, outer: float) -> None:
    priors, truth, image = head(inner, outer, noise=0.05 * abs(inner - outer))
    found = learn_tissues(priors, torch.tensor([0, 1]), image, (2.0, 2.0, 2.0), Refining(field_mm=0), biased=False)
    assert found is not None
    before, after = overlap(priors[0] > 0.5, truth), overlap(refined(priors, image, found) > 0.5, truth)
    assert before < 0.9
    assert after > 0.97


def test_what_two_tissues_share_in_brightness_is_left_to_m() -> None:
    priors, _, image = head(500.0, 500.0, noise=20.0)
    found = learn_tissues(priors, torch.tensor([0, 1]), image, (2.0, 2.0, 2.0), Refining(field_mm=0), biased=False)
    assert found is not None
    inside = priors.sum(dim=0) > 0.99
    assert float((refined(priors, image, found) - priors[0])[inside].abs().mean()) < 0.02


def test_a_bias_field_is_found_and_taken_out() -> None:
    priors, truth, image = head(300.0, 600.0, noise=10.0)
    gain = torch.exp(torch.linspace(-0.4, 0.4, SHAPE[0]))[:, None, None].expand(SHAPE)
    tissue = torch.tensor([0, 1])
    found = learn_tissues(priors, tissue, image * gain, (2.0, 2.0, 2.0), Refining(field_mm=15), biased=True)
    blind = learn_tissues(priors, tissue, image * gain, (2.0, 2.0, 2.0), Refining(field_mm=0), biased=True)
    assert found is not None and found.gain is not None and blind is not None and blind.gain is None
    inside = priors.sum(dim=0) > 0.9
    correlation = np.corrcoef(found.gain[inside].log(), gain[inside].log())[0, 1]
    assert correlation > 0.95
    with_field = overlap(refined(priors, image * gain / found.gain, found) > 0.5, truth)
    assert with_field >= overlap(refined(priors, image * gain, blind) > 0.5, truth)


def test_a_tissue_that_the_image_does_not_show_stays_as_improbable_as_m_found_it() -> None:
    priors, _, image = head(300.0, 600.0)
    three = torch.cat([priors, torch.zeros(1, *SHAPE)])
    found = learn_tissues(three, torch.tensor([0, 1, 2]), image, (2.0, 2.0, 2.0), Refining(), biased=False)
    assert found is not None
    assert bool(torch.isfinite(found.mean[:2]).all())
    density = found.density(2, found.scaled(image))
    assert bool(torch.isfinite(density).all()) and float(density.max()) == float(density.min())


def test_an_image_in_which_m_finds_nothing_teaches_nothing() -> None:
    assert (
        learn_tissues(torch.zeros(2, *SHAPE), torch.tensor([0, 1]), torch.rand(SHAPE), (2, 2, 2), Refining(), True)
        is None
    )


def test_an_image_too_small_to_show_any_tissue_teaches_nothing() -> None:
    """Found where the image of a test had some voxels of each of many tissues, and enough of none."""
    priors = torch.full((10, 4, 4, 4), 0.09)
    values = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(2))
    assert learn_tissues(priors, torch.arange(10), values, (3, 3, 3), Refining(), biased=True) is None


def test_sides_and_fluids_are_one_tissue_and_wholes_and_lesions_none() -> None:
    names = (*REGIONS, "left lateral ventricle", "white matter lesion")
    found = tissues_of(names, left_out=["white matter lesion"])
    assert found["left thalamus"] == found["right thalamus"] != found["brainstem"]
    assert found["third ventricle"] == found["left lateral ventricle"]
    assert not {"brain", "white matter lesion"} & set(found)


def tiny(seed: int = 3) -> tuple[VisionNetwork, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    network = VisionNetwork(TINY).eval()
    return network, {region: torch.randn(TINY.condition_size) for region in REGIONS}


def volume(world: np.ndarray | None = None) -> Volume:
    _, _, image = head(300.0, 600.0)
    return Volume(image[None], np.diag([1.5, 1.5, 1.5, 1.0]) if world is None else world, name="v1", kind="T1")


def refiner(network: VisionNetwork, conditions: dict[str, torch.Tensor], views: MirroredViews | None = None) -> Refiner:
    return Refiner(network, tissues_of(REGIONS), conditions, Refining(), FeatureCache(), views)


def found_in(network: VisionNetwork, conditions: dict[str, torch.Tensor], region: str, seen: Volume) -> torch.Tensor:
    return segment_volumes(network, [seen], conditions[region][None, None])[0][0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_refined_probabilities_are_probabilities_and_wholes_stay_as_m_found_them(mirrored: bool) -> None:
    network, conditions = tiny()
    seen = volume()
    asked = refiner(network, conditions, MirroredViews(conditions) if mirrored else None)
    for region in REGIONS:
        found = found_in(network, conditions, region, seen)
        result = asked.refined(region, [seen], [found])[0]
        assert result.shape == found.shape
        assert float(result.min()) >= 0.0 and float(result.max()) <= 1.0
        assert torch.equal(result, found) == (region == "brain")


def test_refinement_does_not_depend_on_how_a_volume_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    network, conditions = tiny()
    seen = volume()
    found = found_in(network, conditions, "brainstem", seen)
    whole = refiner(network, conditions).refined("brainstem", [seen], [found])[0]
    monkeypatch.setattr(refinement, "BLOCK_VOXELS", 7 * 40 * 40)
    assert torch.allclose(refiner(network, conditions).refined("brainstem", [seen], [found])[0], whole, atol=1e-6)


def test_refinement_follows_the_voxels_when_the_axes_are_turned() -> None:
    network, conditions = tiny()
    seen = volume()
    world = seen.world.copy()
    turned_world = world[:, [2, 0, 1, 3]]
    turned = replace(seen, features=seen.features.permute(0, 3, 1, 2).contiguous(), world=turned_world)
    results = []
    for image in (seen, turned):
        found = found_in(network, conditions, "left thalamus", image)
        results.append(refiner(network, conditions).refined("left thalamus", [image], [found])[0])
    assert torch.allclose(results[0].permute(2, 0, 1), results[1], atol=1e-4)


def test_a_checkpoint_that_refines_needs_the_conditions_of_its_regions(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(BUNDLED, folder)
    config = json.loads((folder / "config.json").read_text())
    config.update({"mirrored": False, "refining": {"share": 0.4}})
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder).refining == Refining(share=0.4)
    assert Agent.load(folder).sight([volume()]).refiner is not None
    (folder / CONDITIONS_FILE).unlink()
    with pytest.raises(CheckpointError, match="refined borders"):
        open_checkpoint(folder)
