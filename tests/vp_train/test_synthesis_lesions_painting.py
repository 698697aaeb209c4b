"""What facts say of lesions is what painted images show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.vp_train.lesion_heads import SIZE, head_and_anatomy, one_of_each, plain_labels
from vp_model.vision.prepare import CT_WINDOW_HU
from vp_train.datasets.labels import load_labels
from vp_train.synthesis.appearance import draw_appearance
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.lesions.painting import (
    Layer,
    measured_references,
    member,
    paint,
    references,
    shares,
)
from vp_train.synthesis.pathology import painted
from vp_train.synthesis.scene import Scene, draw_scene, lesion_targets, render
from vp_train.synthesis.space import draw_deformation

LABELS = load_labels()
KIND_NAMES = tuple(load_kinds())
SEQUENCES = ("T1", "T1+C", "T2", "FLAIR", "PD", "GRE", "SWI", "STIR", "CT", "DWI", "ADC")
B_VALUE = 1000.0
SURE = 0.03
"""How far a measured signal may be off the limits of a word."""


@cache
def healthy() -> torch.Tensor:
    return torch.from_numpy(plain_labels(head_and_anatomy()[0]))


def layer_of(*lesions: SyntheticLesion) -> Layer:
    return Layer.of(lesions, head_and_anatomy()[0])


@dataclass(frozen=True, eq=False)
class View:
    """A lesion in the label map's own voxels, and what is near: labels, what the layer holds, healthy tissue around."""

    lesion: SyntheticLesion
    layer: Layer
    labels: torch.Tensor
    codes: torch.Tensor
    texture: torch.Tensor
    places: torch.Tensor
    around: torch.Tensor


@cache
def view(name: str) -> View:
    lesion = one_of_each()[name]
    layer, anatomy = layer_of(lesion), head_and_anatomy()[1]
    box = tuple(slice(max(0, a - 6), a + n + 6) for a, n in zip(lesion.origin, lesion.codes.shape, strict=True))
    codes = layer.codes.labels[box].long()
    places = torch.arange(SIZE**3, dtype=torch.int32).view(SIZE, SIZE, SIZE)[box]
    near = torch.from_numpy(ndimage.binary_dilation((codes > 0).numpy(), np.ones((3, 3, 3)), iterations=5))
    around = near & (codes == 0) & anatomy.inside(anatomy.place[box], ("white matter", "grey matter"))
    return View(lesion, layer, healthy()[box], codes, layer.texture[box].float(), places, around)


def acquired(seen: View, kind: str, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """What a scanner without noise shows with the lesion, and without it; of ADC the coefficient."""
    appearance = draw_appearance(LABELS, kind, seed)
    means, coefficients = appearance.contrast.means, appearance.diffusion
    signal = means[seen.labels]
    diffusion = None if coefficients is None else coefficients[seen.labels]
    shown, changed = painted(signal, diffusion, seen.layer, seen.places, appearance, B_VALUE)
    if diffusion is None or changed is None:
        return shown, signal
    if kind == "ADC":
        return changed, diffusion
    decay = 1e-6 * B_VALUE
    return shown * torch.exp(-decay * changed), signal * torch.exp(-decay * diffusion)


def relative(seen: View, kind: str, codes: tuple[int, ...] | None = None) -> float:
    """Measured signal of a lesion (or of some of its parts) relative to the healthy tissue within 5 mm, minus 1; of CT
    above the bottom of the brain window.
    """
    shown, bare = acquired(seen, kind)
    untouched = seen.codes == 0
    torch.testing.assert_close(shown[untouched], bare[untouched])
    inside = member(seen.codes, list(seen.lesion.own if codes is None else codes))
    mean, around = float(shown[inside].mean()), float(bare[seen.around].mean())
    nothing = CT_WINDOW_HU[0] if kind == "CT" else 0.0
    return (mean - around) / (around - nothing)


@pytest.mark.requirement("Facts of a lesion agree with what is painted (B.6, 3.2)")
@pytest.mark.parametrize("name", KIND_NAMES)
def test_signal_of_the_facts_is_measured_in_images_of_every_sequence_type(name: str) -> None:
    seen = view(name)
    for kind in SEQUENCES:
        measured, word = relative(seen, kind), seen.lesion.facts.signal.get(kind)
        if word == "isointense":
            assert abs(measured) <= 0.06 + SURE, kind
        elif word == "hyperintense":
            assert measured >= 0.10 - SURE, kind
        elif word == "hypointense":
            assert measured <= -0.10 + SURE, kind
        else:
            assert 0.06 - SURE <= abs(measured) <= 0.10 + SURE, f"{kind}: only what is neither is left open"


@pytest.mark.requirement("Enhancing means brighter after contrast agent than before")
@pytest.mark.parametrize("name", KIND_NAMES)
def test_enhancement_of_the_facts_is_measured_between_before_and_after(name: str) -> None:
    seen = view(name)
    gain = (1 + relative(seen, "T1+C")) / (1 + relative(seen, "T1")) - 1
    assert seen.lesion.facts.enhancing is not None
    assert gain > 0.1 if seen.lesion.facts.enhancing else abs(gain) < 0.04


@pytest.mark.requirement("Restricted diffusion is bright on DWI and dark on ADC, and nothing else is")
@pytest.mark.parametrize("name", KIND_NAMES)
def test_restriction_of_the_facts_is_measured_on_both_images(name: str) -> None:
    seen = view(name)
    facts, parts = seen.lesion.facts, seen.lesion.parts
    if facts.restricted is None:
        assert any(part.restricted is None for part in parts)
    elif facts.restricted:
        restricting = tuple(code for code in seen.lesion.own if parts[code - 1].restricted)
        assert relative(seen, "DWI", restricting) > 0.2
        assert relative(seen, "ADC", restricting) < -0.1
    else:
        assert not (relative(seen, "DWI") > 0.1 and relative(seen, "ADC") < -0.1)


def test_parts_have_the_signal_of_their_own_material() -> None:
    seen = view("glioblastoma")
    core, rim = seen.lesion.masks["necrosis"], seen.lesion.masks["enhancing tumor"]
    assert relative(seen, "T1", core) < -0.3
    assert relative(seen, "T1+C", rim) > relative(seen, "T1+C", core) + 0.4
    for code, part in enumerate(seen.lesion.parts, start=1):
        assert relative(seen, "FLAIR", (code,)) == pytest.approx(part.shift("FLAIR"), abs=0.02)


def test_texture_varies_within_a_part_but_leaves_its_mean() -> None:
    seen = view("meningioma")
    part = replace(seen.lesion.parts[0], grain=0.2, kept=0.0)
    lesion = replace(seen.lesion, parts=(part, *seen.lesion.parts[1:]))
    shown, bare = acquired(replace(seen, lesion=lesion, layer=layer_of(lesion)), "T1")
    inside, around = shown[seen.codes == 1], float(bare[seen.around].mean())
    assert float(inside.std()) > 0.02 * around
    assert float(inside.mean()) == pytest.approx(around * (1 + part.shift("T1")), rel=0.02)


def test_all_images_of_a_session_show_the_same_lesion() -> None:
    seen = view("abscess")
    torch.testing.assert_close(acquired(seen, "T1", seed=1)[0], acquired(seen, "T1", seed=1)[0])
    for kind, seed in (("T1", 1), ("T2", 5)):
        shown, bare = acquired(seen, kind, seed)
        assert float((((shown - bare).abs() > 1e-6) == (seen.codes > 0)).float().mean()) > 0.999


def test_images_of_no_known_sequence_type_show_it_too() -> None:
    seen = view("glioma")
    image = torch.full(seen.codes.shape, 0.5)
    shown = paint(image, seen.codes, seen.texture, seen.layer, "random", [0.5])
    assert abs(float(shown[seen.codes == 1].mean()) / 0.5 - 1) > 0.15


def test_a_real_image_gives_the_reference_by_measuring() -> None:
    lesion = one_of_each()["acute intracerebral hemorrhage"]
    means = draw_appearance(LABELS, "T2", 3).contrast.means
    image = means[healthy()] + torch.randn(healthy().shape, generator=torch.Generator().manual_seed(1)) * 0.03
    anatomy = head_and_anatomy()[1]
    parenchyma = anatomy.inside(anatomy.place, ("white matter", "grey matter"))
    measured = measured_references(image, parenchyma, [lesion], healthy())
    assert measured[0] == pytest.approx(references([lesion], means)[0], rel=0.01)


# in scenes


def scene_with(lesions: tuple[SyntheticLesion, ...], mirrored: bool = False) -> Scene:
    subject, _ = head_and_anatomy()
    deformation = replace(draw_deformation(subject, Chance.seeded(1), strength=0.0), mirrored=mirrored)
    nothing = torch.zeros(len(LABELS.names), dtype=torch.bool)
    return Scene(subject, deformation, None, nothing, lesions)


def grid(spacing: float = 2.0) -> tuple[tuple[int, int, int], np.ndarray]:
    count = round(SIZE / spacing)
    world = np.diag([spacing, spacing, spacing, 1.0])
    world[:3, 3] = -(count - 1) / 2 * spacing
    return (count, count, count), world


@pytest.mark.requirement("Sides of facts and masks agree, also in the mirror")
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", ["glioma", "meningioma", "resection cavity"])
def test_side_of_the_facts_is_the_side_of_the_mask(name: str, mirrored: bool) -> None:
    lesion = one_of_each()[name]
    scene = scene_with((lesion,), mirrored)
    facts = lesion.facts_in(scene.deformation)
    shape, world = grid()
    mask = lesion_targets(scene, 0, shape, world)[facts.structure]
    x = torch.arange(shape[0]) * world[0, 0] + world[0, 3]
    centre = float((mask.sum(dim=(1, 2)) * x).sum() / mask.sum())
    assert (centre < 0) == (facts.side == "left")
    assert float(mask.sum()) * 8 == pytest.approx(facts.volume_mm3, rel=0.05)
    image = render(scene, LABELS, shape, world, Chance.seeded(3), "FLAIR")
    brain = image.targets[LABELS.targets.index("brain")]
    assert float((mask * brain).sum() / mask.sum()) < 0.1 if lesion.replaces else float(mask.sum()) > 0


def test_a_painted_scene_differs_from_a_healthy_one_in_the_lesion_alone() -> None:
    lesion = one_of_each()["glioma"]
    shape, world = grid()
    healthy_image = render(scene_with(()), LABELS, shape, world, Chance.seeded(4), "FLAIR")
    shown = render(scene_with((lesion,)), LABELS, shape, world, Chance.seeded(4), "FLAIR")
    mask = lesion_targets(scene_with((lesion,)), 0, shape, world)["glioma"]
    change = (shown.placed.features - healthy_image.placed.features)[0, 0]
    assert float(change[mask > 0.9].mean()) > 5 * float(change[mask == 0].abs().mean())
    torch.testing.assert_close(shown.targets, healthy_image.targets)


def test_scenes_without_synthetic_lesions_are_drawn_as_ever() -> None:
    assert draw_scene(head_and_anatomy()[0], LABELS, Chance.seeded(1)).synthetic == ()


def test_white_matter_lesions_are_the_target_of_that_name() -> None:
    lesion = one_of_each()["white matter lesion"]
    shape, world = grid()
    image = render(scene_with((lesion,)), LABELS, shape, world, Chance.seeded(5), "FLAIR")
    mask = lesion_targets(scene_with((lesion,)), 0, shape, world)["white matter lesion"]
    torch.testing.assert_close(image.targets[-1], mask)


def test_several_lesions_keep_their_own_masks() -> None:
    lesions = (one_of_each()["glioma"], one_of_each()["acute intracerebral hemorrhage"], one_of_each()["calcification"])
    layer = layer_of(*lesions)
    codes = layer.codes.labels.long()
    for number, lesion in enumerate(lesions):
        mask = shares(layer, number, codes)[lesion.facts.structure]
        assert float(mask.sum()) == pytest.approx(lesion.facts.volume_mm3, rel=0.15)
    parts = sum(len(lesion.parts) for lesion in lesions)
    assert int(codes.max()) <= parts


def test_more_parts_than_a_byte_can_number_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 255 parts"):
        layer_of(*[one_of_each()["glioblastoma"]] * 100)


def test_shares_count_parts_of_coarse_voxels() -> None:
    layer = layer_of(one_of_each()["metastasis"])
    fine = shares(layer, 0, layer.codes.labels.long())["metastasis"]
    coarse = shares(layer, 0, layer.codes.labels.long(), (2, 2, 4))["metastasis"]
    assert coarse.shape == (SIZE // 2, SIZE // 2, SIZE // 4)
    assert float(coarse.sum()) * 16 == pytest.approx(float(fine.sum()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Needs a GPU.")
def test_a_gpu_draws_the_same_lesion() -> None:
    from vp_train.synthesis.lesions.draw import draw_lesions

    subject, anatomy = head_and_anatomy()
    device = torch.device("cuda")
    there = replace(subject, labels=subject.labels.to(device))
    first = draw_lesions(subject, anatomy, Chance.seeded(3), 1, ["glioblastoma"])[0]
    second = draw_lesions(there, anatomy.to(device), Chance.seeded(3, device), 1, ["glioblastoma"])[0]
    assert second.codes.device.type == "cuda"
    assert float((second.codes.cpu() == first.codes).float().mean()) > 0.99
    image = render(replace(scene_with((second,)), subject=there), LABELS, *grid(), Chance.seeded(4, device), "T2")
    assert image.placed.features.device.type == "cuda"
