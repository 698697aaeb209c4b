"""Volumes are laid on each other for the model, and what it found is put back into their own geometry."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from vp_model.outcome import DerivedVolume, InputVolume, Mask, Measurement, ModelIdentity, Outcome, Transcript
from vp_model.volume import Volume
from vp_node.compute.alignment import Aligned, align, bring_back
from vp_node.config import AlignmentSection
from vp_node.studies.model import ChosenVolume, SourceVolume

SHAPE = (56, 64, 44)
SETTINGS = AlignmentSection(finest_mm=3.0)


def head_world() -> NDArray[np.float64]:
    world = np.diag([3.2, 3.2, 4.0, 1.0])
    world[:3, 3] = -0.5 * np.diag(world)[:3] * (np.array(SHAPE) - 1)
    return world


def head(moved: NDArray[np.float64], world: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    """A head of ellipsoids, as a scanner with this world sees it when the patient has moved (RAS mm → RAS mm)."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"), -1)
    points = index @ world[:3, :3].T + world[:3, 3]
    back = np.linalg.inv(moved)
    x, y, z = np.moveaxis(points @ back[:3, :3].T + back[:3, 3], -1, 0)
    voxels = np.zeros(SHAPE, np.float32)
    voxels[(x / 72) ** 2 + (y / 92) ** 2 + (z / 78) ** 2 < 1] = 300
    voxels[(x / 64) ** 2 + (y / 84) ** 2 + (z / 70) ** 2 < 1] = 700
    for side in (-1, 1):
        voxels[((x - side * 14) / 9) ** 2 + ((y - 4) / 34) ** 2 + ((z - 12) / 12) ** 2 < 1] = 150
    voxels[((x + 26) / 13) ** 2 + ((y - 38) / 11) ** 2 + ((z - 30) / 15) ** 2 < 1] = 1100
    voxels[(x / 20) ** 2 + ((y + 58) / 17) ** 2 + ((z + 36) / 16) ** 2 < 1] = 950
    noise = np.random.default_rng(seed).normal(0, 15, SHAPE).astype(np.float32)
    return np.asarray(gaussian_filter(voxels, 0.7) + noise, dtype=np.float32)


def motion(degrees: float, mm: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * np.array([0.4, 0.5, 0.77])).as_matrix()
    matrix[:3, 3] = mm
    return matrix


def scan(
    name: str, session: int, moved: NDArray[np.float64], frame: str, kind: str = "T1"
) -> tuple[Volume, ChosenVolume]:
    world = head_world()
    voxels = head(moved, world, seed=len(name) + session)
    visit = date(2023 + session, 1, 1)
    volume = Volume(torch.from_numpy(voxels)[None], world, name=name, kind=kind, visit=visit, session=session)
    source = SourceVolume(
        name, "p", f"1.2.{session}", "1.2.3", 1, "", frame, "MR", kind, "unknown", (), SHAPE, world, (), visit
    )
    return volume, ChosenVolume(name, session, source)


def aligned(*scans: tuple[Volume, ChosenVolume], settings: AlignmentSection = SETTINGS) -> Aligned:
    volumes, chosen = zip(*scans, strict=True)
    return align(volumes, chosen, settings, 1, lambda _: None)


def test_an_earlier_session_is_laid_on_the_latest_which_stays_where_it_is() -> None:
    moved = motion(7, (6.0, -4.0, 5.0))
    found = aligned(scan("v1", 0, moved, "a"), scan("v2", 1, np.eye(4), "b"))
    earlier, latest = found.alignments
    assert (earlier.method, earlier.reference, latest.method) == ("rigid", "v2", "reference")
    np.testing.assert_array_equal(found.volumes[1].world, head_world())
    corners = np.array([[x, y, z] for x in (-60, 60) for y in (-80, 80) for z in (-60, 60)], float)
    there = corners @ moved[:3, :3].T + moved[:3, 3]
    again = there @ earlier.world_transform[:3, :3].T + earlier.world_transform[:3, 3]
    assert np.linalg.norm(again - corners, axis=1).mean() < 3.2  # a voxel; real scans are held to 0.5 mm elsewhere
    assert earlier.motion_mm == pytest.approx(np.linalg.norm(moved[:3, 3]), abs=2.0)
    assert earlier.overlap > 0.9


def test_within_one_frame_of_reference_the_scanners_coordinates_hold_unless_the_patient_moved() -> None:
    still = aligned(scan("v1", 0, np.eye(4), "a"), scan("v2", 0, np.eye(4), "a", kind="FLAIR"))
    assert [item.method for item in still.alignments] == ["reference", "header"]
    np.testing.assert_array_equal(still.volumes[1].world, head_world())
    restless = aligned(scan("v1", 0, np.eye(4), "a"), scan("v2", 0, motion(4, (3.0, 5.0, 2.0)), "a", kind="FLAIR"))
    assert restless.alignments[1].method == "rigid"
    assert "moved" in restless.alignments[1].note


def test_maps_lie_as_their_session_does() -> None:
    moved = motion(5, (0.0, 8.0, 0.0))
    found = aligned(scan("v1", 0, moved, "a"), scan("v2", 0, moved, "a", kind="ADC"), scan("v3", 1, np.eye(4), "b"))
    session, adc, _ = found.alignments
    assert adc.method == "header"
    np.testing.assert_allclose(adc.world_transform, session.world_transform)


def test_one_volume_and_what_is_switched_off_are_left_alone() -> None:
    one = aligned(scan("v1", 0, np.eye(4), "a"))
    assert one.alignments == ()
    off = AlignmentSection(within_sessions=False, across_sessions=False)
    assert aligned(scan("v1", 0, np.eye(4), "a"), scan("v2", 1, np.eye(4), "b"), settings=off).alignments == ()


def test_what_cannot_be_registered_keeps_its_place_and_the_result_says_so() -> None:
    volume, chosen = scan("v1", 0, np.eye(4), "a")
    flat = Volume(torch.zeros((1, *SHAPE)), volume.world, name="v1", visit=volume.visit, session=0)
    other, other_chosen = scan("v2", 1, np.eye(4), "b")
    found = align([flat, other], [chosen, other_chosen], SETTINGS, 1, lambda _: None)
    assert found.alignments[0].method == "failed"
    np.testing.assert_array_equal(found.volumes[0].world, volume.world)
    outcome = bring_back(answer(found), [flat, other], found)
    assert any("v1 could not be laid on v2" in warning for warning in outcome.warnings)


def answer(found: Aligned) -> Outcome:
    """What a model might make of moved volumes: everything lies in the moved world."""
    first = found.volumes[0]
    inside = first.world @ np.array([20.0, 30.0, 15.0, 1.0])
    point = (float(inside[0]), float(inside[1]), float(inside[2]))
    return Outcome(
        "answered",
        Transcript("", (InputVolume("v1", "T1", "2023-01-01", 0), InputVolume("v2", "T1", "2024-01-01", 1))),
        ModelIdentity("m", "1", "ab"),
        masks=(Mask("mask-1", "lesion", "", "2023-01-01", 0, "v1", "lesion", np.ones(SHAPE, bool), first.world),),
        measurements=(
            Measurement("center of mass", 0.0, "mm", "lesion", "", "2023-01-01", "lesion", ("mask-1",), (), (point,)),
            Measurement("center of mass y", point[1], "mm", "lesion", "", "2023-01-01", "", ("mask-1",), (), (point,)),
        ),
        derived=(DerivedVolume("crop-1", "crop", "v1", "", np.ones((4, 4, 4), np.float32), first.world),),
    )


def test_masks_images_and_points_come_back_into_the_volumes_own_geometry() -> None:
    scans = scan("v1", 0, motion(7, (6.0, -4.0, 5.0)), "a"), scan("v2", 1, np.eye(4), "b")
    found = aligned(*scans)
    assert not np.allclose(found.volumes[0].world, head_world(), atol=1.0)
    outcome = bring_back(answer(found), [volume for volume, _ in scans], found)
    own = head_world() @ np.array([20.0, 30.0, 15.0, 1.0])
    np.testing.assert_array_equal(outcome.masks[0].world, head_world())
    np.testing.assert_allclose(outcome.derived[0].world, head_world(), atol=1e-9)
    np.testing.assert_allclose(outcome.measurements[0].points[0], own[:3], atol=1e-9)
    assert outcome.measurements[1].value == pytest.approx(own[1])
    assert outcome.alignments == found.alignments
