"""Whole synthetic studies: what is told, geometry, targets, contrasts that agree, what is blanked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.vp_train.lesion_heads import head_and_anatomy
from vp_model.geometry import spacing
from vp_model.vision.prepare import normalise
from vp_model.volume import write_nifti
from vp_train.cli import app
from vp_train.datasets.labels import load_labels
from vp_train.synthesis.acquisition import Distortions, normalised
from vp_train.synthesis.appearance import draw_appearance
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import along_axes
from vp_train.synthesis.planning import StudyPlan, StudySettings, plan_study
from vp_train.synthesis.study import SyntheticStudy, draw_study, render_study
from vp_train.tasks.scene import KINDS

LABELS = load_labels()
SUBJECT, ANATOMY = head_and_anatomy()
CLEAN = Distortions(smoothing=(0.3, 0.35), bias=0.0, noise=(0.0, 0.001), noise_hu=(0.0, 0.5), exponent=0.0, kspace=0.0)
PLAIN = StudySettings(
    finest_mm=2.0,
    sparsified=0.0,
    strength=0.5,
    stripped=0.0,
    masked=0.0,
    corrupted=0.0,
    lesioned=0.0,
    distortions=CLEAN,
)
"""Nothing is cropped, blanked or spoiled."""


def plan(seed: int, settings: StudySettings = PLAIN) -> StudyPlan:
    return plan_study(SUBJECT, LABELS, Chance.seeded(seed), settings, ANATOMY)


def study(seed: int, settings: StudySettings = PLAIN, keep: tuple[str, ...] = ()) -> SyntheticStudy:
    return render_study(plan(seed, settings), keep)


def volume_mm3(drawn: SyntheticStudy, volume: int, region: str) -> float:
    voxel = abs(float(np.linalg.det(drawn.images[volume].placed.world[:3, :3])))
    return float(drawn.target(volume, region).sum()) * voxel


def centre(drawn: SyntheticStudy, volume: int, region: str) -> np.ndarray:
    """World mm of a region's centre of mass as its target gives it."""
    share = drawn.target(volume, region).double().numpy()
    index = np.stack(np.meshgrid(*[np.arange(size) for size in share.shape], indexing="ij"), axis=-1)
    world = drawn.images[volume].placed.world
    mean = (share[..., None] * index).sum(axis=(0, 1, 2)) / share.sum()
    return world[:3, :3] @ mean + world[:3, 3]


def images_of(drawn: SyntheticStudy) -> Iterator[torch.Tensor]:
    return (image.placed.features for image in drawn.images)


def test_the_same_seed_gives_the_same_study() -> None:
    settings = StudySettings(finest_mm=3.0, lesioned=1.0)
    first, second = (draw_study(SUBJECT, LABELS, Chance.seeded(4), settings, anatomy=ANATOMY) for _ in range(2))
    assert first.scene == second.scene
    for volume, (one, other) in enumerate(zip(images_of(first), images_of(second), strict=True)):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(first.target(volume, "brain"), second.target(volume, "brain"), rtol=0, atol=0)


def test_an_image_does_not_depend_on_what_else_is_rendered() -> None:
    whole = plan(3)
    last = whole.scans[-1]
    alone = replace(whole, scans=(replace(last, grid=0),), grids=(whole.grids[last.grid],))
    torch.testing.assert_close(
        render_study(whole).images[-1].placed.features, render_study(alone).images[0].placed.features, rtol=0, atol=0
    )


@pytest.mark.requirement("A study has one to three dated sessions of at most eight images of known kinds")
def test_sessions_and_volumes_are_told_in_order() -> None:
    sessions = set()
    for seed in range(40):
        scene = plan(seed).scene
        assert 1 <= len(scene.volumes) <= 8
        assert scene.names == tuple(f"v{number}" for number in range(1, len(scene.volumes) + 1))
        assert {volume.kind for volume in scene.volumes} <= set(KINDS)
        numbers = [volume.session for volume in scene.volumes]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(max(numbers) + 1))
        dates = [date.fromisoformat(visit) for visit in scene.visits]
        assert dates == sorted(dates)
        assert len(dates) == len(set(numbers))
        sessions.add(len(dates))
    assert sessions == {1, 2, 3}


def test_images_have_the_planned_grids_and_intensities_from_0_to_1() -> None:
    for seed in range(4):
        drawn = study(seed)
        for image, scan in zip(drawn.images, drawn.plan.scans, strict=True):
            grid = drawn.plan.grids[scan.grid]
            assert image.placed.shape == grid.shape
            np.testing.assert_array_equal(image.placed.world, grid.world)
            assert float(image.placed.features.min()) >= 0.0
            assert float(image.placed.features.max()) == pytest.approx(1.0)


@pytest.mark.requirement("A region has the same volume and place in every image of a session, oblique ones included")
def test_targets_agree_in_mm_across_geometries() -> None:
    oblique = 0
    for seed in range(8):
        drawn = study(seed, replace(PLAIN, several=0.0))
        truth = {name: drawn.volume_mm3(0, name) for name in ("left thalamus", "brainstem", "lateral ventricle")}
        for volume, image in enumerate(drawn.images):
            oblique += not along_axes(image.placed.world)
            for name, expected in truth.items():
                assert volume_mm3(drawn, volume, name) == pytest.approx(expected, rel=0.12), (seed, volume, name)
                np.testing.assert_allclose(centre(drawn, volume, name), drawn.middle(0, name), atol=0.8)
    assert oblique >= 3


def test_a_region_of_both_sides_is_the_sum_of_its_sides() -> None:
    drawn = study(1)
    both = drawn.target(0, "thalamus")
    torch.testing.assert_close(both, drawn.target(0, "left thalamus") + drawn.target(0, "right thalamus"))


def test_left_stays_left_where_the_head_is_mirrored() -> None:
    sides = {True: [], False: []}  # type: dict[bool, list[float]]
    for seed in range(8):
        drawn = study(seed, replace(PLAIN, strength=0.0, several=0.0, tilted=False))
        mirrored = drawn.plan.sessions[0].scene.deformation.mirrored
        assert centre(drawn, 0, "left putamen")[0] < -5 < 5 < centre(drawn, 0, "right putamen")[0]
        sides[mirrored].append(volume_mm3(drawn, 0, "left putamen"))
    assert sides[True]
    assert sides[False]


def test_a_mirror_swaps_the_anatomy_of_the_sides() -> None:
    labels = SUBJECT.labels.clone()
    labels[labels == LABELS.index("left putamen")] = LABELS.index("left cerebral white matter")
    lacking = replace(SUBJECT, labels=labels)
    for seed in range(8):
        settings = replace(PLAIN, several=0.0)
        drawn = render_study(plan_study(lacking, LABELS, Chance.seeded(seed), settings), ("left putamen",))
        mirrored = drawn.plan.sessions[0].scene.deformation.mirrored
        lost, kept = ("right", "left") if mirrored else ("left", "right")
        assert float(drawn.target(0, f"{lost} putamen").sum()) == 0
        assert drawn.volume_mm3(0, f"{lost} putamen") == 0
        assert float(drawn.target(0, f"{kept} putamen").sum()) > 0


def test_an_unknown_region_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="spleen"):
        study(0).target(0, "spleen")


def protocol_of(name: str) -> StudySettings:
    return replace(PLAIN, protocols=(name,), several=0.0)


def test_adc_and_dwi_share_a_grid_and_show_fluid_inversely() -> None:
    drawn = study(2, protocol_of("stroke"))
    kinds = [volume.kind for volume in drawn.scene.volumes]
    dwi, adc = (drawn.images[kinds.index(kind)].placed for kind in ("DWI", "ADC"))
    np.testing.assert_array_equal(dwi.world, adc.world)
    fluid = drawn.target(kinds.index("DWI"), "lateral ventricle") > 0.9
    brain = drawn.target(kinds.index("DWI"), "left cerebral white matter") > 0.9
    assert float(adc.features[0, 0][fluid].mean()) > 2 * float(adc.features[0, 0][brain].mean())
    assert float(dwi.features[0, 0][fluid].mean()) < 0.5 * float(dwi.features[0, 0][brain].mean())


def test_adc_is_what_the_weighted_image_was_made_with() -> None:
    appearance = draw_appearance(LABELS, "ADC", 5)
    weighted = draw_appearance(LABELS, "DWI", 5)
    torch.testing.assert_close(appearance.contrast.means, weighted.contrast.means)
    assert appearance.diffusion is not None
    assert weighted.diffusion is not None
    torch.testing.assert_close(appearance.diffusion, weighted.diffusion)
    white = LABELS.index("left cerebral white matter")
    assert float(appearance.diffusion[white]) == pytest.approx(720, rel=0.2)


def test_contrast_agent_changes_only_what_takes_it_up() -> None:
    before, after = (draw_appearance(LABELS, kind, 7).contrast.means for kind in ("T1", "T1+C"))
    changed = {name for name, a, b in zip(LABELS.names, before.tolist(), after.tolist(), strict=True) if a != b}
    assert changed == {"vessel", "mucosa"}
    assert float(after[LABELS.index("vessel")]) > float(before[LABELS.index("vessel")]) + 0.3


def test_t1_before_and_after_contrast_agent_lie_voxel_on_voxel() -> None:
    drawn = study(5, protocol_of("tumour"))
    kinds = [volume.kind for volume in drawn.scene.volumes]
    before, after = (drawn.images[kinds.index(kind)].placed for kind in ("T1", "T1+C"))
    np.testing.assert_array_equal(before.world, after.world)
    brain = drawn.target(kinds.index("T1"), "brain") > 0.99
    related = np.corrcoef(before.features[0, 0][brain], after.features[0, 0][brain])[0, 1]
    assert related > 0.8


def test_images_are_normalised_as_the_node_does() -> None:
    values = torch.randn(20, 21, 22, generator=torch.Generator().manual_seed(1)).abs() * 300
    for kind, image in (("CT", values - 100), ("T1", values), ("T2", torch.where(values > 80, values, 0.0))):
        np.testing.assert_allclose(normalised(image, kind).numpy(), normalise(image.numpy(), kind), atol=2e-6)


def test_ct_shows_fluid_and_brain_at_their_hounsfield_units() -> None:
    drawn = study(1, replace(protocol_of("emergency CT"), resized=0.0))
    image = drawn.images[0].placed.features[0, 0] * 130 - 30
    assert float(image[drawn.target(0, "left cerebral white matter") > 0.99].median()) == pytest.approx(28, abs=5)
    assert float(image[drawn.target(0, "lateral ventricle") > 0.99].median()) == pytest.approx(8, abs=6)


def test_skull_stripping_leaves_nothing_outside_the_brain() -> None:
    drawn = study(6, replace(PLAIN, stripped=1.0, distortions=Distortions()))
    for volume, image in enumerate(drawn.images):
        fluid = drawn.target(volume, "cerebrospinal fluid") + drawn.target(volume, "brain")
        assert float(image.placed.features[0, 0][fluid == 0].max()) == 0.0


def test_masking_blanks_structures_but_not_those_that_are_asked_for() -> None:
    settings = replace(PLAIN, masked=1.0, several=0.0)
    blanked = 0
    for seed in range(8):
        planned = plan(seed, settings)
        names = [name for name, hidden in zip(LABELS.names, planned.scans[0].hidden.tolist(), strict=True) if hidden]
        names = [name for name in names if name.endswith(("thalamus", "putamen", "white matter", "cortex"))]
        for name in names:
            image = {keep: render_study(planned, keep) for keep in ((), (name,))}
            inside = image[()].target(0, name) > 0.99
            if bool(inside.any()):
                blanked += 1
                assert float(image[()].images[0].placed.features[0, 0][inside].max()) == 0.0
                assert float(image[(name,)].images[0].placed.features[0, 0][inside].mean()) > 0.0
    assert blanked


def test_a_corrupted_image_is_never_the_first_of_a_session() -> None:
    settings = replace(PLAIN, corrupted=1.0)
    spoiled = 0
    for seed in range(12):
        scans = plan(seed, settings).scans
        first = [scan for number, scan in enumerate(scans) if not number or scans[number - 1].session != scan.session]
        assert not any(scan.corrupted for scan in first)
        spoiled += sum(scan.corrupted for scan in scans)
    assert spoiled


def test_no_voxel_is_finer_than_asked() -> None:
    for seed in range(10):
        for grid in plan(seed, replace(PLAIN, finest_mm=1.5)).grids:
            assert float(spacing(grid.world).min()) >= 1.5 - 1e-9


def test_the_command_writes_a_contact_sheet(tmp_path: Path) -> None:
    ids = np.zeros(len(LABELS.plain), dtype=np.int16)
    ids[LABELS.from_id] = np.arange(len(LABELS.from_id))  # any id of each label does
    ids[0] = 0
    write_nifti(tmp_path / "synthseg_90_seg.nii.gz", ids[SUBJECT.labels.numpy()], np.eye(4))
    options = ["--finest", "4", "--kind", "meningioma", "--protocol", "stroke", "--sessions", "1"]
    result = CliRunner().invoke(app, ["studies", "--data", str(tmp_path), "--out", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    assert "v1 DWI" in result.output
    assert "meningioma" in result.output
    assert (tmp_path / "study_1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_anatomy() -> None:
    here = study(8)
    there = render_study(
        plan_study(replace(SUBJECT, labels=SUBJECT.labels.cuda()), LABELS, Chance.seeded(8, "cuda"), PLAIN)
    )
    for volume in range(len(here.images)):
        assert there.images[volume].placed.features.is_cuda
        different = (here.target(volume, "left thalamus") - there.target(volume, "left thalamus").cpu()).abs()
        assert float(different.mean()) < 1e-4
