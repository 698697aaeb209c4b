"""Volumes and their NIfTI files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.vp_model.imaging_cases import worlds
from vp_model.volume import Volume, read_nifti, read_voxels, write_nifti


@settings(max_examples=40, deadline=None)
@given(worlds(), st.sampled_from(["u1", "i1", "i2", "u2", "i4", "f4", "f8", "?", "i8", ">i2"]), st.integers(0, 99))
def test_writing_and_reading_nifti_is_the_identity(world: NDArray[np.float64], dtype: str, seed: int) -> None:
    """Voxels, their type and the matrix, sheared or not, bit by bit; and any other reader sees the same to float32."""
    values = np.random.default_rng(seed).normal(scale=90, size=(5, 6, 4))
    voxels = (values > 0) if dtype == "?" else values.astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii.gz"
        write_nifti(path, voxels, world)
        found, matrix = read_voxels(path)
        foreign = nibabel.load(path)
        np.testing.assert_array_equal(np.asarray(foreign.dataobj), voxels)
    np.testing.assert_allclose(foreign.affine, world, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(matrix, world)
    np.testing.assert_array_equal(found, voxels)
    assert found.dtype == (np.uint8 if dtype == "?" else np.dtype(dtype).newbyteorder("="))


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_volume_comes_back_as_it_was(tmp_path: Path, tilt: float) -> None:
    world = np.array([[0.9, 0.1, 0.3, -80.0], [-0.1, 0.8, 0.5 + tilt, 20.0], [0.0, -0.2, 3.0, 1 / 3], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    write_nifti(tmp_path / "a.nii.gz", voxels, world)
    volume = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_array_equal(volume.world, world)
    assert volume.shape == (5, 6, 4)


def test_a_matrix_changed_by_another_program_is_believed(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))
    image = nibabel.load(tmp_path / "a.nii")
    image.set_sform(np.diag([3.0, 1.0, 2.0, 1.0]), code="scanner")
    nibabel.save(image, tmp_path / "b.nii")
    np.testing.assert_array_equal(read_voxels(tmp_path / "b.nii")[1], np.diag([3.0, 1.0, 2.0, 1.0]))


def test_simpleitk_reads_the_same_geometry(tmp_path: Path) -> None:
    world = np.eye(4)
    world[:3, :3] = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix() * (0.8, 1.1, 3.0)
    world[:3, 3] = (5, -7, 11)
    write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16), world)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    lps = np.array(image.TransformContinuousIndexToPhysicalPoint((2.0, 3.0, 4.0)))
    np.testing.assert_allclose(lps * (-1, -1, 1), (world @ (2, 3, 4, 1))[:3], atol=1e-4)


def test_scaled_files_are_read_in_real_units(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2.0, -1000.0)
    nibabel.save(image, tmp_path / "a.nii")
    raw = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").voxels, raw)


def test_several_volumes_in_one_file_are_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4, 3), dtype=np.float32), np.eye(4))
    with pytest.raises(ValueError, match="one 3D image"):
        read_nifti(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("world", [np.diag([1.0, 1.0, 0.0, 1.0]), np.full((4, 4), np.nan), np.eye(3)])
def test_world_matrix_that_leads_nowhere_is_refused(world: np.ndarray) -> None:
    with pytest.raises(ValueError, match="world matrix"):
        Volume(torch.zeros(1, 2, 2, 2), world)


def test_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Volume(torch.zeros(1, 0, 2, 2), np.eye(4))


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0), ("unknown", 1.0)])
def test_matrices_in_other_units_of_length_are_read_in_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    world = np.diag([1.5, 2.0, 3.0, 1.0])
    world[:3, 3] = (-4, 5, 6)
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.diag([factor, factor, factor, 1.0]) @ world)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").world, world, rtol=1e-6)


def test_a_file_that_does_not_tell_left_from_right_is_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.float32), np.eye(4))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(ValueError, match="left cannot be told from right"):
        read_nifti(tmp_path / "a.nii")
    nibabel.save(nibabel.AnalyzeImage(np.zeros((2, 3, 4), np.float32), np.eye(4)), tmp_path / "b.img")
    with pytest.raises(ValueError, match="left cannot be told from right"):
        read_nifti(tmp_path / "b.img")


@pytest.mark.parametrize(
    ("voxels", "said"),
    [
        (np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours"),
        (np.zeros((2, 3, 4), dtype=np.complex64), "complex numbers"),
    ],
)
def test_voxels_of_several_numbers_are_refused(tmp_path: Path, voxels: np.ndarray, said: str) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match=said):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", ["empty", "text", "cut off", "cut off, compressed", "negative size", "size too large"])
def test_a_broken_file_is_refused_as_such(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.nii.gz" if "compressed" in kind else "a.nii")
    write_nifti(path, np.random.default_rng(0).random((8, 9, 10)).astype(np.float32), np.eye(4))
    content = bytearray(path.read_bytes())
    if "size" in kind:
        content[42:44] = (-3 if "negative" in kind else 3000).to_bytes(2, "little", signed=True)
    path.write_bytes(
        {"empty": b"", "text": b"no image"}.get(kind, content[: len(content) // 2 if "cut" in kind else None])
    )
    with pytest.raises((ValueError, OSError)):
        read_nifti(path)
