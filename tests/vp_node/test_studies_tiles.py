"""Siemens mosaics and UIH VFRAMEs: slices that are tiles of one frame become volumes in their true place."""

from __future__ import annotations

import json
import math
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tests.vp_node.results_support.cases import chosen, encoded, hippocampus, written
from tests.vp_node.results_support.tools import dciodvfy_errors
from tests.vp_node.studies_support.synthetic import (
    Slices,
    brain_like,
    corner_distance,
    decimal,
    rotation,
    stack_matrix,
    write,
)
from vp_node.results import check_with_sources
from vp_node.studies.headers import InstanceHeader, read_header
from vp_node.studies.pixels import load_voxels
from vp_node.studies.tiles import csa_numbers
from vp_node.studies.understanding import understand

TILED = (
    "sie_mosaic_ax_cor_sag",
    "sie_mosaic_dwi_decubitus",
    "transfer_syntaxes_9x",
    "bits_12_signed_unsigned",
    "uih_dti_vframe",
)


def csa(**elements: tuple[str, ...]) -> bytes:
    """A CSA header, format SV10."""
    parts = [b"SV10", b"\4\3\2\1", struct.pack("<II", len(elements), 77)]
    for name, values in elements.items():
        parts.append(struct.pack("<64si4siii", name.encode(), len(values), b"FD", 4, len(values), 77))
        for value in values:
            text = value.encode() + b"\0"
            parts.append(struct.pack("<iiii", len(text), len(text), 77, len(text)) + text)
            parts.append(bytes(-len(text) % 4))
    return b"".join(parts)


def tiled(voxels: NDArray[np.uint16], across: int, down: int) -> NDArray[np.uint16]:
    """Slices (columns, rows, slices) side by side in one frame, row by row."""
    columns, rows, slices = voxels.shape
    frame = np.zeros((columns * across, rows * down, 1), dtype=np.uint16)
    for index in range(slices):
        y, x = divmod(index, across)
        frame[x * columns : (x + 1) * columns, y * rows : (y + 1) * rows, 0] = voxels[:, :, index]
    return frame


def write_mosaic(lps: NDArray[np.float64], voxels: NDArray[np.uint16], folder: Path) -> Path:
    """A Siemens mosaic as scanners write it: its position is that of a slice as large as the mosaic."""
    columns, rows, slices = voxels.shape
    across = math.ceil(math.sqrt(slices))
    frame = tiled(voxels, across, across)
    corner = lps.copy()
    back = np.array([(columns * across - columns) / 2, (rows * across - rows) / 2, 0])
    corner[:3, 3] -= lps[:3, :3] @ back
    (path,) = write(Slices(corner, frame, attributes={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}), folder)
    dataset = dcmread(path)
    step = np.linalg.norm(lps[:3, 2])
    dataset.SpacingBetweenSlices = decimal(float(step))
    dataset.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", slices)
    normal = tuple(f"{value:.8f}" for value in lps[:3, 2] / step)
    header = csa(EchoLinePosition=("64",), NumberOfImagesInMosaic=(str(slices),), SliceNormalVector=normal)
    dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    dataset.save_as(path)
    return path


def write_vframe(lps: NDArray[np.float64], voxels: NDArray[np.uint16], folder: Path) -> Path:
    slices = voxels.shape[2]
    across = math.ceil(math.sqrt(slices))
    (path,) = write(Slices(lps, tiled(voxels, across, math.ceil(slices / across))), folder)
    dataset = dcmread(path)
    del dataset.ImagePositionPatient
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VFRAME"]
    items = []
    for index in range(slices):
        item = Dataset()
        item.ImagePositionPatient = [decimal(value) for value in lps[:3, 3] + index * lps[:3, 2]]
        items.append(item)
    block = dataset.private_block(0x65, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(slices))
    block.add_new(0x51, "SQ", DicomSequence(items))
    dataset.save_as(path)
    return path


@pytest.mark.requirement("Siemens mosaics and UIH VFRAME become volumes in their true place")
@pytest.mark.parametrize("name", TILED)
def test_tiled_frames_of_scanners_are_what_dcm2niix_makes_of_them(shared_data: Path, name: str) -> None:
    case = shared_data / "dicom" / name
    headers = [read_header(path) for path in sorted((case / "dicom").rglob("*.dcm"))]
    # As three instances of one UID came: each is looked at by itself here.
    volumes = [volume for header in headers for volume in understand([header]).volumes]
    assert len({frame.sop_instance_uid for volume in volumes for frame in volume.frames}) <= len(volumes)
    outputs = json.loads((case / "reference.json").read_text())["outputs"]
    assert len(volumes) == sum((item["shape"] + [1])[3] for item in outputs)
    for item in outputs:
        own = [volume for volume in volumes if volume.series_number == item["SeriesNumber"]]
        voxels = [load_voxels(volume) for volume in own]
        for volume in own:
            assert corner_distance(volume.world, volume.shape, np.array(item["affine_ras"]), item["shape"][:3]) < 1e-3
        assert float(np.mean([np.mean(each, dtype=np.float64) for each in voxels])) == pytest.approx(
            item["mean"], rel=1e-5
        )
        assert (min(each.min() for each in voxels), max(each.max() for each in voxels)) == (item["min"], item["max"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    quaternion=st.tuples(*[st.floats(-1, 1).map(lambda value: round(value, 3))] * 4).filter(
        lambda q: np.linalg.norm(q) > 0.2
    ),
    slices=st.integers(2, 11),
    reverse=st.booleans(),
    maker=st.sampled_from([write_mosaic, write_vframe]),
    seed=st.integers(0, 1000),
)
def test_random_mosaics_are_found_again(
    quaternion: tuple[float, float, float, float],
    slices: int,
    reverse: bool,
    maker: object,
    seed: int,
) -> None:
    lps = stack_matrix(rotation(quaternion), (1.5, 2.5, 3.75), (-61.5, 40.25, 12.125))
    if reverse:
        lps[:3, 2] *= -1
    voxels = brain_like(seed, (6, 4, slices))
    with tempfile.TemporaryDirectory() as name:
        header = read_header(maker(lps, voxels, Path(name)))  # type: ignore[operator]
        assert InstanceHeader.from_json(json.loads(json.dumps(header.to_json()))) == header
        (volume,) = understand([header]).volumes
        world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
        assert volume.shape == voxels.shape
        assert "tiled" in volume.flags
        assert corner_distance(volume.world, volume.shape, world, voxels.shape) < 1e-4
        same_way = np.dot(volume.world[:3, 2], world[:3, 2]) > 0
        wanted = (voxels if same_way else voxels[:, :, ::-1]).astype(np.float32)
        np.testing.assert_array_equal(load_voxels(volume), wanted)
        frames = tuple(replace(frame, stored=None) for frame in volume.frames)
        np.testing.assert_array_equal(load_voxels(replace(volume, frames=frames)), wanted)


def test_a_mosaic_that_does_not_say_how_its_tiles_lie_is_set_aside(tmp_path: Path) -> None:
    path = write_mosaic(stack_matrix(np.eye(3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0)), brain_like(0, (6, 4, 5)), tmp_path)
    dataset = dcmread(path)
    del dataset[0x29, 0x1010]
    dataset.save_as(path)
    (aside,) = understand([read_header(path)]).set_aside
    assert "mosaic" in aside.reason and "does not say how they lie" in aside.reason


@given(st.data())
def test_a_damaged_csa_header_is_read_within_its_bounds_or_not_at_all(data: st.DataObject) -> None:
    whole = csa(NumberOfImagesInMosaic=("36",), SliceNormalVector=("0.0", "0.6", "0.8"))
    assert csa_numbers(whole, "SliceNormalVector", 3) == (0.0, 0.6, 0.8)
    changed = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    assert len(csa_numbers(bytes(changed), "SliceNormalVector", 3)) in (0, 3)


def test_results_on_a_mosaic_lie_where_its_slices_lie_and_pass_the_check(tmp_path: Path) -> None:
    lps = stack_matrix(rotation((1.0, 0.1, -0.2, 0.05)), (1.5, 1.5, 3.0), (-40.0, -30.0, 12.0))
    path = write_mosaic(lps, brain_like(1, (16, 14, 10)), tmp_path)
    items = chosen(understand([read_header(path)]).volumes)
    objects = encoded(hippocampus(items), items)
    assert {item.role for item in objects} >= {"seg", "sr"}
    sources = {str(dcmread(path).SOPInstanceUID): path}
    (segmentation,) = [item.dataset for item in objects if item.role == "seg"]
    assert (segmentation.Rows, segmentation.Columns) == (14, 16)
    source = segmentation.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert source.SpatialLocationsPreserved == "NO"
    for file in written(objects, tmp_path / "objects"):
        assert check_with_sources(file, sources) == []
        assert dciodvfy_errors(file) == []
    moved = segmentation.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    moved.ImagePositionPatient = [float(value) + 0.5 for value in moved.ImagePositionPatient]
    segmentation.save_as(tmp_path / "moved.dcm", enforce_file_format=True)
    assert "on-source" in {finding.rule for finding in check_with_sources(tmp_path / "moved.dcm", sources)}
