"""Regions of the parcellation beside a label map: what they are, where they lie in images, that they are learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.vp_train.heads import head
from tests.vp_train.lesion_heads import head_and_anatomy, whole_head
from tests.vp_train.test_synthesis import grid, plain_scene
from vp_model.ontology import load_ontology
from vp_model.volume import write_nifti
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject, load_subjects, with_parcels
from vp_train.datasets.parcels import load_parcels
from vp_train.evaluation import regions as evaluation
from vp_train.evaluation.anatomy import Score
from vp_train.evaluation.card import structure_entries
from vp_train.evaluation.regions import RegionScore
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import load_anatomies
from vp_train.synthesis.scene import draw_scene, render
from vp_train.training.condition import ConditionTable
from vp_train.training.examples import draw_example, draw_focal, lesions_from
from vp_train.training.focal import lesion_workers
from vp_train.training.recipe import LesionDrawing, Scale, bundled_recipe, read_recipe

LABELS, PARCELS = load_labels(), load_parcels()
PRECUNEUS, CUNEUS, LINGUAL = 1025, 1005, 1013


def parcelled(subject: Subject) -> Subject:
    """Of each side, cuneus in the front half of the head and lingual gyrus in the back."""
    size = subject.labels.shape
    ids = np.zeros(size, dtype=np.int64)
    for side, along in ((0, slice(0, size[0] // 2)), (1000, slice(size[0] // 2, None))):
        ids[along, : size[1] // 2] = CUNEUS + side
        ids[along, size[1] // 2 :] = LINGUAL + side
    return replace(subject, parcels=torch.from_numpy(PARCELS.compact(ids)))


def test_every_region_is_a_structure_of_the_ontology_with_its_side() -> None:
    structures = load_ontology().structures
    for name in PARCELS.names:
        side, _, rest = name.partition(" ")
        sided = side in ("left", "right")
        assert structures[rest if sided else name].paired == sided, name
    assert not set(PARCELS.names) & set(LABELS.targets)


def test_a_lobe_holds_its_gyri_and_nothing_of_other_lobes() -> None:
    rows = dict(zip(PARCELS.names, PARCELS.members, strict=True))
    occipital = rows["left occipital lobe"]
    for gyrus in ("cuneus", "lingual gyrus", "pericalcarine cortex"):
        assert bool((occipital >= rows[f"left {gyrus}"]).all())
        assert float((rows["left temporal lobe"] * rows[f"left {gyrus}"]).sum()) == 0
    assert PARCELS.ids("right precuneus") == [PRECUNEUS + 1000]


def test_the_other_side_of_the_other_side_is_the_side() -> None:
    assert torch.equal(PARCELS.swap[PARCELS.swap], torch.arange(len(PARCELS.swap)))
    left, right = PARCELS.of(["left precuneus"])[0], PARCELS.of(["right precuneus"])[0]
    assert torch.equal(left[PARCELS.swap], right)


def test_a_region_that_is_not_in_the_table_is_named() -> None:
    with pytest.raises(ValueError, match="no region 'left liver'"):
        PARCELS.of(["left liver"])


@pytest.mark.parametrize("mirrored", [False, True])
def test_regions_lie_where_the_parcellation_has_them_also_in_the_mirror(mirrored: bool) -> None:
    scene = plain_scene(mirrored)
    scene = replace(scene, subject=parcelled(scene.subject))
    names = ("left cuneus", "right cuneus", "left occipital lobe")
    image = render(scene, LABELS, *grid(2.0), Chance.seeded(1), "T1", regions=names, part_mm=1.0)
    left, right, lobe = image.targets[len(LABELS.targets) :]
    assert float(left[:15].mean()) > 0.45 and float(left[15:].sum()) == 0, "RAS: left is at low x"
    assert float(right[15:].mean()) > 0.45 and float(right[:15].sum()) == 0
    assert bool((lobe >= left).all()) and float(lobe.max()) <= 1.0


def test_regions_need_a_parcellation() -> None:
    with pytest.raises(ValueError, match="has no parcellation"):
        render(plain_scene(False), LABELS, *grid(4.0), Chance.seeded(1), "T1", regions=("left cuneus",))


def write_head(folder: Path, parcels: bool) -> None:
    ids = np.zeros((50, 50, 50), dtype=np.int16)
    ids[15:35, 15:35, 15:35] = 2
    write_nifti(folder / "synthseg_01_seg.nii.gz", ids, np.eye(4))
    if parcels:
        write_nifti(folder / "synthseg_01_parc.nii.gz", np.where(ids > 0, CUNEUS, 0).astype(np.int16), np.eye(4))


def test_a_parcellation_is_read_on_the_grid_of_its_label_map_and_kept(tmp_path: Path) -> None:
    write_head(tmp_path, parcels=True)
    subjects = load_subjects(tmp_path)
    (first,) = with_parcels(subjects, tmp_path, tmp_path / "cache")
    assert first.parcels is not None
    assert torch.equal(first.parcels > 0, first.labels == LABELS.index("left cerebral white matter"))
    (tmp_path / "synthseg_01_parc.nii.gz").unlink()
    (again,) = with_parcels(subjects, tmp_path, tmp_path / "cache")
    assert again.parcels is not None and torch.equal(again.parcels, first.parcels)


def test_a_head_without_parcellation_or_with_one_of_another_grid_is_named(tmp_path: Path) -> None:
    write_head(tmp_path, parcels=False)
    with pytest.raises(FileNotFoundError, match="synthseg_01_parc"):
        with_parcels(load_subjects(tmp_path), tmp_path)
    write_nifti(tmp_path / "synthseg_01_parc.nii.gz", np.zeros((9, 9, 9), dtype=np.int16), np.eye(4))
    with pytest.raises(ValueError, match="its label map"):
        with_parcels(load_subjects(tmp_path), tmp_path)


BROAD = replace(read_recipe(bundled_recipe("broad")), mix=(Scale(6.0, None, 1.0),), several=0.0, part_mm=3.0, regions=5)


def test_an_example_asks_for_some_regions_beside_everything_else() -> None:
    subject, anatomy = head_and_anatomy()
    assert BROAD.lesions is not None
    source = lesions_from({subject.name: anatomy}, BROAD.lesions)
    example = draw_example([parcelled(subject)], BROAD, 2, source)
    regions = [name for name in example.names if name in PARCELS.names]
    assert len(regions) == 5
    assert example.names == (*LABELS.targets, *regions, *BROAD.pathologies)
    assert len(example.images[0].targets) == len(example.names)
    assert set(example.names) < set(BROAD.targets)


def test_a_recipe_with_lesions_needs_a_source_of_them() -> None:
    assert BROAD.lesions is not None
    with pytest.raises(ValueError, match="anatomies"):
        draw_example([parcelled(head())], replace(BROAD, lesions=replace(BROAD.lesions, share=1.0)), 1)


def write_subject(folder: Path, subject: Subject) -> None:
    """The subject's label map as a file of aseg ids."""
    ids = np.zeros(len(LABELS.names), dtype=np.int16)
    for identifier in range(len(LABELS.from_id) - 1, -1, -1):
        if 0 < LABELS.from_id[identifier] < len(ids):
            ids[LABELS.from_id[identifier]] = identifier
    write_nifti(folder / "synthseg_01_seg.nii.gz", ids[subject.labels.numpy()], np.eye(4))


def test_other_processes_draw_the_lesions_that_this_one_would(tmp_path: Path) -> None:
    write_subject(tmp_path, whole_head())
    drawing = LesionDrawing(("neoplasm",), 1.0, (1.0,), {})
    with lesion_workers(tmp_path, tmp_path / "cache", drawing, 1) as draw:
        (read,) = load_subjects(tmp_path, tmp_path / "cache")
        found = draw(read, 5)
        (anatomy,) = load_anatomies(tmp_path, [read], tmp_path / "cache")
        expected = draw_focal(read, anatomy, drawing, Chance.seeded(5))
    assert [lesion.facts for lesion in found] == [lesion.facts for lesion in expected]
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(found, expected, strict=True))


def test_regions_are_offered_from_one_half_on_both_sides_and_experimental_where_no_real_scan_judged_them() -> None:
    scores = {
        "left cuneus": RegionScore(0.7, 0.8),
        "right cuneus": RegionScore(0.55, 0.8),
        "left precuneus": RegionScore(0.7, 0.8),
        "right precuneus": RegionScore(0.4, 0.8),
        "pons": RegionScore(None, 0.9),
        "midbrain": RegionScore(None, 0.3),
    }
    entries = structure_entries(("brainstem", *scores), [Score("real", {"brainstem": 0.7})], 0.5, {}, {}, scores)
    offered = {(entry["name"], entry["side"]): entry for entry in entries}
    assert set(offered) == {("brainstem", None), ("cuneus", "left"), ("cuneus", "right"), ("pons", None)}
    assert (
        offered[("cuneus", "right")]["experimental"]
        and not offered[("cuneus", "left")]["experimental"]
        and offered[("cuneus", "left")]["dice"] == 0.7
    )
    assert offered[("pons", None)]["experimental"] and offered[("pons", None)]["dice"] is None


def test_regions_are_judged_against_the_parcels_of_a_scan_and_of_synthetic_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that finds the truth of a synthetic image, and all of a scan of which half is cuneus."""
    subject = parcelled(head())
    table = ConditionTable((*LABELS.targets, "left cuneus", "left lingual gyrus"), 32)
    reference = np.zeros((20, 20, 20), dtype=np.int16)
    reference[:10] = CUNEUS
    write_nifti(tmp_path / "real_icbm152_seg.nii.gz", reference, np.eye(4))
    write_nifti(tmp_path / "real_icbm152_t1.nii.gz", np.ones((20, 20, 20), dtype=np.float32), np.eye(4))
    shown: dict[str, torch.Tensor] = {}

    def rendered(*arguments: Any, **named: Any) -> Any:
        image = render(*arguments, **named)
        shown["targets"] = image.targets[-2:]
        return image

    def answer(images: list[Any], phi: torch.Tensor) -> list[torch.Tensor]:
        return [shown["targets"] - 0.5]

    monkeypatch.setattr(evaluation, "render", rendered)
    monkeypatch.setattr(evaluation.Finder, "find", lambda finder, target: [torch.ones(20, 20, 20)])
    scores = evaluation.score_regions(answer, table, tmp_path, [subject], 2, 4.0)  # type: ignore[arg-type]
    assert scores["left cuneus"].real == pytest.approx(2 / 3)
    assert scores["left lingual gyrus"].real is None
    assert scores["left cuneus"].synthetic == pytest.approx(1.0)
    assert scores["left lingual gyrus"].dice == pytest.approx(1.0)


def test_scenes_without_regions_are_as_before() -> None:
    scene = draw_scene(head(), LABELS, Chance.seeded(4))
    one = render(scene, LABELS, *grid(3.0), Chance.seeded(5), "T1")
    other = render(replace(scene, subject=parcelled(scene.subject)), LABELS, *grid(3.0), Chance.seeded(5), "T1")
    assert torch.equal(one.placed.features, other.placed.features) and torch.equal(one.targets, other.targets)
