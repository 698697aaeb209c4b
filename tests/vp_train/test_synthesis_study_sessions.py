"""Change between the sessions of a synthetic study: anatomy that grows or shrinks, lesions with a history, poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vp_train.lesion_heads import head_and_anatomy
from tests.vp_train.test_synthesis_study import ANATOMY, LABELS, PLAIN, SUBJECT, centre, plan, study, volume_mm3
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.growth import Grown, grown, load_changes
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.painting import Layer
from vp_train.synthesis.lesions.times import another_time
from vp_train.synthesis.pathology import draw_histories
from vp_train.synthesis.planning import plan_study
from vp_train.synthesis.regions import lesions_of, region_of
from vp_train.synthesis.space import Deformation, draw_deformation
from vp_train.synthesis.study import SyntheticStudy, render_study
from vp_train.tasks.scene import Lesion

TWO = replace(PLAIN, several=1.0)
LESIONED = replace(TWO, lesioned=1.0)
SMALL = ("active white matter lesion", "metastasis", "papilloma", "cavernoma")


def moved_study(moved_mm: dict[str, float], seed: int = 2) -> SyntheticStudy:
    """Two sessions of a head, the second with structures moved as told."""
    planned = plan(seed, TWO)
    first, second = planned.sessions[:2]
    scene = replace(first.scene, deformation=grown(SUBJECT, first.scene.deformation, moved_mm, LABELS))
    sessions = (first, replace(second, scene=scene), *planned.sessions[2:])
    return render_study(replace(planned, sessions=sessions))


def sizes_of(deformation: Deformation) -> dict[str, float]:
    """mm³ of the structures of the made-up head under a deformation."""
    first = plan(0, replace(PLAIN, strength=0.0, several=0.0, protocols=("single volume",), finest_mm=4.0))
    session = replace(first.sessions[0], scene=replace(first.sessions[0].scene, deformation=deformation))
    drawn = render_study(replace(first, sessions=(session,)))
    return {name: drawn.volume_mm3(0, name) for name in ("left thalamus", "left putamen", "right putamen")}


@pytest.mark.requirement("True change between sessions is known and is what the targets show")
def test_measured_change_is_the_true_change() -> None:
    drawn = moved_study({"left lateral ventricle": 1.5, "right lateral ventricle": 1.5, "left thalamus": -1.0})
    for region in ("lateral ventricle", "left thalamus", "right thalamus"):
        truth = [drawn.volume_mm3(session, region) for session in (0, 1)]
        measured = [
            np.mean(
                [volume_mm3(drawn, number, region) for number, scan in enumerate(drawn.plan.scans) if scan.session == s]
            )
            for s in (0, 1)
        ]
        assert measured[1] - measured[0] == pytest.approx(truth[1] - truth[0], abs=0.04 * truth[0])


def test_a_boundary_that_moves_outwards_makes_a_structure_larger_by_about_its_surface_times_the_way() -> None:
    deformation = replace(draw_deformation(SUBJECT, Chance.seeded(0), 0.0), mirrored=False)
    sizes = {}
    for way in (-1.0, 0.0, 1.0, 2.0):
        moved = grown(SUBJECT, deformation, {"left thalamus": way}, LABELS)
        sizes[way] = sizes_of(moved)["left thalamus"]
    for way in (-1.0, 1.0):
        ellipsoid = (6 + way) * (8 + way) * (5 + way) / (6 * 8 * 5)
        assert sizes[way] / sizes[0.0] == pytest.approx(ellipsoid, rel=0.2)
    assert sizes[2.0] > 1.2 * sizes[1.0]


def test_growth_is_named_by_the_side_that_the_scene_shows() -> None:
    for mirrored in (False, True):
        before = replace(draw_deformation(SUBJECT, Chance.seeded(1), 0.0), mirrored=mirrored)
        first = sizes_of(before)
        later = sizes_of(grown(SUBJECT, before, {"left putamen": 1.5}, LABELS))
        assert later["left putamen"] > 1.3 * first["left putamen"]
        assert later["right putamen"] == pytest.approx(first["right putamen"], rel=0.02)


def test_growth_over_two_intervals_adds_up() -> None:
    before = draw_deformation(SUBJECT, Chance.seeded(3), 0.0)
    once = grown(SUBJECT, before, {"left thalamus": 1.0}, LABELS)
    twice = grown(SUBJECT, once, {"left thalamus": 1.0}, LABELS)
    assert isinstance(once, Grown)
    assert isinstance(twice, Grown)
    at_once = grown(SUBJECT, before, {"left thalamus": 2.0}, LABELS)
    assert isinstance(at_once, Grown)
    assert float((twice.growth.control - at_once.growth.control).abs().max()) < 0.6
    assert float(twice.growth.control.abs().max()) > 1.5 * float(once.growth.control.abs().max())


def test_a_structure_that_no_label_map_knows_cannot_grow() -> None:
    with pytest.raises(ValueError, match="spleen"):
        grown(SUBJECT, draw_deformation(SUBJECT, Chance.seeded(0)), {"spleen": 1.0}, LABELS)


def test_courses_name_structures_of_the_label_maps() -> None:
    for course in load_changes().courses:
        assert set(course.draw(LABELS, 0.2, Chance.seeded(0))) <= set(LABELS.names)
        bare = {name.removeprefix("left ").removeprefix("right ") for name in LABELS.names}
        assert set(course.structures) <= bare


def test_sessions_that_are_not_registered_differ_by_a_rigid_pose_that_the_truth_knows() -> None:
    poses, count = 0, 7
    for seed in range(count):
        drawn = study(seed, replace(TWO, protocols=("single volume",), finest_mm=3.0))
        second = drawn.plan.sessions[1]
        moved = not np.allclose(second.pose, np.eye(4))
        poses += moved
        np.testing.assert_allclose(second.pose[:3, :3] @ second.pose[:3, :3].T, np.eye(3), atol=1e-9)
        number = next(n for n, scan in enumerate(drawn.plan.scans) if scan.session == 1)
        np.testing.assert_allclose(centre(drawn, number, "brainstem"), drawn.middle(1, "brainstem"), atol=1.0)
    assert 0 < poses < count


def of(drawn: SyntheticStudy, session: int) -> int:
    return next(number for number, scan in enumerate(drawn.plan.scans) if scan.session == session)


@pytest.mark.requirement("New, growing and vanishing lesions are in the targets of the sessions that show them")
def test_a_lesion_is_where_and_when_its_history_says() -> None:
    """The study is one with a lesion that grows, one that goes and one that is new."""
    lesions = draw_lesions(SUBJECT, ANATOMY, Chance.seeded(3), 3, ["abscess"])
    grown_larger = another_time(lesions[0], 2.0)
    histories = ((lesions[0], grown_larger), (lesions[1], None), (None, lesions[2]))
    planned = plan(1, replace(TWO, protocols=("single volume",), tilted=False))
    sessions = []
    for number, session in enumerate(planned.sessions[:2]):
        of_session = tuple(history[number] for history in histories)
        layer = Layer.of([lesion for lesion in of_session if lesion is not None], SUBJECT)
        sessions.append(replace(session, lesions=of_session, layer=layer))
    facts = (grown_larger.facts, lesions[2].facts) if grown_larger else ()
    drawn = render_study(
        replace(planned, sessions=tuple(sessions), scene=replace(planned.scene, lesions=facts), scans=planned.scans[:2])
    )
    first, second = of(drawn, 0), of(drawn, 1)

    def size(volume: int, number: int) -> float:
        world = drawn.images[volume].placed.world
        share = drawn.lesion_target(volume, [drawn.scene.lesions[number]])
        return float(share.sum()) * abs(float(np.linalg.det(world[:3, :3])))

    assert size(second, 0) == pytest.approx(2 * size(first, 0), rel=0.35)
    assert size(first, 1) == 0.0
    assert size(second, 1) > 0.0
    left = [len(lesions_of(session, LABELS, [1]).voxels()) for session in sessions]
    assert left == [lesions[1].facts.volume_mm3, 0]


def test_lesions_appear_grow_shrink_and_go() -> None:
    seen = {"new": 0, "gone": 0, "grown": 0, "shrunken": 0}
    for seed in range(12):
        for before, after in draw_histories(SUBJECT, ANATOMY, [30], Chance.seeded(seed), SMALL):
            seen["new"] += before is None
            seen["gone"] += after is None
            if before is not None and after is not None:
                seen["grown"] += after.facts.volume_mm3 > before.facts.volume_mm3
                seen["shrunken"] += after.facts.volume_mm3 < before.facts.volume_mm3
    assert min(seen.values()) > 0, seen


def test_facts_of_a_lesion_agree_with_its_targets() -> None:
    compared = 0
    for seed in range(4):
        drawn = study(
            seed, replace(LESIONED, several=0.0, kinds=("meningioma", "abscess"), protocols=("single volume",))
        )
        for lesion in drawn.scene.lesions:
            voxel = abs(float(np.linalg.det(drawn.images[0].placed.world[:3, :3])))
            share = drawn.lesion_target(0, [lesion])
            assert float(share.sum()) * voxel == pytest.approx(lesion.volume_mm3, rel=0.2)
            if lesion.side in ("left", "right"):
                x = np.tensordot(share.double().numpy(), np.ones(1), axes=0)[..., 0]
                index = np.argwhere(x > 0)
                world = drawn.images[0].placed.world
                mean = (index @ world[:3, :3].T + world[:3, 3])[:, 0].mean()
                assert (mean < 0) == (lesion.side == "left")
            compared += 1
    assert compared >= 4


def test_lesions_by_name_are_all_that_are_of_that_kind() -> None:
    drawn = study(3, replace(LESIONED, several=0.0, kinds=("metastasis",)))
    lesions = drawn.scene.lesions
    assert lesions
    torch.testing.assert_close(drawn.target(0, "metastasis"), drawn.lesion_target(0, lesions))
    torch.testing.assert_close(drawn.target(0, "neoplasm"), drawn.target(0, "metastasis"))
    assert float(drawn.target(0, "infarct").sum()) == 0.0


def test_components_have_targets_of_their_own() -> None:
    drawn = study(2, replace(LESIONED, several=0.0, kinds=("glioblastoma",)))
    lesion = drawn.scene.lesions[0]
    assert lesion.components
    whole = drawn.lesion_target(0, [lesion])
    for component in lesion.components:
        part = drawn.lesion_target(0, [lesion], component)
        assert float(part.sum()) > 0
        if component != "edema":
            assert bool((part <= whole + 1e-6).all())


def test_structures_end_where_a_lesion_has_replaced_them() -> None:
    drawn = study(1, replace(LESIONED, several=0.0, kinds=("resection cavity",)))
    cavity = drawn.lesion_target(0, drawn.scene.lesions)
    assert float(cavity.max()) > 0.9
    assert float((drawn.target(0, "brain") + cavity).max()) <= 1.0 + 1e-6


def test_acute_infarcts_are_bright_on_dwi_and_dark_on_adc() -> None:
    settings = replace(LESIONED, several=0.0, kinds=("acute infarct",), protocols=("stroke",))
    for seed in range(2):
        drawn = study(seed, settings)
        lesions = drawn.scene.lesions
        kinds = [volume.kind for volume in drawn.scene.volumes]
        for kind, brighter in (("DWI", True), ("ADC", False)):
            number = kinds.index(kind)
            inside = drawn.lesion_target(number, lesions) > 0.9
            brain = (drawn.target(number, "cerebral white matter") > 0.9) & ~inside
            image = drawn.images[number].placed.features[0, 0]
            assert (float(image[inside].mean()) > float(image[brain].mean())) == brighter


def test_lesions_that_enhance_are_brighter_after_contrast_agent() -> None:
    settings = replace(LESIONED, several=0.0, kinds=("meningioma",), protocols=("tumour",))
    drawn = study(4, settings)
    kinds = [volume.kind for volume in drawn.scene.volumes]
    inside = drawn.lesion_target(kinds.index("T1"), drawn.scene.lesions) > 0.9
    brain = drawn.target(kinds.index("T1"), "cerebral white matter") > 0.9
    relative = []
    for kind in ("T1", "T1+C"):
        image = drawn.images[kinds.index(kind)].placed.features[0, 0]
        relative.append(float(image[inside].mean()) / float(image[brain].mean()))
    assert relative[1] > 1.2 * relative[0]


def test_acute_lesions_become_chronic_with_time() -> None:
    _, anatomy = head_and_anatomy()
    compared = 0
    for seed in range(3):
        for history in draw_histories(SUBJECT, anatomy, [400], Chance.seeded(seed), ["acute lacunar infarct"]):
            first, later = history
            if first is not None and later is not None:
                assert (first.facts.stage, later.facts.stage) == ("acute", "chronic")
                compared += 1
    assert compared


def test_without_anatomy_there_are_no_lesions() -> None:
    planned = plan_study(SUBJECT, LABELS, Chance.seeded(0), LESIONED)
    assert planned.scene.lesions == ()
    assert float(render_study(planned).target(0, "white matter lesion").sum()) == 0.0


def test_a_lesion_of_another_study_is_refused() -> None:
    with pytest.raises(ValueError, match="infarct"):
        study(0).lesion_target(0, [Lesion("infarct")])


def test_voxels_of_a_region_are_those_of_the_label_map() -> None:
    session = plan(0).sessions[0]
    found = region_of(session, LABELS, "brain").voxels()
    expected = torch.isin(SUBJECT.labels, torch.tensor(LABELS.brain, dtype=torch.uint8)).nonzero()
    torch.testing.assert_close(found, expected)
    assert ANATOMY.place.shape == SUBJECT.labels.shape
