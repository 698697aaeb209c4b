"""The whole job: a PACS routes a study to the node, and SEG and SR stand in the PACS beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from tests.integration.node import Node, free_port, make_node, wait_for
from tests.vp_node.wire_support.orthanc import OrthancServer, orthanc_server
from vp_model.outcome import Outcome
from vp_node.config import load_config
from vp_node.database.engine import create_database_engine, session_factory
from vp_node.database.models import Run
from vp_node.studies.headers import read_header
from vp_node.studies.understanding import understand

PROMPT = """
name = "ventricles"
owner = "Dr. Example"
text = "Measure the volume of the lateral ventricles"

[selection]
max_per_session = 1

[conditions]
field = "modality"
operator = "equals"
value = "MR"
"""

STORESCU_PROPOSALS = {JPEGLSLossless: "-xt", JPEGLosslessSV1: "-xs", JPEG2000Lossless: "-xv"}
"""storescu proposes one compressed transfer syntax a call."""


@pytest.fixture(scope="module")
def pacs_and_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OrthancServer, Node]]:
    folder = tmp_path_factory.mktemp("end_to_end")
    port = free_port()
    with orthanc_server(folder / "orthanc", {"node": ("VOXELPROMPT", "127.0.0.1", port)}) as orthanc:
        node = make_node(
            folder / "node",
            f'[[peers]]\nname = "pacs"\nae_title = "{orthanc.ae_title}"\n'
            f'host = "127.0.0.1"\nport = {orthanc.dicom_port}\n',
            port=port,
        )
        (folder / "ventricles.toml").write_text(PROMPT)
        node.run("prompts", "add", str(folder / "ventricles.toml"))
        node.start()
        try:
            yield orthanc, node
        finally:
            node.stop()


def send_with_storescu(orthanc: OrthancServer, folder: Path) -> None:
    for series in sorted({path.parent for path in folder.rglob("*.dcm")}):
        first = dcmread(next(series.glob("*.dcm")), stop_before_pixels=True)
        proposal = STORESCU_PROPOSALS.get(first.file_meta.TransferSyntaxUID)
        options = [proposal] if proposal else []
        subprocess.run(
            ["storescu", *options, "-aec", orthanc.ae_title, "+sd", "127.0.0.1", str(orthanc.dicom_port), str(series)],
            check=True,
            capture_output=True,
        )


def objects_of_modality(orthanc: OrthancServer, modality: str, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    found = []
    for identifier in orthanc.instances():
        tags = orthanc.tags(identifier)
        if tags.get("Modality") == modality:
            path = folder / f"{tags['SOPInstanceUID']}.dcm"
            path.write_bytes(orthanc.file(identifier))
            found.append(path)
    return found


@pytest.fixture(scope="module")
def answered(pacs_and_node: tuple[OrthancServer, Node], shared_data: Path) -> tuple[OrthancServer, Node]:
    orthanc, node = pacs_and_node
    send_with_storescu(orthanc, shared_data / "dicom" / "ms12_longitudinal" / "dicom")
    for study in orthanc.studies():
        orthanc.send_to_modality("node", study)
    wait_for(
        lambda: len(node.json("runs")) == 2 and all(run["state"] == "done" for run in node.json("runs")),
        420,
        lambda: f"two finished runs: {node.json('runs')}\n{node.log_tail()}",
    )
    return orthanc, node


@pytest.mark.requirement("a study routed by the PACS is answered there with SEG and SR")
@pytest.mark.timeout(600)
def test_both_dates_end_with_seg_and_sr_in_the_pacs_beside_the_study(
    answered: tuple[OrthancServer, Node], tmp_path: Path
) -> None:
    orthanc, _ = answered
    segmentations = [dcmread(path) for path in objects_of_modality(orthanc, "SEG", tmp_path / "seg")]
    reports = [dcmread(path) for path in objects_of_modality(orthanc, "SR", tmp_path / "sr")]
    assert sorted(item.StudyDate for item in segmentations) == ["20140305", "20140525"]
    assert sorted(item.StudyDate for item in reports) == ["20140305", "20140525"]
    for segmentation, report in zip(
        sorted(segmentations, key=lambda item: item.StudyDate),
        sorted(reports, key=lambda item: item.StudyDate),
        strict=True,
    ):
        assert segmentation.StudyInstanceUID == report.StudyInstanceUID
        assert tracking_uids_of_segments(segmentation) <= tracking_uids_of_report(report)


def tracking_uids_of_segments(segmentation: Dataset) -> set[str]:
    return {str(segment.TrackingUID) for segment in segmentation.SegmentSequence}


def tracking_uids_of_report(report: Dataset) -> set[str]:
    return {str(item.UID) for item in _walk(report) if item.get("ValueType") == "UIDREF"}


def _walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from _walk(child)


@pytest.mark.requirement("what is in the PACS is valid DICOM that other people's tools read")
@pytest.mark.timeout(600)
def test_the_objects_in_the_pacs_are_valid_and_readable(answered: tuple[OrthancServer, Node], tmp_path: Path) -> None:
    orthanc, _ = answered
    segmentations = objects_of_modality(orthanc, "SEG", tmp_path / "seg")
    reports = objects_of_modality(orthanc, "SR", tmp_path / "sr")
    for path in [*segmentations, *reports]:
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []
    for path in reports:
        rendered = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True).stdout
        assert "Imaging Measurement Report" in rendered
        assert "Volume" in rendered


@pytest.mark.requirement("the mask lies on the image: same affine, bit-exact")
@pytest.mark.timeout(600)
def test_the_mask_read_back_from_the_pacs_is_the_computed_one_on_the_images_grid(
    answered: tuple[OrthancServer, Node], shared_data: Path, tmp_path: Path
) -> None:
    orthanc, node = answered
    config = load_config(node.config)
    paths = sorted((shared_data / "dicom" / "ms12_longitudinal" / "dicom").rglob("*.dcm"))
    volumes = understand([read_header(path) for path in paths]).volumes
    sessions = session_factory(create_database_engine(config.database_url))
    with sessions() as session:
        folders = {
            run.study.study_instance_uid: config.node.data_folder / run.outcome_folder for run in session.query(Run)
        }
    for path in objects_of_modality(orthanc, "SEG", tmp_path / "seg"):
        segmentation = dcmread(path)
        outcome = Outcome.load(folders[segmentation.StudyInstanceUID])
        source_series = segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID
        volume = next(item for item in volumes if item.series_instance_uid == source_series)
        for number, mask in enumerate(outcome.masks, start=1):
            assert mask.voxels.any()
            np.testing.assert_allclose(mask.world, volume.world, atol=1e-6)
            np.testing.assert_array_equal(read_segment(segmentation, number, volume.frames), mask.voxels)
            world, voxels = read_with_dcmqi(path, number, tmp_path / f"{path.stem}-{number}")
            assert_same_region(voxels, world, mask.voxels, mask.world)


def read_segment(segmentation: Dataset, number: int, frames: tuple[object, ...]) -> np.ndarray:
    """The segment as (column, row, slice) on the grid of its source images, by highdicom."""
    import highdicom

    opened = highdicom.seg.Segmentation.from_dataset(segmentation)
    uids = [frame.sop_instance_uid for frame in frames]  # type: ignore[attr-defined]
    pixels = opened.get_pixels_by_source_instance(uids, segment_numbers=[number], assert_missing_frames_are_empty=True)
    return pixels[..., 0].astype(bool).transpose(2, 1, 0)


def read_with_dcmqi(path: Path, number: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    folder.mkdir()
    subprocess.run(
        [
            str(Path(sys.executable).parent / "segimage2itkimage"),
            "--inputDICOM",
            str(path),
            "--outputDirectory",
            str(folder),
            "-t",
            "nifti",
        ],
        check=True,
        capture_output=True,
    )
    image = nibabel.load(folder / f"{number}.nii.gz")
    return np.asarray(image.affine), np.asarray(image.dataobj) > 0


def assert_same_region(voxels: np.ndarray, world: np.ndarray, wanted: np.ndarray, wanted_world: np.ndarray) -> None:
    """Both masks hold the same voxel centres in the world, whatever the order and extent of their grids."""
    found = np.argwhere(voxels) @ world[:3, :3].T + world[:3, 3]
    index = (found - wanted_world[:3, 3]) @ np.linalg.inv(wanted_world[:3, :3]).T
    rounded = np.round(index).astype(int)
    assert np.abs(index - rounded).max() < 0.01
    again = np.zeros_like(wanted)
    again[tuple(rounded.T)] = True
    np.testing.assert_array_equal(again, wanted)
