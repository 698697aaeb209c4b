"""The network that finds lesions beside m, and where it looks for them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from tests.vp_model.test_vision_refinement import REGIONS, tiny
from vp_model.agent import Agent, Plan
from vp_model.checkpoint import BUNDLED, CheckpointError, open_checkpoint
from vp_model.geometry import Placed
from vp_model.outcome import InputVolume
from vp_model.vision import finding
from vp_model.vision.config import Refining
from vp_model.vision.departure import BRAIN, CHANNELS
from vp_model.vision.finding import LesionFinder, shown_in, together
from vp_model.vision.inference import FeatureCache
from vp_model.vision.lesions import (
    FILE,
    LesionConfig,
    LesionNetwork,
    lesion_config,
    lesions_in,
    load_lesions,
    save_lesions,
)
from vp_model.vision.sight import Sight
from vp_model.vision.tissues import tissues_of
from vp_model.volume import Volume

CONFIG = LesionConfig(channels=(4, 8), condition_size=32)
WORLD = np.array([[0.0, -3.0, 0.2, 40.0], [3.0, 0.0, 0.0, -50.0], [0.0, 0.3, 4.0, -30.0], [0, 0, 0, 1.0]])


def network(config: LesionConfig = CONFIG) -> LesionNetwork:
    torch.manual_seed(2)
    return LesionNetwork(config).eval()


def test_logits_are_on_the_grid_of_the_departures_whatever_its_size() -> None:
    phi = torch.randn(3, 32)
    for shape in ((16, 16, 16), (7, 9, 12), (1, 5, 2)):
        seen = network()(torch.randn(1, CHANNELS, *shape), CONFIG.kind_of("FLAIR"), phi)
        assert seen.any.shape == (1, 1, *shape) and seen.named.shape == (1, 3, *shape)
        assert seen.probability.shape == (1, 3, *shape)
        assert bool((seen.probability <= torch.sigmoid(seen.any)).all())


def test_condition_and_sequence_type_change_what_is_found() -> None:
    departure, phi = torch.randn(1, CHANNELS, 8, 8, 8), torch.randn(2, 32)
    with torch.inference_mode():
        flair = network()(departure, CONFIG.kind_of("FLAIR"), phi)
        other = network()(departure, CONFIG.kind_of("CT"), phi)
    assert not torch.allclose(flair.named[:, 0], flair.named[:, 1])
    assert not torch.allclose(flair.any, other.any)
    assert torch.equal(CONFIG.kind_of("flair"), CONFIG.kind_of("FLAIR"))
    assert not bool(CONFIG.kind_of("unknown").any())


def test_an_image_and_its_mirror_image_show_the_same_lesions_mirrored() -> None:
    departure, phi, kind = torch.randn(1, CHANNELS, 9, 8, 7), torch.randn(2, 32), CONFIG.kind_of("T2")
    found = lesions_in(departure, kind, phi, network())
    assert found.shape == (2, 9, 8, 7)
    torch.testing.assert_close(lesions_in(departure.flip(2), kind, phi, network()), found.flip(1), atol=1e-6, rtol=1e-5)


def test_weights_and_configuration_come_back(tmp_path: Path) -> None:
    built = network()
    save_lesions(built, tmp_path)
    config = lesion_config(json.loads(json.dumps(CONFIG.as_dict())))
    assert config == CONFIG
    again = load_lesions(config, tmp_path)
    for name, value in built.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="does not fit"):
        load_lesions(LesionConfig(channels=(8, 8)), tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"lesions\.safetensors"):
        load_lesions(config, tmp_path)


@pytest.mark.requirement("a lesion is looked for where it shows best, in the same sequence type at all times")
def test_of_each_session_the_images_that_show_it_best_are_looked_at() -> None:
    kinds = ("FLAIR", "CT", "T2")
    assert shown_in(kinds, [(0, "T2"), (0, "FLAIR"), (0, "flair")]) == (1, 2)
    assert shown_in(kinds, [(0, "FLAIR"), (0, "T2"), (1, "T2")]) == (1, 2)  # compared in one sequence type
    assert shown_in(kinds, [(0, "FLAIR"), (1, "CT")]) == (0, 1)  # there is none for both
    assert shown_in(kinds, [(0, "FLAIR"), (1, "T1")]) == ()
    assert shown_in(kinds, []) == ()


def finder(shows: tuple[str, ...] = ("FLAIR",)) -> LesionFinder:
    vision, conditions = tiny()
    tissues = tissues_of(REGIONS)
    return LesionFinder(
        network(), vision, MappingProxyType({"lesion": shows}), tissues, conditions, Refining(), FeatureCache()
    )


def volume(kind: str, session: int = 0) -> Volume:
    image = torch.rand(1, 30, 26, 20, generator=torch.Generator().manual_seed(session + 7)) * 500
    return Volume(image, WORLD, kind=kind, session=session)


def everywhere(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Departures of a head that fills the image, and the sequence types that were looked at."""
    looked: list[str] = []

    def made(priors: torch.Tensor, *arguments: object) -> torch.Tensor:
        looked.append(str(arguments[2]))
        found = torch.randn(CHANNELS, *priors.shape[1:], generator=torch.Generator().manual_seed(3))
        found[BRAIN] = 1.0
        return found

    monkeypatch.setattr(finding, "departures", made)
    return looked


def test_probabilities_are_on_each_volumes_own_grid_and_0_where_it_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = everywhere(monkeypatch)
    volumes = [volume("T1"), volume("FLAIR"), volume("PERFUSION"), volume("FLAIR", 1)]
    plain, flair, *others = finder().find("lesion", volumes, torch.randn(1, 4, 32))
    assert sorted(looked) == ["FLAIR", "FLAIR", "T1"]  # perfusion is nothing that the network knows
    assert [bool(other.any()) for other in others] == [False, True]
    assert plain.shape == volumes[0].shape and not bool(plain.any())
    assert flair.shape == volumes[1].shape and bool(flair.any())


def attentive() -> LesionNetwork:
    """A network whose attention and what it makes of several images are not those of the beginning."""
    built = network()
    with torch.no_grad():
        for layer in (built.attend, built.joined):
            layer.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(4))
    return built


@pytest.mark.requirement("a lesion is looked for in all images of a session together")
def test_images_of_a_session_change_what_is_seen_where_they_reach_whatever_their_order() -> None:
    built, phi = attentive(), torch.randn(1, 32)
    seen = torch.randn(3, CHANNELS, 8, 8, 8, generator=torch.Generator().manual_seed(6))
    kinds = torch.cat([CONFIG.kind_of(kind) for kind in ("FLAIR", "T1", "T2")])
    inside = torch.ones(3, 8, 8, 8, dtype=torch.bool)
    together_ = lesions_in(seen, kinds, phi, built, inside)
    order = [0, 2, 1]
    torch.testing.assert_close(lesions_in(seen[order], kinds[order], phi, built, inside[order]), together_)
    alone = lesions_in(seen[:1], kinds[:1], phi, built)
    assert not torch.allclose(together_, alone, atol=1e-3)
    inside[1:] = False
    torch.testing.assert_close(lesions_in(seen, kinds, phi, built, inside), alone)


def test_sessions_of_one_pass_do_not_see_each_other() -> None:
    built, phi = attentive(), torch.randn(2, 32)
    seen = torch.randn(4, CHANNELS, 8, 8, 8, generator=torch.Generator().manual_seed(6))
    kinds = torch.cat([CONFIG.kind_of(kind) for kind in ("FLAIR", "T1", "T2", "FLAIR")])
    with torch.inference_mode():
        both = built(seen, kinds, phi, images=(3, 1))
        first = built(seen[:3], kinds[:3], phi, images=(3,))
        second = built(seen[3:], kinds[3:], phi)
    for name in ("any", "named"):
        own = torch.cat([getattr(first, name), getattr(second, name)])
        torch.testing.assert_close(getattr(both, name), own, atol=1e-5, rtol=1e-4)


def test_images_lie_on_the_grid_of_the_one_that_is_asked_about() -> None:
    world = np.diag([2.0, 2.0, 2.0, 1.0])
    further = world.copy()
    further[0, 3] = 8.0  # begins four voxels further right
    own = Placed(torch.full((1, 1, 8, 4, 4), 0.2), world)
    other = Placed(torch.full((1, 1, 8, 4, 4), 0.6), further)
    seen, reached = together(own, [own, other])
    assert torch.equal(seen[0], own.features[0]) and bool(reached[0].all())
    assert not bool(reached[1, :4].any()) and bool(reached[1, 4:].all())
    assert torch.allclose(seen[1, 0, 4:], torch.tensor(0.6))


def test_a_session_without_an_image_that_shows_it_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is refused before; a program that asks for it in a part of the images must not end in a fault."""
    looked = everywhere(monkeypatch)
    finder().find("lesion", [volume("T1"), volume("FLAIR", 1)], torch.randn(1, 2, 32))
    assert looked == ["T1", "FLAIR"]


def test_an_image_is_looked_at_once_for_all_lesions(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = everywhere(monkeypatch)
    one, image = finder(), volume("FLAIR")
    first = one.find("lesion", [image], torch.randn(1, 1, 32))[0]
    second = one.find("lesion", [image], torch.randn(1, 1, 32))[0]
    assert looked == ["FLAIR"]
    assert 0 < float(first.max()) <= 1.0 and not torch.allclose(first, second)


def test_on_ct_bone_is_no_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere(monkeypatch)
    head, image = volume("CT"), volume("FLAIR")
    of_ct, of_flair = (finder((one.kind,)).find("lesion", [one], torch.randn(1, 1, 32))[0] for one in (head, image))
    dense = head.features[0] > 100
    assert not bool(of_ct[dense].any()) and bool(of_ct[~dense].any())
    assert bool(of_flair[dense].any())


@pytest.mark.parametrize("kind", ["FLAIR", "CT"])
def test_an_image_that_m_reads_on_its_own_grid_is_found_in_as_any_other(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is resampled in it, so that what m's pass gave comes back as it is, which must not be written into."""
    everywhere(monkeypatch)
    one = finder((kind,))
    spacing = one.vision.config.working_spacing_mm or 1.0
    world = np.diag([spacing, spacing, spacing, 1.0])
    image = Volume(torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(1)) * 50 + 20, world, kind=kind)
    (found,) = one.find("lesion", [image], torch.randn(1, 1, 32))
    assert found.shape == image.shape and bool(found.any())
    found.mul_(0.5)


def test_where_m_finds_no_head_there_is_no_lesion() -> None:
    blank = Volume(torch.zeros(1, 12, 12, 12), np.eye(4), kind="FLAIR")
    assert not bool(finder().find("lesion", [blank], torch.randn(1, 1, 32))[0].any())


def test_lesions_that_m_was_not_taught_are_asked_of_the_finder_and_all_others_of_m(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = everywhere(monkeypatch)
    one, image = finder(), volume("FLAIR")
    sight = Sight(one.vision, {"v1": image}, {"lesion": 0.2}, one.cache, conditions=one.conditions, lesions=one)
    phi = np.zeros((1, 32), np.float32)
    sight.segment("brainstem", ["v1"], phi)
    assert looked == []
    found = sight.segment("lesion", ["v1"], phi)["v1"]
    assert looked == ["FLAIR"] and found.shape == image.shape


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundled checkpoint with a network that finds `hemorrhage` on CT."""
    shutil.copytree(BUNDLED, tmp_path / "weights")
    save_lesions(network(), tmp_path / "weights")
    described(tmp_path / "weights")
    return tmp_path / "weights"


def described(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["structures"] = [item for item in config["structures"] if item["name"] != "hemorrhage"]
    config["structures"].append({"name": "hemorrhage", "side": None, "dice": None, "experimental": True})
    config["lesions"] = {"network": CONFIG.as_dict(), "shows": {"hemorrhage": ["CT"]}}
    config.update(changes)
    path.write_text(json.dumps(config), encoding="utf-8")


def test_a_checkpoint_says_which_lesions_are_found_and_its_hash_covers_their_weights(folder: Path) -> None:
    opened = open_checkpoint(folder)
    assert opened.lesions is not None and opened.lesions.shows == {"hemorrhage": ("CT",)}
    assert "hemorrhage" in opened.served
    with torch.no_grad():
        other = network()
        other.enter.weight += 1.0
    save_lesions(other, folder)
    assert open_checkpoint(folder).identity != opened.identity


def test_a_checkpoint_whose_lesions_lack_something_says_what(folder: Path) -> None:
    described(folder, refining=None)
    with pytest.raises(CheckpointError, match="refining"):
        open_checkpoint(folder)
    shows = {"hemorrhage": ["CT"], "abscess": ["CT"]}
    described(folder, refining=asdict(Refining()), lesions={"network": CONFIG.as_dict(), "shows": shows})
    with pytest.raises(CheckpointError, match="does not list the lesions that it finds: abscess"):
        open_checkpoint(folder)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"lesions\.safetensors is missing"):
        open_checkpoint(folder)


@pytest.mark.requirement("a structure outside the weights' knowledge is refused, with the reason")
def test_a_lesion_is_refused_where_no_image_shows_it_and_the_reason_names_those_that_would(folder: Path) -> None:
    agent = Agent.load(folder)
    plain, other = InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v1", "CT", "2024-03-01", 0)
    refused = agent.plan("segment the hemorrhage", [plain])
    assert (
        refused.status == "refused" and "hemorrhage is looked for in images of these kinds alone: CT" in refused.reason
    )
    assert agent.plan("segment the hemorrhage", [other]).status == "answered"
    assert agent.plan("segment the left hippocampus", [plain]).status == "answered"


def test_where_no_image_shows_all_lesions_those_of_white_matter_are_meant(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shows = {"lesion": ["FLAIR"], "neoplasm": ["T2"], "hemorrhage": ["CT"]}
    bundled = open_checkpoint(BUNDLED).lesions
    assert bundled is not None
    others = [item for item in config["structures"] if item["name"] not in {*shows, *bundled.shows}]
    found = [{"name": name, "side": None, "dice": None, "experimental": True} for name in shows]
    described(folder, structures=[*others, *found], lesions={"network": CONFIG.as_dict(), "shows": shows})
    agent = Agent.load(folder)

    def planned(prompt: str, kind: str) -> Plan:
        return agent.plan(prompt, [InputVolume("v1", kind, "2024-03-01", 0)])

    for kind, meant in (("T1", "white matter lesion"), ("FLAIR", "lesion")):
        plan = planned("segment the lesions", kind)
        assert plan.status == "answered" and f'segment("{meant}"' in plan.program
    tumor = planned("segment the tumor", "T1")
    assert tumor.status == "refused" and "neoplasm is looked for in images of these kinds alone: T2" in tumor.reason
    assert planned("segment the tumor", "T2").status == "answered"


@pytest.mark.parametrize("prompt", ["segment the lesions", "does the lesion enhance?"])
def test_lesions_of_a_study_before_and_after_contrast_agent_are_those_of_white_matter(prompt: str) -> None:
    """What the bundled weights look for must leave one meaning: a kind that shows on T1+C would leave two."""
    images = [InputVolume(f"v{number}", kind, "2024-03-01", 0) for number, kind in enumerate(("T1", "T1+C"), 1)]
    plan = Agent.load(BUNDLED).plan(prompt, images)
    assert plan.status == "answered" and 'segment("white matter lesion"' in plan.program
