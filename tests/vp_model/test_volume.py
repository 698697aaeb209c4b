"""Volumes and their NIfTI files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vp_model.volume import Volume, read_nifti, write_nifti


def test_nifti_round_trip_changes_neither_voxels_nor_world(tmp_path: Path) -> None:
    world = np.array([[0.9, 0.1, 0.3, -80.0], [-0.1, 0.8, 0.5, 20.0], [0.0, -0.2, 3.0, 7.0], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    write_nifti(tmp_path / "a.nii.gz", voxels, world)
    volume = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.world, world, atol=1e-5)
    assert volume.shape == (5, 6, 4)


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
