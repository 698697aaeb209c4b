"""Public data sets in their published layouts, on miniature copies: what is understood, prepared and read again."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.vp_train.heads import head
from vp_model.imaging.cranium import cranial_crop
from vp_model.imaging.intensity import Image
from vp_model.ontology import load_ontology
from vp_train.datasets.labels import load_labels
from vp_train.datasets.public.cases import prepared_cases
from vp_train.datasets.public.commands import app
from vp_train.datasets.public.index import DatasetError, read_dataset
from vp_train.datasets.public.layout import load_layouts, load_table
from vp_train.datasets.public.prepare import prepare_dataset
from vp_train.datasets.public.splits import part_of
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import draw_grid, draw_scene, render

ANALYZE = "OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_gfc.img"
ADNI = "002_S_0295/MPRAGE/{}_08_20_30.0/I1372{}/ADNI_002_S_0295_MR_MPRAGE_br_raw_I1372{}.nii"
MINIATURES: dict[str, tuple[list[str], list[str], str]] = {
    "brats_gli": (
        [f"BraTS-GLI-0000{n}-00{s}/BraTS-GLI-0000{n}-00{s}-{k}.nii.gz" for n, s in ((1, 0), (1, 1), (2, 0))
         for k in ("t1n", "t1c", "t2w", "t2f")],
        ["BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg.nii.gz"],
        "00001: 000 T1/pre T1/post T2 FLAIR +brats; 001 T1/pre T1/post T2 FLAIR | "
        "00002: 000 T1/pre T1/post T2 FLAIR",
    ),
    "brats_2021": (
        [f"BraTS2021_00002/BraTS2021_00002_{kind}.nii.gz" for kind in ("t1", "t1ce", "t2", "flair")],
        ["BraTS2021_00002/BraTS2021_00002_seg.nii.gz"],
        "00002: T1/pre T1/post T2 FLAIR +brats_until_2021",
    ),
    "brats_men": (
        [f"BraTS-MEN-00004-000/BraTS-MEN-00004-000-{kind}.nii.gz" for kind in ("t1n", "t1c", "t2w", "t2f")],
        ["BraTS-MEN-00004-000/BraTS-MEN-00004-000-seg.nii.gz"],
        "00004: 000 T1/pre T1/post T2 FLAIR +brats_men",
    ),
    "isles_2022": (
        ["sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
         "sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_adc.nii.gz",
         "sub-strokecase0001/ses-0001/anat/sub-strokecase0001_ses-0001_FLAIR.nii.gz"],
        ["derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz"],
        "0001: 0001 DWI ADC FLAIR +infarct",
    ),
    "atlas": (
        ["Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"],
        ["Training/R001/sub-r001s001/ses-1/anat/"
         "sub-r001s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz"],
        "r001s001: 1 T1 +infarct",
    ),
    "wmh": (
        ["training/Utrecht/0/pre/FLAIR.nii.gz", "training/Utrecht/0/pre/T1.nii.gz",
         "training/Utrecht/0/orig/FLAIR.nii.gz", "training/Amsterdam/GE3T/100/pre/FLAIR.nii.gz",
         "test/Amsterdam/Philips_VU .PETMR_01./161/pre/FLAIR.nii.gz"],
        ["training/Utrecht/0/wmh.nii.gz", "training/Amsterdam/GE3T/100/wmh.nii.gz",
         "test/Amsterdam/Philips_VU .PETMR_01./161/wmh.nii.gz",
         "additional_annotations/observer_o3/training/Utrecht/0/result.nii.gz"],
        "Amsterdam/GE3T/100: FLAIR +wmh | Amsterdam/Philips_VU .PETMR_01./161: FLAIR +wmh | Utrecht/0: FLAIR T1 +wmh",
    ),
    "oasis_1": (
        [ANALYZE],
        ["OAS1_0001_MR1/FSL_SEG/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc_fseg.img"],
        "0001: 1 T1 +tissues",
    ),
    "neurite_oasis": (
        ["OASIS_OAS1_0001_MR1/orig.nii.gz", "OASIS_OAS1_0001_MR1/norm.nii.gz"],
        ["OASIS_OAS1_0001_MR1/seg35.nii.gz"],
        "0001: 1 T1 +neurite_35",
    ),
    "oasis_3": (
        ["OAS30001_MR_d0757/anat2/NIFTI/sub-OAS30001_ses-d0757_run-01_T1w.nii.gz",
         "OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_T1w.nii.gz",
         "OAS30001_MR_d0129/anat4/NIFTI/sub-OAS30001_ses-d0129_FLAIR.nii.gz"],
        ["OAS30001_Freesurfer53_d0129/DATA/OAS30001_MR_d0129/mri/aparc+aseg.mgz"],
        "0001: 0129@0 T1 FLAIR +freesurfer; 0757@628 T1",
    ),
    "fsm": (
        ["sub-fsm001/anat/sub-fsm001_T1w.nii.gz", "sub-fsm001/anat/sub-fsm001_PDw.nii.gz"],
        [],
        "fsm001: PD T1",
    ),
    "mind_brain_body": (
        ["sub-010002/ses-01/anat/sub-010002_ses-01_acq-mp2rage_T1w.nii.gz",
         "sub-010002/ses-01/anat/sub-010002_ses-01_acq-highres_FLAIR.nii.gz"],
        [],
        "010002: 01 FLAIR T1",
    ),
    "ibc": (
        ["sub-01/ses-00/anat/sub-01_ses-00_T1w.nii.gz", "sub-01/ses-00/anat/sub-01_ses-00_T2w.nii.gz"],
        [],
        "01: 00 T1 T2",
    ),
    "cermep": (
        ["sub-0001/anat/sub-0001_T1w.nii.gz", "sub-0001/anat/sub-0001_FLAIR.nii.gz", "sub-0001/ct/sub-0001_ct.nii.gz"],
        [],
        "0001: FLAIR T1 CT",
    ),
    "cermep_coregistered": (
        [f"ALL/derivatives/{space}/sub-0001/sub-0001_space-{name}_{kind}.nii.gz"
         for space, name in (("coregistration", "pet"), ("MNI", "MNI")) for kind in ("T1w", "FLAIR", "ct", "pet")],
        [],
        "0001: FLAIR T1 CT",
    ),
    "forrest_gump": (
        [f"sub-01/ses-forrestgump/anat/sub-01_ses-forrestgump_{kind}.nii.gz"
         for kind in ("T1w", "T2w", "acq-mag_veno", "acq-pha_veno", "angio")],
        [],
        "01: forrestgump T1 T2 SWI TOF",
    ),
    "adni": (
        [ADNI.format("2006-04-18", 2, 2), ADNI.format("2007-04-20", 4, 4)],
        [],
        "002_S_0295: 2006-04-18@0 T1; 2007-04-20@367 T1",
    ),
    "episurg": (
        ["subjects/sub-0003/preop/sub-0003_preop-t1mri-1.nii.gz",
         "subjects/sub-0003/postop/sub-0003_postop-t1mri-1.nii.gz"],
        ["subjects/sub-0003/postop/sub-0003_postop-seg-1.nii.gz",
         "subjects/sub-0003/postop/sub-0003_postop-seg-2.nii.gz"],
        "0003: preop T1; postop T1 +resection_cavity#1 +resection_cavity#2",
    ),
    "bhsd": (
        ["label_192/images/ID_0219008a_ID_1d3b.nii.gz"],
        ["label_192/ground truths/ID_0219008a_ID_1d3b.nii.gz"],
        "ID_0219008a_ID_1d3b: CT +bhsd",
    ),
    "pedims": (
        ["P1/T1/P1_T1_FLAIR.nii.gz", "P1/T1/P1_T1_T1.nii.gz", "P1/T2/P1_T2_FLAIR.nii.gz"],
        ["P1/T1/P1_T1_MASK.nii.gz"],
        "1: 1 FLAIR T1 +white_matter_lesion; 2 FLAIR",
    ),
    "bids": (
        ["sub-a/ses-1/anat/sub-a_ses-1_T1w.nii.gz", "sub-a/ses-2/anat/sub-a_ses-2_ce-gad_T1w.nii.gz"],
        ["derivatives/lesions/sub-a/ses-1/anat/sub-a_ses-1_label-lesion_mask.nii.gz"],
        "a: 1 T1 +lesion; 2 T1/post",
    ),
    "nifti": (
        ["one/t1.nii.gz", "one/FLAIR.nii.gz", "two/2020/t1c.nii.gz"],
        ["one/lesion.nii.gz", "two/2020/seg.nii.gz"],
        "one: FLAIR T1 +lesion | two: 2020 T1/post +freesurfer",
    ),
}  # fmt: skip
NAMES = {"ibc": "Individual Brain Charting"}


def write(path: Path, voxels: np.ndarray, world: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    world = np.eye(4) if world is None else world
    if path.suffix == ".img":
        nibabel.save(nibabel.Spm2AnalyzeImage(voxels.astype(np.int16), world), path)
    elif path.suffix == ".mgz":
        nibabel.save(nibabel.MGHImage(voxels.astype(np.float32), world), path)
    else:
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), world), path)


def miniature(key: str, folder: Path) -> None:
    images, masks, _ = MINIATURES[key]
    for path in (*images, *masks):
        write(folder / path, np.zeros((3, 4, 5)))
    if key in NAMES:
        (folder / "dataset_description.json").write_text(json.dumps({"Name": NAMES[key]}))


def in_words(folder: Path, layout: str | None = None) -> tuple[str, str]:
    index = read_dataset(folder, layout)
    subjects = []
    for subject in index.subjects:
        sessions = []
        for session in subject.sessions:
            label = session.label + ("" if session.day is None else f"@{session.day}")
            images = [image.kind + (f"/{image.contrast}" if image.contrast else "") for image in session.images]
            masks = [f"+{mask.table}" + (f"#{mask.rater}" if mask.rater else "") for mask in session.masks]
            sessions.append(" ".join(filter(None, [label, *images, *masks])))
        subjects.append(f"{subject.subject}: " + "; ".join(sessions))
    return index.layout.key, " | ".join(subjects)


def normal(words: str) -> list[list[list[str]]]:
    """Images of a session come in the order of their paths, which is not what these tests are about."""
    return [[sorted(session.split()) for session in subject.split(";")] for subject in words.split("|")]


@pytest.mark.parametrize("key", sorted(MINIATURES))
def test_each_data_set_is_recognised_and_understood_in_its_published_layout(key: str, tmp_path: Path) -> None:
    miniature(key, tmp_path)
    found, words = in_words(tmp_path)
    assert found == key
    assert normal(words) == normal(MINIATURES[key][2])


def test_isles_is_understood_as_the_challenge_gave_it_out_too(tmp_path: Path) -> None:
    for kind in ("dwi", "adc", "flair"):
        write(
            tmp_path / f"rawdata/sub-strokecase0002/ses-0001/sub-strokecase0002_ses-0001_{kind}.nii.gz",
            np.ones((3, 4, 5)),
        )
    write(
        tmp_path / "derivatives/sub-strokecase0002/ses-0001/sub-strokecase0002_ses-0001_msk.nii.gz", np.zeros((3, 4, 5))
    )
    assert in_words(tmp_path) == ("isles_2022", "0002: 0001 ADC DWI FLAIR +infarct")


def test_unprocessed_images_are_read_before_copies_of_them(tmp_path: Path) -> None:
    miniature("cermep", tmp_path)
    miniature("cermep_coregistered", tmp_path)
    assert in_words(tmp_path)[0] == "cermep"


def test_every_layout_has_its_miniature() -> None:
    assert set(MINIATURES) == set(load_layouts())


@pytest.mark.parametrize("key", sorted(load_layouts()))
def test_every_label_of_a_layout_is_a_region_of_the_ontology(key: str) -> None:
    ontology = load_ontology()
    for pattern in load_layouts()[key].masks:
        table = load_table(pattern.table)
        assert table
        for regions in table.values():
            for region in regions or ():
                resolved = ontology.resolve(region)
                assert resolved is not None, region
                bare = region.removeprefix("left ").removeprefix("right ")
                assert resolved[0].name == bare
                assert not (resolved[0].paired and resolved[0].kind == "anatomy") or bare != region, region


def test_a_folder_of_nothing_known_says_which_layouts_there_are(tmp_path: Path) -> None:
    write(tmp_path / "scan.nii.gz", np.zeros((2, 2, 2)))
    with pytest.raises(DatasetError, match="brats_gli"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no layout 'brain'"):
        read_dataset(tmp_path, "brain")


def test_a_subject_stays_in_its_part_whoever_joins() -> None:
    parts = [part_of("brats_gli", f"{number:05}") for number in range(2000)]
    assert parts == [part_of("brats_gli", f"{number:05}") for number in range(2000)]
    assert 0.66 < parts.count("training") / 2000 < 0.74
    assert 0.23 < parts.count("test") / 2000 < 0.31
    with pytest.raises(ValueError, match="add up"):
        part_of("brats_gli", "00001", (0.5, 0.1, 0.1))


@pytest.fixture(scope="module")
def moved_head(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A subject with T1 and labels, and a FLAIR whose header says that it lies elsewhere than it does."""
    folder = tmp_path_factory.mktemp("moved")
    subject, labels, chance = head(), load_labels(), Chance.seeded(3)
    scene = draw_scene(subject, labels, chance, 0.0)
    shape, world = draw_grid(subject, [2.0, 2.0, 2.0], None, chance)
    wrong = np.eye(4)
    wrong[:3, 3] = (4.0, -3.0, 5.0)
    turn = np.radians(6)
    wrong[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    t1 = render(scene, labels, shape, world, chance, "T1")
    flair = render(scene, labels, shape, world, chance, "FLAIR")
    left = (t1.targets[labels.targets.index("left cerebral white matter")] > 0.5).numpy()
    write(folder / "data/one/t1.nii.gz", t1.placed.features[0, 0].numpy() * 800, world)
    write(folder / "data/one/seg.nii.gz", left * 2, world)
    write(folder / "data/one/flair.nii.gz", flair.placed.features[0, 0].numpy() * 500, wrong @ world)
    return folder, wrong


def test_prepared_images_are_in_ras_in_unit_range_and_laid_on_the_reference(
    moved_head: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, wrong = moved_head
    outcomes = list(prepare_dataset(read_dataset(folder / "data"), tmp_path))
    assert [outcome.state for outcome in outcomes] == ["done"]
    (case,) = prepared_cases(tmp_path)
    flair, t1 = (next(item for item in case.images if item.volume.kind == kind) for kind in ("FLAIR", "T1"))
    for image in (flair, t1):
        assert 0 <= float(image.volume.features.min()) <= float(image.volume.features.max()) <= 1
        assert nibabel.aff2axcodes(image.volume.world) == ("R", "A", "S")
    described = json.loads((tmp_path / "nifti/one/case.json").read_text())
    (found,) = [
        np.array(image["registration"]["world_transform"])
        for image in described["sessions"][0]["images"]
        if image["registration"]
    ]
    corners = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-70, 70) for z in (-50, 50)], dtype=float).T
    error = np.linalg.norm((found @ wrong @ corners - corners)[:3], axis=0)
    assert error.max() < 1.5, error
    mask = t1.masks["left cerebral white matter"]
    centre = t1.volume.world @ [*np.argwhere(mask).mean(axis=0), 1.0]
    assert centre[0] < 0, "the left side lies at negative x"


def test_prepared_images_are_cut_to_twenty_millimetres_around_the_cranial_cavity(tmp_path: Path) -> None:
    world = np.diag([4.0, 4.0, 4.0, 1.0])
    world[:3, 3] = -128.0
    x, y, z = np.indices((64, 64, 64)) * 4.0 - 128.0
    head = (x / 70) ** 2 + (y / 90) ** 2 + (z / 75) ** 2 < 1
    voxels = (head * np.random.default_rng(0).uniform(300, 400, head.shape)).astype(np.float32)
    write(tmp_path / "data/one/t1.nii.gz", voxels, world)
    assert [item.state for item in prepare_dataset(read_dataset(tmp_path / "data"), tmp_path / "out")] == ["done"]
    (case,) = prepared_cases(tmp_path / "out")
    (image,) = case.images
    expected = cranial_crop(Image(voxels, world), "T1")
    assert image.volume.shape == expected.voxels.shape
    assert image.volume.shape < voxels.shape
    assert np.allclose(image.volume.world, expected.world)


def test_preparation_keeps_what_is_done_and_makes_again_what_changed(
    moved_head: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, _ = moved_head
    (folder / "data/one/flair.nii.gz").unlink()
    index = read_dataset(folder / "data")
    assert [item.state for item in prepare_dataset(index, tmp_path)] == ["done"]
    assert [item.state for item in prepare_dataset(index, tmp_path)] == ["kept"]
    path = folder / "data/one/seg.nii.gz"
    labels = nibabel.load(path)
    voxels, world = np.asarray(labels.dataobj), labels.affine  # type: ignore[attr-defined]
    write(path, voxels * 0 + 41, world)
    assert [item.state for item in prepare_dataset(index, tmp_path)] == ["done"]
    (case,) = prepared_cases(tmp_path)
    assert case.images[0].masks["right cerebral white matter"].all()


def test_a_broken_file_fails_its_subject_and_no_other(tmp_path: Path) -> None:
    block = np.random.default_rng(0).uniform(0, 100, (20, 20, 20))
    write(tmp_path / "data/good/t1.nii.gz", block)
    write(tmp_path / "data/bad/t1.nii.gz", block)
    path = tmp_path / "data/bad/t1.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    outcomes = {item.subject: item for item in prepare_dataset(read_dataset(tmp_path / "data"), tmp_path / "out", 2)}
    assert outcomes["good"].state == "done"
    assert outcomes["bad"].state == "failed"
    assert "bad/t1.nii.gz cannot be read" in outcomes["bad"].reason


def test_the_command_says_what_was_understood_and_what_is_wrong(tmp_path: Path) -> None:
    miniature("brats_gli", tmp_path)
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "2 subjects, 3 sessions, 1 subjects with more than one" in result.output
    assert "3 T1 pre" in result.output
    write(tmp_path / "BraTS-GLI-00002-000/BraTS-GLI-00002-000-seg.nii.gz", np.full((3, 4, 5), 9))
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert "labels that the table brats does not know: [9]" in result.output
