"""Lesions of a subject: kinds, where they grow, what is said of them, how they change."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.vp_train.lesion_heads import head_and_anatomy, one_of_each
from vp_model.ontology import load_ontology
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.lesions.shapes import NEVER, RealShape
from vp_train.synthesis.lesions.times import another_time
from vp_train.synthesis.space import draw_deformation
from vp_train.tasks.descriptions import component_words, describe
from vp_train.tasks.scene import KINDS

KIND_NAMES = tuple(load_kinds())
CUBE = np.ones((3, 3, 3))
PAPER_CLASSES = ("glioma", "edema", "infarct", "white matter lesion", "arachnoid cyst", "epidermoid cyst", "papilloma")
"""Named in 3.2; with those that the evaluation is about."""


def own(lesion: SyntheticLesion) -> torch.Tensor:
    return torch.isin(lesion.codes, torch.tensor(lesion.own, dtype=torch.uint8))


def block(lesion: SyntheticLesion, values: torch.Tensor) -> torch.Tensor:
    return values[tuple(slice(a, a + n) for a, n in zip(lesion.origin, lesion.codes.shape, strict=True))]


def whole(lesion: SyntheticLesion) -> torch.Tensor:
    """The lesion's own voxels on the label map."""
    mask = torch.zeros_like(head_and_anatomy()[0].labels, dtype=torch.bool)
    block(lesion, mask).copy_(own(lesion))
    return mask


def test_kinds_cover_the_papers_classes_and_the_zero_shot_targets() -> None:
    structures = {kind.structure for kind in load_kinds().values()}
    components = {part.name for kind in load_kinds().values() for part in kind.parts}
    assert set(PAPER_CLASSES) <= structures | components
    assert {"meningioma", "resection cavity", "intracerebral hemorrhage", "subdural hemorrhage"} <= structures
    assert len(structures) >= 14
    known = load_ontology().structures
    assert structures <= set(known)
    assert components - {""} <= set(known)


def test_every_material_has_a_signal_in_every_sequence_type_of_mr_and_ct() -> None:
    wanted = set(KINDS) - {"T1+C", "PERFUSION", "TOF", "unknown"}
    for kind in load_kinds().values():
        for part in kind.parts:
            assert set(part.material.signal) == wanted
            assert all(low <= high for low, high in part.material.signal.values())


@pytest.mark.requirement("Lesions are connected shapes of the drawn size (B.6)")
@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_lesion_is_one_piece_for_each_focus_and_of_the_wanted_size(name: str) -> None:
    lesion = one_of_each()[name]
    assert ndimage.label(own(lesion).numpy(), CUBE)[1] == len(lesion.foci)
    wanted = sum(
        min(focus.volume, int((focus.level > NEVER).sum())) for focus in lesion.foci
    )  # as far as there is room
    assert wanted >= 0.5 * sum(focus.volume for focus in lesion.foci)
    assert lesion.facts.volume_mm3 == float(own(lesion).sum())
    assert lesion.facts.volume_mm3 == pytest.approx(wanted, rel=0.15, abs=4)


@pytest.mark.requirement("Lesions are confined by anatomy (B.6)")
@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_lesion_stays_in_its_compartment_side_and_territory(name: str) -> None:
    _, anatomy = head_and_anatomy()
    lesion, kind = one_of_each()[name], load_kinds()[name]
    place = block(lesion, anatomy.place)[own(lesion)]
    assert bool(anatomy.inside(place, kind.within.compartments).all())
    around = block(lesion, anatomy.place)[(lesion.codes > 0) & ~own(lesion)]
    assert bool(anatomy.inside(around, ("white matter",)).all())
    if not kind.within.crosses and len(lesion.foci) == 1:
        assert len({"left", "right"} & set(anatomy.shares("side", place))) <= 1 or lesion.facts.side == "midline"
    if kind.territory:
        assert list(anatomy.shares("territory", place)) == [lesion.facts.territory]
    if kind.within.dura_mm[1] < 255:
        assert float(block(lesion, anatomy.dura)[own(lesion)].max()) <= kind.within.dura_mm[1]


@pytest.mark.parametrize("name", KIND_NAMES)
def test_facts_say_where_the_lesion_lies(name: str) -> None:
    _, anatomy = head_and_anatomy()
    lesion, kind = one_of_each()[name], load_kinds()[name]
    facts = lesion.facts
    place = block(lesion, anatomy.place)[own(lesion)]
    if facts.lobe:
        assert facts.lobe == next(iter(anatomy.shares("lobe", place)))
    if facts.side in ("left", "right", "midline"):
        shares = anatomy.shares("side", place)
        assert shares.get(facts.side, 0.0) >= 0.8 or facts.side == "midline"
    assert facts.compartment == kind.compartment
    assert facts.structure == kind.structure
    assert facts.stage == kind.stage


@pytest.mark.parametrize("name", KIND_NAMES)
def test_components_are_named_where_they_are(name: str) -> None:
    lesion = one_of_each()[name]
    inside = [code for code in range(1, len(lesion.parts) + 1) if lesion.parts[code - 1].belongs]
    for component in lesion.facts.components:
        codes = lesion.masks[component]
        mask = torch.isin(lesion.codes, torch.tensor(codes, dtype=torch.uint8))
        assert bool(mask.any())
        if set(codes) <= set(inside):
            assert bool(own(lesion)[mask].all())
        else:
            assert not bool(own(lesion)[mask].any())
            touching = ndimage.binary_dilation(own(lesion).numpy(), CUBE)
            count = ndimage.label((mask | own(lesion)).numpy(), CUBE)[1]
            assert count == len(lesion.foci), "what lies around a lesion is joined to it"
            assert (touching & mask.numpy()).any()
    for part in lesion.parts[1:]:
        if part.belongs and part.mode != "around":
            code = lesion.parts.index(part) + 1
            share = float((lesion.codes == code).sum()) / lesion.facts.volume_mm3
            assert share == pytest.approx(part.share, abs=0.1)


def test_a_core_lies_deeper_than_what_is_around_it() -> None:
    lesion = one_of_each()["abscess"]
    deep = torch.from_numpy(ndimage.distance_transform_edt(own(lesion).numpy()))
    assert float(deep[lesion.codes == 2].mean()) > 1.5 * float(deep[lesion.codes == 1].mean())


@pytest.mark.parametrize("name", KIND_NAMES)
def test_prompts_can_name_the_lesion_and_its_components_by_what_is_known_of_it(name: str) -> None:
    facts = one_of_each()[name].facts
    for seed in range(8):
        chance = random.Random(seed)
        description = describe(facts, [facts], chance)
        assert description is not None
        assert description.fits(facts)
        for component in facts.components:
            assert description.words in component_words(component, description.words, chance)


def test_the_same_seed_draws_the_same_lesions_and_another_seed_others() -> None:
    subject, anatomy = head_and_anatomy()
    first, again, other = (
        draw_lesions(subject, anatomy, Chance.seeded(seed), 2, ["metastasis", "microbleed"]) for seed in (5, 5, 6)
    )
    assert [lesion.facts for lesion in first] == [lesion.facts for lesion in again]
    for one, two in zip(first, again, strict=True):
        torch.testing.assert_close(one.codes, two.codes)
        torch.testing.assert_close(one.texture, two.texture)
    assert [lesion.facts for lesion in first] != [lesion.facts for lesion in other]


def test_several_lesions_do_not_touch_each_other_nor_those_to_avoid() -> None:
    subject, anatomy = head_and_anatomy()
    kinds = ["metastasis", "acute lacunar infarct", "white matter lesion", "calcification"]
    first = draw_lesions(subject, anatomy, Chance.seeded(8), 3, kinds)
    second = draw_lesions(subject, anatomy, Chance.seeded(9), 2, kinds, avoid=first, session=1)
    assert len(first) >= 3
    assert second
    assert {lesion.facts.session for lesion in second} == {1}
    taken = np.zeros(subject.labels.shape, dtype=bool)
    for lesion in (*first, *second):
        mask = whole(lesion).numpy()
        assert not (ndimage.binary_dilation(mask, CUBE) & taken).any()
        taken |= mask


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mirrored_scene_swaps_sides_and_scaling_changes_the_volume(mirrored: bool) -> None:
    subject, _ = head_and_anatomy()
    lesion = one_of_each()["glioma"]
    deformation = replace(draw_deformation(subject, Chance.seeded(1)), mirrored=mirrored)
    facts = lesion.facts_in(deformation)
    swapped = {"left": "right", "right": "left"}[lesion.facts.side]
    assert facts.side == (swapped if mirrored else lesion.facts.side)
    scale = float(torch.linalg.det(deformation.matrix).abs())
    assert facts.volume_mm3 * scale == pytest.approx(lesion.facts.volume_mm3)
    assert facts.lobe == lesion.facts.lobe


@pytest.mark.requirement("A second session shows growth of the same lesion")
@pytest.mark.parametrize("name", ["glioblastoma", "white matter lesion", "acute subdural hemorrhage", "acute infarct"])
def test_growth_is_monotone_and_shrinking_its_reverse(name: str) -> None:
    lesion = one_of_each()[name]
    before = whole(lesion)
    sizes = []
    for growth in (0.4, 0.8, 1.0, 1.2):
        other = another_time(lesion, growth)
        assert other is not None
        after = whole(other)
        assert not bool((before & ~after).any()) if growth >= 1 else not bool((after & ~before).any())
        assert other.facts.volume_mm3 == pytest.approx(growth * lesion.facts.volume_mm3, rel=0.2)
        assert (other.facts.side, other.facts.lobe) == (lesion.facts.side, lesion.facts.lobe)
        assert other.parts == lesion.parts
        sizes.append(other.facts.volume_mm3)
    assert sizes == sorted(sizes)
    unchanged = another_time(lesion, 1.0)
    assert unchanged is not None
    torch.testing.assert_close(unchanged.codes, lesion.codes)


def test_a_lesion_that_shrinks_to_nothing_is_gone() -> None:
    assert another_time(one_of_each()["calcification"], 0.0) is None


def test_an_infarct_ages() -> None:
    lesion = one_of_each()["acute infarct"]
    later = another_time(lesion, 0.8, load_kinds()["acute infarct"].later)
    assert later is not None
    assert (lesion.facts.stage, lesion.facts.restricted) == ("acute", True)
    assert (later.facts.stage, later.facts.restricted, later.facts.signal["DWI"]) == ("chronic", False, "hypointense")
    assert later.facts.structure == lesion.facts.structure
    assert "gliosis" in later.facts.components
    assert not bool((whole(later) & ~whole(lesion)).any())


def test_shapes_of_real_lesions_are_taken() -> None:
    subject, anatomy = head_and_anatomy()
    bar = torch.full((9, 9, 34), -1.0)
    bar[3:6, 3:6, 2:32] = 1.0
    distance = ndimage.distance_transform_edt(bar > 0) - ndimage.distance_transform_edt(bar <= 0)
    real = RealShape(torch.from_numpy(distance).float(), float((bar > 0).sum()))
    huge = replace(real, volume=1e6)  # would be a thread when scaled down: is not taken
    longest = []
    for seed in range(12):
        found = draw_lesions(
            subject, anatomy, Chance.seeded(seed), 1, ["active white matter lesion"], shapes=[real, huge]
        )
        at = own(found[0]).nonzero().double()
        variances = torch.linalg.eigvalsh(torch.cov((at - at.mean(dim=0)).T))
        longest.append(float(variances[2] / variances[1]))
    assert sum(ratio > 5 for ratio in longest) >= 2, "bars are among the shapes"
    assert sum(ratio < 4 for ratio in longest) >= 1, "and so are blobs of noise"


def test_where_there_is_no_room_there_is_no_lesion() -> None:
    subject, anatomy = head_and_anatomy()
    full = one_of_each()["glioma"]
    everywhere = replace(
        full,
        origin=(0, 0, 0),
        codes=torch.ones(subject.labels.shape, dtype=torch.uint8),
    )
    assert draw_lesions(subject, anatomy, Chance.seeded(1), 2, ["metastasis"], avoid=[everywhere]) == ()
