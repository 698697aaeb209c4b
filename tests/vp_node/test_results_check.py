"""Objects that break a rule are found; derived images and overlays are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.vp_node.results_support.cases import (
    chosen,
    classic,
    encoded,
    enhanced,
    hippocampus,
    on_the_left,
    outcome_of,
    volumes_in,
    written,
)
from tests.vp_node.results_support.tools import dciodvfy_errors, dsrdump
from tests.vp_node.studies_support.synthetic import corner_distance
from vp_model.outcome import DerivedVolume
from vp_model.rendering import render_overlay
from vp_node.results import check, check_file, check_with_sources
from vp_node.results.checking import rules
from vp_node.studies.pixels import load_voxels


def _no_patient(dataset: Dataset) -> None:
    del dataset.PatientID


def _no_equipment(dataset: Dataset) -> None:
    del dataset.ContributingEquipmentSequence


def _other_version(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion = "9"


def _short_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-4]


def _gap(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentNumber = 2


def _bad_uid(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = "1.02.3"


def _moved(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def _no_rows(dataset: Dataset) -> None:
    del dataset.Rows


def _source_series(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = dataset.ReferencedSeriesSequence[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_no_patient, "type2"),
        (_no_equipment, "equipment"),
        (_other_version, "same-equipment"),
        (_short_pixels, "pixels"),
        (_gap, "segments"),
        (_bad_uid, "uid"),
        (_moved, "on-source"),
        (_no_rows, "malformed"),
        (_source_series, "own-series"),
    ],
)
def test_spoiled_segmentation_is_found(spoil: Callable[[Dataset], None], rule: str, tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    path = written(encoded(hippocampus(items), items), tmp_path / "out")[0]
    sources = {frame.sop_instance_uid: frame.path for frame in items[0].volume.frames}
    assert check_with_sources(path, sources) == []
    dataset = dcmread(path)
    spoil(dataset)
    dataset.save_as(path)
    found = check_with_sources(path, sources)
    assert rule in {finding.rule for finding in found} and {finding.severity for finding in found} == {"error"}


def test_spoiled_report_is_found(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    path = written(encoded(hippocampus(items), items), tmp_path / "out")[1]
    dataset = dcmread(path)
    dataset.VerificationFlag = "VERIFIED"
    del dataset.CurrentRequestedProcedureEvidenceSequence
    dataset.save_as(path)
    assert {finding.rule for finding in check(path)} >= {"unverified", "evidence"}


def test_file_that_is_no_dicom_is_found(tmp_path: Path) -> None:
    (tmp_path / "no.dcm").write_bytes(b"no")
    assert [finding.rule for finding in check_file(tmp_path / "no.dcm")] == ["readable"]


def test_each_rule_says_where_it_comes_from() -> None:
    assert all(set(rule) - {"house"} == {"severity", "message", "source"} for rule in rules().values())


@pytest.mark.parametrize(("case", "modality"), [("oblique", "MR"), ("tilted", "CT"), ("enhanced", "MR")])
def test_cropped_image_is_understood_as_a_volume_in_its_place(case: str, modality: str, tmp_path: Path) -> None:
    if case == "enhanced":
        enhanced(tmp_path / "in", "oblique")
    else:
        classic(tmp_path / "in", case, modality)
    items = chosen(volumes_in(tmp_path / "in"))
    volume = items[0].volume
    voxels = load_voxels(volume)[3:12, 2:10, 1:7]
    world = volume.world.copy()
    world[:3, 3] += world[:3, :3] @ (3, 2, 1)
    derived = DerivedVolume("image-1", "crop", "v1", "cropped to the left hippocampus", voxels, world)
    outcome = outcome_of(items, masks=hippocampus(items).masks, derived=(derived,))
    objects = encoded(outcome, items)
    paths = written(objects, tmp_path / "out")
    images = [path for path in paths if "derived" in path.name]
    assert [check_file(path) for path in paths] == [[]] * len(paths)
    assert [dciodvfy_errors(path) for path in (images[0], paths[-1])] == [[], []]
    folder = tmp_path / "images"
    folder.mkdir()
    for path in images:
        path.rename(folder / path.name)
    (again,) = volumes_in(folder)
    assert corner_distance(again.world, again.shape, world, voxels.shape) < 1e-3
    assert np.allclose(np.sort(load_voxels(again).ravel()), np.sort(voxels.ravel()))
    assert again.frame_of_reference_uid == volume.frame_of_reference_uid


def test_values_with_fractions_survive_in_16_bits(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    voxels = np.random.default_rng(5).normal(3.0, 0.7, items[0].volume.shape).astype(np.float32)
    derived = DerivedVolume("image-1", "remove", "v1", "without skull", voxels, items[0].volume.world)
    objects = [item for item in encoded(outcome_of(items, derived=(derived,)), items) if item.role == "derived"]
    paths = written(objects, tmp_path / "out")
    assert dciodvfy_errors(paths[0]) == []
    (again,) = volumes_in(tmp_path / "out")
    step = float(voxels.max() - voxels.min()) / 65535
    assert np.abs(np.sort(load_voxels(again).ravel()) - np.sort(voxels.ravel())).max() <= step


@pytest.mark.parametrize("case", ["axial", "sagittal", "oblique", "tilted"])
def test_overlay_shows_the_left_on_the_right(case: str, tmp_path: Path) -> None:
    classic(tmp_path / "in", case)
    volume = chosen(volumes_in(tmp_path / "in"))[0].volume
    mask = on_the_left(volume)
    render_overlay(np.zeros(volume.shape, np.float32), volume.world, [("left", (255, 0, 0), mask)], tmp_path / "o.png")
    picture = imread(tmp_path / "o.png")[..., :3]
    assert picture.shape[1] > 1000
    height, width = picture.shape[:2]
    axial = picture[int(0.16 * height) : int(0.92 * height), : width // 3]
    red = (axial[..., 0] > 0.35) & (axial[..., 1] < 0.1)
    assert red.any()
    assert np.nonzero(red)[1].mean() > 0.5 * axial.shape[1]


def _shared_case(shared_data: Path, name: str) -> Path:
    folder = shared_data / "dicom" / name
    if not folder.is_dir():
        pytest.skip(f"The shared case {name} is absent.")
    return folder


@pytest.mark.parametrize("name", ["ms12_longitudinal", "sie_xa30_enhanced_brain"])
def test_real_study_gets_valid_results(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder = _shared_case(shared_data, name)
    volumes = [volume for volume in volumes_in(folder) if volume.visit is not None]
    latest = max(volumes, key=lambda volume: (volume.visit, int(np.prod(volume.shape))))
    items = chosen([latest])
    mask = np.zeros(latest.shape, bool)
    mask[latest.shape[0] // 3 : latest.shape[0] // 2, latest.shape[1] // 4 : latest.shape[1] // 2, 1:-1] = True
    from dataclasses import replace

    outcome = hippocampus(items)
    outcome = replace(outcome, masks=(replace(outcome.masks[0], voxels=mask),))
    paths = written(encoded(outcome, items), tmp_path / "out")
    sources = {frame.sop_instance_uid: frame.path for frame in latest.frames if not frame.is_missing}
    for path in paths:
        assert check_with_sources(path, sources) == []
        assert dciodvfy_errors(path) == []
    assert dsrdump(paths[-1])
