"""Enhanced objects: many volumes in one file, and files of one volume each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from tests.vp_node.studies_support.synthetic import (
    Slices,
    brain_like,
    corner_distance,
    decimal,
    image,
    rotation,
    stack_matrix,
)
from vp_node.studies.headers import read_header
from vp_node.studies.pixels import load_voxels
from vp_node.studies.understanding import understand

LPS = stack_matrix(rotation((0.9, 0.1, -0.3, 0.2)), (0.9, 1.1, 2.5), (-80.0, 30.0, 12.0))
SLICES = 5


def functional_groups(k: int, echo: float, temporal: int, b_value: float, direction: list[float] | None) -> Dataset:
    group = Dataset()
    content, position, echoes, diffusion, values = (Dataset() for _ in range(5))
    content.TemporalPositionIndex = temporal
    position.ImagePositionPatient = [decimal(value) for value in LPS[:3, 3] + k * LPS[:3, 2]]
    echoes.EffectiveEchoTime = echo
    diffusion.DiffusionBValue = b_value
    if direction is not None:
        gradient = Dataset()
        gradient.DiffusionGradientOrientation = direction
        diffusion.DiffusionGradientDirectionSequence = [gradient]
    values.RescaleSlope, values.RescaleIntercept = str(1 + k), str(-temporal)
    group.FrameContentSequence = [content]
    group.PlanePositionSequence = [position]
    group.MREchoSequence = [echoes]
    group.MRDiffusionSequence = [diffusion]
    group.PixelValueTransformationSequence = [values]
    return group


def enhanced(path: Path, frames: list[tuple[Dataset, np.ndarray]], series: str, study: str) -> Path:
    """One file of the frames given, in the order given."""
    columns, rows = frames[0][1].shape
    stack = Slices(LPS, np.stack([pixels for _, pixels in frames], axis=2), series, study, "1.2.3")
    dataset = image(stack, 0, rows, columns)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for keyword in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, keyword)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [group for group, _ in frames]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = b"".join(np.ascontiguousarray(pixels.T).tobytes() for _, pixels in frames)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("files", ["one file", "a file for each volume"])
def test_many_volumes_in_enhanced_objects_are_told_apart(tmp_path: Path, files: str) -> None:
    series, study = generate_uid(), generate_uid()
    conditions = [(echo, temporal) for echo in (5.0, 12.0) for temporal in (1, 2, 3)]
    stored = {condition: brain_like(n, (4, 3, SLICES)) for n, condition in enumerate(conditions)}
    frames = [
        (functional_groups(k, echo, temporal, 0.0, None), stored[echo, temporal][:, :, k])
        for k in reversed(range(SLICES))
        for echo, temporal in conditions
    ]
    if files == "one file":
        paths = [enhanced(tmp_path / "all.dcm", frames, series, study)]
    else:
        paths = [
            enhanced(tmp_path / f"{n}.dcm", frames[n :: len(conditions)], series, study) for n in range(len(conditions))
        ]
    understanding = understand([read_header(path) for path in paths])
    assert understanding.set_aside == ()
    assert len({volume.identifier for volume in understanding.volumes}) == len(conditions)
    for (echo, temporal), volume in zip(conditions, understanding.volumes, strict=True):
        assert dict(volume.splits) == {"echo time": f"{echo:g}", "temporal position": str(temporal)}
        assert volume.flags == ()
        assert corner_distance(volume.world, volume.shape, LPS_AS_RAS, (4, 3, SLICES)) < 1e-4
        expected = stored[echo, temporal] * (1.0 + np.arange(SLICES)) - temporal
        np.testing.assert_array_equal(load_voxels(volume), expected.astype(np.float32))


LPS_AS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ LPS


def test_diffusion_directions_of_an_enhanced_object_are_volumes(tmp_path: Path) -> None:
    conditions: list[tuple[float, list[float] | None]] = [(0.0, None), (1000.0, [1.0, 0, 0]), (1000.0, [0, 1.0, 0])]
    frames = [
        (functional_groups(k, 80.0, 1, b_value, direction), brain_like(k, (4, 3, 1))[:, :, 0])
        for b_value, direction in conditions
        for k in range(SLICES)
    ]
    path = enhanced(tmp_path / "all.dcm", frames, generate_uid(), generate_uid())
    volumes = understand([read_header(path)]).volumes
    assert [dict(volume.splits)["b-value"] for volume in volumes] == ["0", "1000", "1000"]
    assert {volume.kind for volume in volumes} == {"DWI"}
    assert all(frame.frame_number is not None for volume in volumes for frame in volume.frames)


def test_frames_without_functional_groups_are_set_aside(tmp_path: Path) -> None:
    frames = [(functional_groups(k, 5.0, 1, 0.0, None), brain_like(k, (4, 3, 1))[:, :, 0]) for k in range(SLICES)]
    path = enhanced(tmp_path / "all.dcm", frames, generate_uid(), generate_uid())
    dataset = dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[:3]
    dataset.save_as(path)
    understanding = understand([read_header(path)])
    assert understanding.volumes == ()
    assert "no geometry" in understanding.set_aside[0].reason
