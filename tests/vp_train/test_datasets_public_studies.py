"""Studies of prepared real images: what they show, what may be asked of them, and where that lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vp_train.prepared_heads import labels_on_grid, prepared_anatomy, prepared_tumours, save, subjects, tumour
from vp_train.datasets.public.index import read_dataset
from vp_train.datasets.public.known import lesions_of_masks
from vp_train.datasets.public.plans import PreparedPlan, plan_prepared
from vp_train.datasets.public.pool import CasePool, read_pool
from vp_train.datasets.public.prepare import prepare_dataset
from vp_train.datasets.public.studies import PreparedStudy, render_prepared
from vp_train.synthesis.acquisition import Distortions
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.planning import StudySettings

CLEAN = Distortions(smoothing=(0.4, 0.4), bias=0.0, noise=(0.0, 0.0), noise_hu=(0.0, 0.0), exponent=0.0, kspace=0.0)
PLAIN = StudySettings(
    several=0.0, finest_mm=2.0, sparsified=0.0, lesioned=0.0, stripped=0.0, masked=0.0, corrupted=0.0, distortions=CLEAN
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> CasePool:
    """A head with a tumour, a healthy one, and a healthy one in two sessions, in this order."""
    folder = tmp_path_factory.mktemp("prepared")
    names = subjects("nifti", "training", 2)
    prepared_anatomy(folder / "healthy", folder / "out", names[:1])
    prepared_anatomy(folder / "twice", folder / "out", names[1:], sessions=2)
    prepared_tumours(folder / "tumours", folder / "out", subjects("brats_gli", "training", 1))
    prepared_anatomy(folder / "other", folder / "out", subjects("nifti", "validation", 1))
    return read_pool(folder / "out", "training")


def tumour_plan(pool: CasePool, seed: int, settings: StudySettings = PLAIN) -> PreparedPlan:
    return plan_prepared(pool.case(0), Chance.seeded(seed), settings)


def healthy_plan(pool: CasePool, seed: int, settings: StudySettings = PLAIN) -> PreparedPlan:
    return plan_prepared(pool.case(1), Chance.seeded(seed), settings)


def middle(study: PreparedStudy, volume: int, region: str) -> np.ndarray:
    share = study.target(volume, region).numpy()
    index = np.argwhere(share > 0.2)
    placed = study.images[volume].placed
    found: np.ndarray = placed.world[:3, :3] @ index.mean(axis=0) + placed.world[:3, 3]
    return found


@pytest.mark.requirement("Subjects never cross the parts of the split")
def test_pool_of_a_part_has_its_subjects_alone(pool: CasePool, tmp_path: Path) -> None:
    assert [place.folder.parent.name for place in pool.places] == ["brats_gli", "nifti", "nifti"]
    other = read_pool(pool.places[0].folder.parents[1], "validation")
    assert len(other.places) == 1
    assert not {place.folder for place in pool.places} & {place.folder for place in other.places}
    assert pool.digest != other.digest
    assert not read_pool(tmp_path, "training").places


def test_only_what_masks_tell_of_may_be_asked_for(pool: CasePool) -> None:
    assert set(tumour_plan(pool, 1).regions) == {"edema", "enhancing tumor", "glioma", "necrosis", "resection cavity"}
    healthy = healthy_plan(pool, 1)
    assert {"left thalamus", "right thalamus", "third ventricle"} <= set(healthy.regions)
    assert "brain" not in healthy.regions  # of which the made-up head lacks a hippocampus
    assert not {"left hippocampus", "glioma"} & set(healthy.regions)
    with pytest.raises(ValueError, match="no mask of 'glioma'"):
        render_prepared(healthy).target(0, "glioma")


@pytest.mark.requirement("Lateral flips swap left and right labels (B.2)")
def test_left_lies_left_in_turned_and_mirrored_studies_too(pool: CasePool) -> None:
    mirrored = set()
    for seed in range(4):
        study = render_prepared(healthy_plan(pool, seed))
        mirrored.add(study.plan.pose.mirrored)
        assert middle(study, 0, "left thalamus")[0] < middle(study, 0, "right thalamus")[0]
    assert mirrored == {True, False}


def test_image_and_target_move_together_whatever_the_pose(pool: CasePool) -> None:
    sides = set()
    for seed in range(5):
        study = render_prepared(tumour_plan(pool, seed, replace(PLAIN, sparsified=1.0)), ["glioma"])
        for volume, image in enumerate(study.images):
            share, voxels = study.target(volume, "glioma"), image.placed.features[0, 0]
            assert float(share.max()) > 0.5
            # The tumour is the brightest of the head: its voxels saturate, those of the head do not.
            around = (share == 0) & (voxels > 0)
            assert float(voxels[share > 0.9].mean()) > float(voxels[around].mean()) + 0.2
        sides.add(np.sign(middle(study, 0, "glioma")[0] - study.plan.truth.case.images[0].volume.world[0, 3] - 50))
    assert len(sides) == 2  # right of the middle in mirrored studies


def test_study_depends_on_case_and_seed_alone(pool: CasePool) -> None:
    settings = StudySettings(finest_mm=3.0, lesioned=1.0, kinds=("acute lacunar infarct",))
    one, two = (render_prepared(healthy_plan(pool, 3, settings), ["left thalamus"]) for _ in range(2))
    assert one.scene == two.scene
    for first, second in zip(one.images, two.images, strict=True):
        assert torch.equal(first.placed.features, second.placed.features)
        assert np.array_equal(first.placed.world, second.placed.world)
    assert healthy_plan(pool, 4, settings).scene != one.scene


def test_voxels_are_as_coarse_as_asked_and_volumes_stay(pool: CasePool) -> None:
    for finest in (2.0, 4.0):
        plan = tumour_plan(pool, 11, replace(PLAIN, finest_mm=finest, strength=0.0, resized=0.0))
        study = render_prepared(plan)
        placed = study.images[0].placed
        assert np.linalg.norm(placed.world[:3, :3], axis=0) == pytest.approx([finest] * 3)
        volume = float(study.target(0, "glioma").sum()) * finest**3
        assert volume == pytest.approx((tumour((50, 50, 50)) % 2 == 1).sum() * 8.0, rel=0.03)


@pytest.mark.requirement("Sparsification never loses the target (B.2)")
def test_budget_is_kept_and_what_is_asked_for_stays(pool: CasePool) -> None:
    settings = replace(PLAIN, budget_voxels=9_000, sparsified=1.0)
    for seed in range(6):
        study = render_prepared(tumour_plan(pool, seed, settings), ["necrosis"])
        assert sum(image.placed.features.numel() for image in study.images) <= 9_000
        assert all(float(study.target(volume, "necrosis").max()) > 0.4 for volume in range(len(study.images)))


def test_lesions_of_masks_have_their_parts_and_their_signal(pool: CasePool) -> None:
    for seed in range(5):
        plan = tumour_plan(pool, seed)
        (lesion,) = plan.scene.lesions
        assert lesion.structure == "glioma"
        assert set(lesion.components) == {"necrosis", "enhancing tumor", "edema"}
        assert lesion.enhancing
        scale = abs(np.linalg.det(plan.pose.matrix))
        assert lesion.volume_mm3 == pytest.approx((tumour((50, 50, 50)) % 2 == 1).sum() * 8.0 * scale)
        assert set(lesion.signal.values()) == {"hyperintense"}
    study = render_prepared(tumour_plan(pool, 1))
    whole, part = (study.lesion_target(0, study.scene.lesions, name) for name in ("", "necrosis"))
    assert 0 < float(part.sum()) < float(whole.sum())
    with pytest.raises(ValueError, match="no such glioma"):
        study.lesion_target(0, [replace(study.scene.lesions[0], side="left")])


def test_wider_name_counts_only_without_its_kinds(tmp_path: Path) -> None:
    compact, world = labels_on_grid()
    marked = np.zeros(compact.shape, dtype=np.int16)
    marked[10:14, 20:24, 20:24], marked[30:34, 20:24, 20:24] = 3, 5
    for name, labels in (("1", marked), ("2", np.where(marked == 3, 3, 0).astype(np.int16))):
        save(tmp_path / f"data/label_192/images/ID_a{name}_ID_{name}.nii.gz", compact.astype(np.float32) * 3, world)
        save(tmp_path / f"data/label_192/ground truths/ID_a{name}_ID_{name}.nii.gz", labels, world)
    assert {item.state for item in prepare_dataset(read_dataset(tmp_path / "data"), tmp_path / "out")} == {"done"}
    found = {}
    for part in ("training", "validation", "test"):
        here = read_pool(tmp_path / "out", part)  # type: ignore[arg-type]
        for number, place in enumerate(here.places):
            image = here.case(number).images[0]
            found[place.folder.name[-1]] = [item.structure for item in lesions_of_masks(image.masks, world)]
    assert found == {"1": ["subdural hemorrhage"], "2": ["hemorrhage"]}


@pytest.mark.requirement("Lesions are drawn into real images (B.6)")
def test_synthetic_lesions_are_painted_where_their_target_is(pool: CasePool) -> None:
    settings = replace(PLAIN, lesioned=1.0, kinds=("resection cavity",), strength=0.0, resized=0.0)
    for seed in range(2):
        plan = healthy_plan(pool, seed, settings)
        assert plan.lesioned is not None
        with_lesion, without = render_prepared(plan), render_prepared(replace(plan, lesioned=None))
        lesions = plan.scene.lesions
        assert {lesion.structure for lesion in lesions} == {"resection cavity"}
        assert "resection cavity" in plan.regions
        for volume, (ill, healthy) in enumerate(zip(with_lesion.images, without.images, strict=True)):
            shares = [with_lesion.lesion_target(volume, [lesion]) for lesion in lesions]
            whole = with_lesion.target(volume, "resection cavity")
            assert torch.equal(torch.stack(shares).sum(dim=0), whole)
            before, after = healthy.placed.features[0, 0], ill.placed.features[0, 0]
            assert float(whole[(after - before).abs() > 0.1].mean()) > 0.5
            # No tissue is left in a cavity.
            tissue = sum(with_lesion.target(volume, name) for name in plan.regions if name.endswith("matter"))
            assert float((tissue * whole).max()) < 0.3
            for lesion, share in zip(lesions, shares, strict=True):
                assert float(share.sum()) * 8 == pytest.approx(lesion.volume_mm3, rel=0.05)
                word = lesion.signal[plan.scene.volumes[volume].kind]
                brain = without.target(volume, f"{lesion.side} cerebral white matter") > 0.9
                assert bool(after[share > 0.9].mean() > before[brain].mean()) == (word == "hyperintense")
                points = np.argwhere(share.numpy() > 0.5) @ ill.placed.world[:3, :3].T + ill.placed.world[:3, 3]
                left = points[:, 0].mean() < middle(without, volume, "third ventricle")[0]
                assert lesion.side == ("left" if left else "right")


def test_large_real_lesions_keep_synthetic_ones_away(pool: CasePool) -> None:
    assert tumour_plan(pool, 1, replace(PLAIN, lesioned=1.0)).lesioned is None  # its anatomy is marked nowhere
    calm = replace(PLAIN, lesioned=1.0, kinds=("acute lacunar infarct",))
    assert healthy_plan(pool, 1, calm).lesioned is not None


def test_sessions_are_dated_in_their_order(pool: CasePool) -> None:
    plan = plan_prepared(pool.case(2), Chance.seeded(1), replace(PLAIN, several=1.0, maximum_images=4))
    volumes = plan.scene.volumes
    assert [volume.session for volume in volumes] == sorted(volume.session for volume in volumes)
    assert len(plan.scene.visits) == 2
    assert plan.scene.visits[0] < plan.scene.visits[1]
    assert len(volumes) <= 4


def test_what_a_reader_left_open_is_blanked(tmp_path: Path) -> None:
    compact, world = labels_on_grid()
    name = subjects("wmh", "training", 1)[0]
    marked = np.zeros(compact.shape, dtype=np.int16)
    marked[15:18, 25:28, 28:31], marked[30:36, 25:31, 28:34] = 1, 2
    voxels = (compact > 0) * 300.0 + np.random.default_rng(0).normal(0, 5, compact.shape)
    for kind in ("FLAIR", "T1"):
        save(tmp_path / f"data/Utrecht/{name}/pre/{kind}.nii.gz", np.where(compact > 0, voxels, 0), world)
    save(tmp_path / f"data/Utrecht/{name}/wmh.nii.gz", marked, world)
    assert [item.state for item in prepare_dataset(read_dataset(tmp_path / "data", "wmh"), tmp_path / "out")] == [
        "done"
    ]
    here = [read_pool(tmp_path / "out", part) for part in ("training", "validation", "test")]  # type: ignore[arg-type]
    case = next(found.case(0) for found in here if found.places)
    study = render_prepared(plan_prepared(case, Chance.seeded(2), replace(PLAIN, strength=0.0, resized=0.0)))
    blank = study.plan.truth.blanked(study.plan.scans[0].image)
    assert blank is not None and blank.sum() == 216
    voxels = study.images[0].placed.features[0, 0].numpy()
    assert (voxels[10:-10, 10:-10, 10:-10] == 0).sum() >= 200
    assert study.plan.regions == ("white matter lesion",)
