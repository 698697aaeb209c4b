"""Random studies, written as DICOM, are found again as the volumes that they were."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from tests.vp_node.studies_support.synthetic import Slices, brain_like, corner_distance, rotation, stack_matrix, write
from vp_node.studies.headers import InstanceHeader, read_header
from vp_node.studies.pixels import load_voxels
from vp_node.studies.understanding import understand

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

components = st.floats(-1, 1).map(lambda value: round(value, 3))
quaternions = st.tuples(components, components, components, components).filter(lambda q: np.linalg.norm(q) > 0.2)
origins = st.tuples(*[st.floats(-900, 900).map(lambda value: round(value, 4))] * 3)
spacings = st.tuples(st.floats(0.3, 4), st.floats(0.3, 4), st.floats(0.5, 8)).map(
    lambda values: tuple(round(value, 4) for value in values)
)


def read_all(folder: Path, seed: int) -> list[InstanceHeader]:
    paths = sorted(folder.rglob("*.dcm"))
    random.Random(seed).shuffle(paths)
    return [read_header(path) for path in paths]


@SLOW
@given(
    quaternion=quaternions,
    spacing=spacings,
    origin=origins,
    slices=st.integers(4, 8),
    shear=st.sampled_from([0.0, 0.0, 0.2, -0.45]),
    echoes=st.integers(1, 3),
    repeats=st.integers(1, 3),
    how=st.sampled_from(["temporal", "acquisition", "instance"]),
    gap=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_studies_are_found_again(
    quaternion: tuple[float, float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    slices: int,
    shear: float,
    echoes: int,
    repeats: int,
    how: str,
    gap: bool,
    seed: int,
) -> None:
    lps = stack_matrix(rotation(quaternion), spacing, origin, shear * spacing[2])
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    skip = (random.Random(seed).randrange(1, slices - 1),) if gap else ()
    written = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for echo in range(echoes):
            for repeat in range(repeats):
                attributes: dict[str, object] = {"EchoTime": str(10.0 + 5 * echo)}
                if how == "temporal":
                    attributes["TemporalPositionIdentifier"] = repeat + 1
                if how == "acquisition":
                    attributes["AcquisitionNumber"] = repeat + 1
                stack = Slices(
                    lps,
                    brain_like(seed + 7 * echo + repeat, (4, 3, slices)),
                    series,
                    study,
                    frame,
                    first_instance=1 + 100 * (repeat if how == "instance" else 0),
                    skip=skip,
                    attributes=attributes,
                )
                write(stack, folder)
                written.append(stack)
        understanding = understand(read_all(folder, seed))
        assert understanding.set_aside == ()
        assert len(understanding.volumes) == echoes * repeats
        for stack, volume in zip(written, understanding.volumes, strict=True):
            assert corner_distance(volume.world, volume.shape, stack.world, stack.voxels.shape) < 1e-4
            assert ("missing-slice" in volume.flags) == gap
            assert ("gantry-tilt" in volume.flags) == (shear != 0.0)
            assert "irregular-spacing" not in volume.flags
            present = [k for k in range(slices) if k not in skip]
            voxels = load_voxels(volume)
            np.testing.assert_array_equal(voxels[:, :, present], stack.voxels[:, :, present].astype(np.float32))


@SLOW
@given(quaternion=quaternions, spacing=spacings, origin=origins, seed=st.integers(0, 1000))
def test_order_of_arrival_changes_nothing(
    quaternion: tuple[float, float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    seed: int,
) -> None:
    lps = stack_matrix(rotation(quaternion), spacing, origin)
    with tempfile.TemporaryDirectory() as name:
        write(Slices(lps, brain_like(seed)), Path(name))
        one, other = (understand(read_all(Path(name), order)).volumes[0] for order in (seed, seed + 1))
    assert one.identifier == other.identifier
    assert one.frames == other.frames
    np.testing.assert_array_equal(one.world, other.world)


@SLOW
@given(quaternion=quaternions, spacing=spacings, origin=origins, seed=st.integers(0, 1000))
def test_jitter_of_a_hundredth_of_a_millimetre_is_no_irregularity(
    quaternion: tuple[float, float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    seed: int,
) -> None:
    lps = stack_matrix(rotation(quaternion), spacing, origin)
    stack = Slices(lps, brain_like(seed, (4, 3, 9)))
    jitter = np.random.default_rng(seed).uniform(-0.01, 0.01, (9, 3))
    stack.attributes["ImagePositionPatient"] = lambda k: [
        f"{value:.6f}" for value in lps[:3, 3] + k * lps[:3, 2] + jitter[k]
    ]
    with tempfile.TemporaryDirectory() as name:
        write(stack, Path(name))
        (volume,) = understand(read_all(Path(name), seed)).volumes
    assert volume.flags == ()
    assert corner_distance(volume.world, volume.shape, stack.world, stack.voxels.shape) < 0.05


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    quaternion=quaternions,
    spacing=spacings,
    origin=origins,
    slices=st.integers(4, 8),
    echoes=st.integers(1, 2),
    modality=st.sampled_from(["MR", "CT"]),
    seed=st.integers(0, 1000),
)
def test_dcm2niix_makes_the_same_volumes_of_random_studies(
    quaternion: tuple[float, float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    slices: int,
    echoes: int,
    modality: str,
    seed: int,
) -> None:
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.is_file():
        pytest.skip("dcm2niix is not installed")
    lps = stack_matrix(rotation(quaternion), spacing, origin)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    echoes = echoes if modality == "MR" else 1
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as out:
        for echo in range(echoes):
            attributes: dict[str, object] = {"Manufacturer": "Synthetic", "EchoNumbers": str(echo + 1)}
            if modality == "MR":
                attributes["EchoTime"] = str(10.0 + 5 * echo)
            voxels = brain_like(seed + echo, (12, 10, slices), "int16")
            write(Slices(lps, voxels, series, study, frame, modality, attributes=attributes), Path(name))
        volumes = understand(read_all(Path(name), seed)).volumes
        command = [str(program), "-z", "n", "-b", "n", "-f", "%e_%s", "-o", out, name]
        subprocess.run(command, check=True, capture_output=True)
        made = [nibabel.load(path) for path in sorted(Path(out).glob("*.nii"))]
        assert len(volumes) == len(made) == echoes
        for volume, image in zip(volumes, made, strict=True):
            assert isinstance(image, nibabel.Nifti1Image) and image.affine is not None
            assert corner_distance(volume.world, volume.shape, image.affine, image.shape) < 0.01
            theirs = np.sort(np.asarray(image.dataobj, dtype=np.float64), axis=None)
            np.testing.assert_array_equal(np.sort(load_voxels(volume), axis=None), theirs)
