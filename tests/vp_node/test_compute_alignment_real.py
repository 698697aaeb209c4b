"""Registration of real scans against transforms that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from vp_model.volume import Volume
from vp_node.compute.alignment import align
from vp_node.config import AlignmentSection
from vp_node.studies.headers import read_header
from vp_node.studies.model import ChosenVolume, SourceVolume
from vp_node.studies.pixels import load_voxels
from vp_node.studies.understanding import understand

HEAD = np.stack(
    np.meshgrid(np.linspace(-60, 60, 5), np.linspace(-80, 80, 5), np.linspace(-30, 80, 5)), axis=-1
).reshape(-1, 3)
"""RAS mm: points all over the head."""


def real_scan(shared_data: Path, series: str) -> tuple[SourceVolume, NDArray[np.float32]]:
    folder = shared_data / "dicom" / "ms12_longitudinal" / "dicom" / series
    (volume,) = understand([read_header(path) for path in sorted(folder.glob("*.dcm"))]).volumes
    return volume, load_voxels(volume)


def motion(degrees: tuple[float, float, float], mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """RAS mm → RAS mm, about the middle of the head."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = mm
    return matrix


def scanned_again(
    volume: SourceVolume, voxels: NDArray[np.float32], moved: NDArray[np.float64], seed: int
) -> tuple[SourceVolume, NDArray[np.float32]]:
    """The same head as another scan: moved, on another grid, brighter to one side, with other noise."""
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", (3, -4, 2), degrees=True).as_matrix()
    spacing = np.array([0.95, 0.95, 2.4])
    shape = (220, 250, 60)
    middle = volume.world @ np.array([*(np.array(volume.shape) - 1) / 2, 1.0])
    world = turned @ np.diag([*(np.sign(np.diag(volume.world)[:3]) * spacing), 1.0])
    world[:3, 3] = (moved @ middle)[:3] - world[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.indices(shape).reshape(3, -1)
    there = np.linalg.inv(volume.world) @ np.linalg.inv(moved) @ world
    seen = map_coordinates(voxels, there[:3, :3] @ index + there[:3, 3:], order=1).reshape(shape)
    bias = np.linspace(0.85, 1.15, shape[0])[:, None, None]
    noise = np.random.default_rng(seed).normal(0, 0.02 * float(voxels.max()), shape)
    found = np.maximum(0, 1.3 * bias * seen + noise).astype(np.float32)
    source = replace(volume, shape=shape, world=world, frames=(), frame_of_reference_uid="other", identifier="again")
    return source, found


def error_mm(found: NDArray[np.float64], moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far points of the moved head come to lie from where they were."""
    there = HEAD @ moved[:3, :3].T + moved[:3, 3]
    return np.asarray(np.linalg.norm(there @ found[:3, :3].T + found[:3, 3] - HEAD, axis=1))


@pytest.mark.requirement("registration error on perturbed real scans is under 0.5 mm")
@pytest.mark.parametrize(
    ("series", "moved"),
    [
        ("study1_T1W", motion((4, -6, 9), (7.0, -5.0, 11.0))),
        ("study1_FLAIR", motion((-8, 3, -5), (-12.0, 6.0, 4.0))),
    ],
)
def test_a_real_scan_that_was_moved_is_laid_back_within_half_a_millimetre(
    shared_data: Path, series: str, moved: NDArray[np.float64]
) -> None:
    fixed, fixed_voxels = real_scan(shared_data, series)
    again, again_voxels = scanned_again(fixed, fixed_voxels, moved, 1)
    chosen = (ChosenVolume("v1", 0, again), ChosenVolume("v2", 1, fixed))
    volumes = [
        Volume(torch.from_numpy(np.ascontiguousarray(voxels))[None], item.volume.world, name=item.name, session=number)
        for number, (item, voxels) in enumerate(zip(chosen, (again_voxels, fixed_voxels), strict=True))
    ]
    found = align(volumes, chosen, AlignmentSection(), 1, lambda _: None)
    alignment = found.alignments[0]
    errors = error_mm(alignment.world_transform, moved)
    assert (alignment.method, alignment.reference) == ("rigid", "v2")
    assert errors.mean() < 0.5 and errors.max() < 1.0
    assert alignment.overlap > 0.9
    assert alignment.metric_after > alignment.metric_before
    # Nothing but the matrix moved.
    assert found.volumes[0].features is volumes[0].features
    np.testing.assert_array_equal(found.volumes[1].world, fixed.world)


@pytest.mark.requirement("registration within a session: sequences of real scans that lie where their headers say")
def test_sequences_of_one_visit_keep_their_place_and_a_moved_one_finds_it(shared_data: Path) -> None:
    t1, t1_voxels = real_scan(shared_data, "study1_T1W")
    flair, flair_voxels = real_scan(shared_data, "study1_FLAIR")
    moved = motion((2, 3, -4), (4.0, -3.0, 5.0))

    def laid(flair_world: NDArray[np.float64], frame: str) -> tuple[str, NDArray[np.float64]]:
        chosen = (
            ChosenVolume("v1", 0, replace(t1, frame_of_reference_uid="here")),
            ChosenVolume("v2", 0, replace(flair, world=flair_world, frame_of_reference_uid=frame)),
        )
        volumes = [
            Volume(torch.from_numpy(np.ascontiguousarray(voxels))[None], item.volume.world, name=item.name)
            for item, voxels in zip(chosen, (t1_voxels, flair_voxels), strict=True)
        ]
        alignment = align(volumes, chosen, AlignmentSection(), 1, lambda _: None).alignments[1]
        return alignment.method, np.asarray(alignment.world_transform)

    method, still = laid(flair.world, "elsewhere")
    assert method == "rigid"
    _, back = laid(moved @ flair.world, "elsewhere")
    # What the two sequences truly differ by is the same with and without the known motion.
    assert error_mm(np.linalg.inv(still) @ back, moved).mean() < 0.5
