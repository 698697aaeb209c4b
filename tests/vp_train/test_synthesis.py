"""Synthetic images: sides, targets, geometry, repeatability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vp_train.heads import head
from vp_train.datasets.labels import load_labels
from vp_train.synthesis.artefacts import average, blur, corrupted
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.contrast import draw_contrast, load_contrasts
from vp_train.synthesis.scene import Image, Scene, corrupt, draw_grid, draw_scene, render
from vp_train.synthesis.space import Deformation, draw_deformation, grid_axes, look_up, smooth_field

LABELS = load_labels()


def plain_scene(mirrored: bool, removed: bool = False) -> Scene:
    """The made-up head as it is, seen directly or in a mirror."""
    chance = Chance.seeded(0)
    scene = draw_scene(head(), LABELS, chance, strength=0.0)
    deformation = replace(scene.deformation, mirrored=mirrored)
    gone = torch.zeros(len(LABELS.names), dtype=torch.bool)
    gone[LABELS.structures + 1 : LABELS.lesion] = removed
    return Scene(scene.subject, deformation, None, gone)


def grid(spacing: float = 1.0, size: int = 60) -> tuple[tuple[int, int, int], np.ndarray]:
    count = round(size / spacing)
    world = np.diag([spacing, spacing, spacing, 1.0])
    world[:3, 3] = -(count - 1) / 2 * spacing
    return (count, count, count), world


def centre_x(image: Image, name: str) -> float:
    """Mean RAS x of a target, in mm."""
    share = image.targets[LABELS.targets.index(name)]
    x = torch.arange(share.shape[0]) * image.placed.world[0, 0] + image.placed.world[0, 3]
    return float((share.sum(dim=(1, 2)) * x).sum() / share.sum())


def size_of(image: Image, name: str) -> float:
    return float(image.targets[LABELS.targets.index(name)].sum())


@pytest.mark.parametrize("mirrored", [False, True])
def test_left_is_left_also_in_the_mirror(mirrored: bool) -> None:
    """In a mirrored head the anatomy changes sides, and the names go with the place: left stays at low RAS x."""
    image = render(plain_scene(mirrored), LABELS, *grid(), Chance.seeded(1), "T1")
    assert centre_x(image, "left hippocampus") < -5
    assert centre_x(image, "right hippocampus") > 5
    larger, smaller = ("right", "left") if mirrored else ("left", "right")
    assert size_of(image, f"{larger} hippocampus") == pytest.approx(12 * 20 * 16)
    assert size_of(image, f"{smaller} hippocampus") == pytest.approx(6 * 10 * 10)


def test_targets_keep_their_volume_at_coarser_spacing() -> None:
    fine = render(plain_scene(False), LABELS, *grid(1.0), Chance.seeded(1))
    coarse = render(plain_scene(False), LABELS, *grid(4.0), Chance.seeded(1))
    for name in ("left hippocampus", "left cerebral white matter", "brain"):
        assert size_of(coarse, name) * 64 == pytest.approx(size_of(fine, name), rel=0.1)


def test_structures_share_voxels_without_exceeding_them() -> None:
    image = render(plain_scene(False), LABELS, *grid(4.0), Chance.seeded(1))
    total = image.targets[: LABELS.structures].sum(dim=0)
    assert float(total.max()) <= 1.0 + 1e-5
    torch.testing.assert_close(image.targets[LABELS.targets.index("brain")], total)


def test_what_is_removed_is_dark() -> None:
    image = render(plain_scene(False, removed=True), LABELS, *grid(), Chance.seeded(3), "T1").placed.features[0, 0]
    assert float(image[8, 30, 30]) < 0.15 < float(image[20, 40, 40])


def test_lesions_lie_in_white_matter_and_shine_on_flair() -> None:
    chance = Chance.seeded(5)
    scene = draw_scene(head(), LABELS, chance, strength=0.0)
    while scene.lesions is None:
        scene = draw_scene(head(), LABELS, chance, strength=0.0)
    scene = replace(scene, lesions=replace(scene.lesions, threshold=0.9))
    image = render(scene, LABELS, *grid(), chance, "FLAIR")
    lesion = image.targets[-1] > 0.9
    white = (image.targets[0] + image.targets[1]) > 0.9
    assert lesion.any()
    assert bool((~lesion | white).all())
    voxels = image.placed.features[0, 0]
    assert float(voxels[lesion].mean()) > 1.3 * float(voxels[white & ~lesion].mean())


def test_the_same_seed_gives_the_same_image() -> None:
    images = []
    for _ in range(2):
        chance = Chance.seeded(7)
        scene = draw_scene(head(), LABELS, chance)
        images.append(render(scene, LABELS, *draw_grid(scene.subject, (3, 3, 6), None, chance), chance))
    torch.testing.assert_close(images[0].placed.features, images[1].placed.features, rtol=0, atol=0)
    torch.testing.assert_close(images[0].targets, images[1].targets, rtol=0, atol=0)


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.0, 2.0, 5.0), (3.0, 6.0, 3.0)])
def test_image_has_the_asked_geometry_and_intensities_from_0_to_1(spacing: tuple[float, float, float]) -> None:
    chance = Chance.seeded(2)
    scene = draw_scene(head(), LABELS, chance)
    image = render(scene, LABELS, *draw_grid(scene.subject, spacing, 48.0, chance), chance)
    np.testing.assert_allclose(np.diag(image.placed.world)[:3], spacing)
    assert image.targets.shape == (len(LABELS.targets), *image.placed.shape)
    assert float(image.placed.features.min()) >= 0.0
    assert float(image.placed.features.max()) <= 1.0


def test_two_images_of_a_scene_show_the_same_anatomy_at_the_same_place() -> None:
    chance = Chance.seeded(9)
    scene = draw_scene(head(), LABELS, chance)
    images = [
        render(scene, LABELS, *draw_grid(scene.subject, spacing, None, chance), chance)
        for spacing in ((2.0, 2.0, 2.0), (3.0, 3.0, 6.0))
    ]
    for name in ("left hippocampus", "right hippocampus"):
        assert centre_x(images[0], name) == pytest.approx(centre_x(images[1], name), abs=1.0)


def test_undeformed_points_find_their_own_label() -> None:
    subject = head()
    deformation = draw_deformation(subject, Chance.seeded(0), strength=0.0)
    found = look_up(subject, replace(deformation, mirrored=False).voxels(grid_axes(*grid(), (1, 1, 1))))
    np.testing.assert_array_equal(found, subject.labels)


def test_displacement_is_smooth_and_within_its_strength() -> None:
    axes = grid_axes(*grid(), (1, 1, 1))
    fields = (smooth_field(Chance.seeded(4), 24.0, 3), smooth_field(Chance.seeded(5), 48.0, 3))
    still = Deformation(torch.eye(3), torch.zeros(3), fields, 0.0, False)
    moved = replace(still, strength_mm=2.0)
    shift = torch.stack(moved.voxels(axes)) - torch.stack(still.voxels(axes))
    assert 0.5 < float(shift.std()) < 4.0
    assert float((shift[:, 1:] - shift[:, :-1]).abs().max()) < 1.0


def test_both_sides_of_a_structure_look_alike() -> None:
    for seed in range(4):
        contrast = draw_contrast(LABELS, Chance.seeded(seed))
        torch.testing.assert_close(contrast.means, contrast.means[LABELS.swap])


def test_every_label_has_a_tissue_in_every_contrast() -> None:
    table = load_contrasts()
    assert len(table.tissue) == len(LABELS.names)
    assert {len(means) for means in table.means.values()} == {17}
    assert sum(table.shares.values()) == pytest.approx(1.0)


def test_blur_keeps_the_mean_and_spreads_a_point() -> None:
    image = torch.zeros(15, 15, 15)
    image[7, 7, 7] = 1.0
    smoothed = blur(image, 1.0)
    assert float(smoothed.sum()) == pytest.approx(1.0, abs=0.02)
    assert float(smoothed[7, 7, 7]) == pytest.approx((2 * np.pi) ** -1.5, rel=0.1)


def test_slice_is_the_mean_of_what_it_covers() -> None:
    image = torch.arange(24.0).view(2, 3, 4)
    torch.testing.assert_close(average(image, (1, 1, 4))[..., 0], image.mean(dim=2))


def test_corrupted_image_keeps_grid_and_targets_but_shows_nothing_of_them() -> None:
    image = render(plain_scene(False), LABELS, *grid(2.0), Chance.seeded(1), "T1")
    spoiled = corrupt(image, Chance.seeded(2))
    assert spoiled.placed.shape == image.placed.shape
    assert spoiled.targets is image.targets
    related = np.corrcoef(spoiled.placed.features.flatten(), image.placed.features.flatten())[0, 1]
    assert abs(related) < 0.4
    assert float(corrupted((20, 20, 20), Chance.seeded(3)).std()) > 0.05
