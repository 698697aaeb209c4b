"""Sparsification of studies, geometries of scans, and grids that lie obliquely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vp_train.lesion_heads import head_and_anatomy
from vp_model.geometry import Shape, World, corners, spacing
from vp_train.datasets.labels import load_labels
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import along_axes, draw_tilt, places_in, rigid, voxels_on
from vp_train.synthesis.planning import StudySettings, plan_study
from vp_train.synthesis.scan_geometries import ORIENTATIONS, load_scan_geometries
from vp_train.synthesis.sequences import load_sequences
from vp_train.synthesis.space import draw_deformation, smooth_field
from vp_train.synthesis.sparsify import SEPARATION_MM, SMALLEST, Grid, cropped, separated, sparsify
from vp_train.synthesis.study import render_study
from vp_train.tasks.scene import KINDS

LABELS = load_labels()
SUBJECT, ANATOMY = head_and_anatomy()
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RENDERED = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def box_presence(low: NDArray[np.float64], high: NDArray[np.float64]):  # type: ignore[no-untyped-def]
    """A region that fills a box of the world (mm), on grids along its axes."""

    def measure(shape: Shape, world: World) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        share = np.ones((), dtype=np.float64)
        for axis in range(3):
            step, first = world[axis, axis], world[axis, 3]
            edges = first + (np.arange(shape[axis] + 1) - 0.5) * step
            overlap = np.clip(np.minimum(edges[1:], high[axis]) - np.maximum(edges[:-1], low[axis]), 0, None) / step
            share = share[..., None] * overlap
        where = np.argwhere(share > 0)
        return share[tuple(where.T)].astype(np.float32), where

    return measure


@st.composite
def grids_with_targets(draw: st.DrawFn) -> Grid:
    shape = draw(st.integers(2, 60)), draw(st.integers(2, 60)), draw(st.integers(2, 60))
    steps = [draw(st.floats(0.8, 3.0)) for _ in range(3)]
    world = np.diag([*steps, 1.0])
    world[:3, 3] = [draw(st.floats(-50, 50)) for _ in range(3)]
    ends = world[:3, 3] + np.diag(world)[:3] * (np.asarray(shape) - 1)
    regions = []
    for _ in range(draw(st.integers(1, 2))):
        centre = world[:3, 3] + (ends - world[:3, 3]) * [draw(st.floats(0, 1)) for _ in range(3)]
        half = np.asarray([draw(st.floats(0.3, 30)) for _ in range(3)])
        regions.append(box_presence(centre - half, centre + half))
    return Grid(shape, world, draw(st.integers(0, 2)), draw(st.integers(1, 2)), tuple(regions))


def strongest(grid: Grid, region: int) -> float:
    shares, _ = grid.kept[region](grid.shape, grid.world)
    return float(shares.max()) if len(shares) else 0.0


@pytest.mark.requirement("Sparsification never loses the target")
@QUICK
@given(st.lists(grids_with_targets(), min_size=1, max_size=4), st.integers(2000, 60000), st.integers(0, 2**31))
def test_sparsification_never_loses_a_target(grids: list[Grid], budget: int, seed: int) -> None:
    for before, after in zip(grids, sparsify(grids, budget, 1.0, Chance.seeded(seed)), strict=True):
        for region in range(len(before.kept)):
            assert strongest(after, region) >= min(0.5, strongest(before, region)) - 1e-5


@pytest.mark.requirement("Sparsification goes on until the voxels fit")
@QUICK
@given(st.lists(grids_with_targets(), min_size=1, max_size=4), st.integers(0, 2**31))
def test_a_budget_is_kept_unless_what_is_asked_for_needs_more(grids: list[Grid], seed: int) -> None:
    one_region = [replace(grid, kept=grid.kept[:1]) for grid in grids]
    least = sum(grid.images * SMALLEST**3 for grid in grids)
    budget = max(8 * least, sum(grid.voxels for grid in grids) // 10)
    assert sum(grid.voxels for grid in sparsify(one_region, budget, 0.5, Chance.seeded(seed))) <= budget


@QUICK
@example(Grid((2, 2, 2), np.eye(4), 0), 1)
@given(grids_with_targets(), st.integers(0, 2**31))
def test_slices_move_apart_within_the_paper_s_range_and_the_field_of_view_stays(grid: Grid, seed: int) -> None:
    sparser = separated(grid, Chance.seeded(seed))
    before, after = spacing(grid.world), spacing(sparser.world)
    others = [axis for axis in range(3) if axis != grid.slice_axis]
    np.testing.assert_allclose(after[others], before[others])
    if sparser.shape != grid.shape:
        assert max(SEPARATION_MM[0], before[grid.slice_axis]) <= after[grid.slice_axis] <= SEPARATION_MM[1]
        np.testing.assert_allclose(
            corners(sparser.shape, sparser.world).mean(axis=0), corners(grid.shape, grid.world).mean(axis=0), atol=1e-9
        )
        extent = np.asarray(grid.shape) * before, np.asarray(sparser.shape) * after
        thinner = sparser.shape[grid.slice_axis] == 1  # than half a slice: one slice is left, however thick it is
        assert thinner or abs(extent[1] - extent[0]).max() <= after[grid.slice_axis] / 2 + 1e-6


@QUICK
@given(grids_with_targets(), st.integers(0, 2**31))
def test_a_crop_is_a_part_of_the_same_lattice(grid: Grid, seed: int) -> None:
    smaller = cropped(grid, Chance.seeded(seed))
    start = np.linalg.solve(grid.world, smaller.world)[:3, 3]
    np.testing.assert_allclose(start, np.rint(start), atol=1e-6)
    assert (start > -1e-6).all()
    assert (start + smaller.shape <= np.asarray(grid.shape) + 1e-6).all()


def test_nothing_is_made_sparser_where_it_fits_and_chance_says_no() -> None:
    grid = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.0, 1.0]), 2)
    assert sparsify([grid], 64_000, 0.0, Chance.seeded(0)) == [grid]


def test_half_of_the_studies_are_made_sparser() -> None:
    grid = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.0, 1.0]), 2)
    chance = Chance.seeded(0)
    sparser = sum(sparsify([grid], 64_000, 0.5, chance) != [grid] for _ in range(400))
    assert 160 < sparser < 240


@pytest.mark.requirement("A rendered study keeps its target and its budget of voxels")
@RENDERED
@given(
    st.integers(0, 10_000),
    st.sampled_from(["left thalamus", "right putamen", "third ventricle", "brain"]),
    st.integers(20_000, 200_000),
)
def test_a_rendered_study_keeps_what_is_asked_for_within_its_budget(seed: int, region: str, budget: int) -> None:
    wide = StudySettings(finest_mm=2.5, sparsified=0.0, budget_voxels=10**9)
    planned = plan_study(SUBJECT, LABELS, Chance.seeded(seed), wide)
    whole = render_study(planned, (region,))
    sparse = render_study(replace(planned, settings=replace(wide, sparsified=1.0, budget_voxels=budget)), (region,))
    assert sum(image.placed.features.numel() for image in sparse.images) <= budget
    for volume in range(len(whole.images)):
        before, after = (float(drawn.target(volume, region).max()) for drawn in (whole, sparse))
        assert after >= min(0.5, before) - 1e-5


def test_a_lesion_that_is_asked_for_is_spared() -> None:
    kinds = ("metastasis", "active white matter lesion")
    for seed in range(4):
        drawn = StudySettings(
            finest_mm=2.5,
            sparsified=1.0,
            budget_voxels=40_000,
            lesioned=1.0,
            kinds=kinds,
            several=0.0,
            protocols=("research",),
        )
        planned = plan_study(SUBJECT, LABELS, Chance.seeded(seed), drawn, ANATOMY)
        whole = render_study(replace(planned, settings=replace(drawn, sparsified=0.0, budget_voxels=10**9)))
        for lesion in planned.scene.lesions[:2]:
            sparse = render_study(planned, (lesion,))
            for volume in range(len(sparse.images)):
                before, after = (float(one.lesion_target(volume, [lesion]).max()) for one in (whole, sparse))
                assert after >= min(0.5, before) - 1e-5


def test_scans_have_the_spacings_of_table_2() -> None:
    table = load_scan_geometries()
    assert len(table.rows) == 9
    chance = Chance.seeded(1)
    for row in table.rows.values():
        for orientation in ORIENTATIONS:
            drawn = np.array([row.draw(chance, orientation) for _ in range(20)])
            slices = drawn[:, ORIENTATIONS.index(orientation)]
            plane = np.delete(drawn, ORIENTATIONS.index(orientation), axis=1)
            assert (plane[:, 0] == plane[:, 1]).all()
            assert row.in_plane[0] <= plane.min() <= plane.max() <= row.in_plane[1]
            if row.slices is None:
                assert (slices == plane[:, 0]).all()
            else:
                assert row.slices[0] <= slices.min() <= slices.max() <= row.slices[1]
    field = np.array([table.draw_field_of_view(chance) for _ in range(50)])
    assert (abs(field - [155, 190, 165]) <= 15).all()


def test_protocols_are_of_known_sequences_and_kinds() -> None:
    table = load_sequences()
    assert {sequence.kind for sequence in table.sequences.values()} <= set(KINDS)
    for protocol in table.protocols:
        for alternatives, probability in protocol.steps:
            assert 0 < probability <= 1
            for option in alternatives:
                assert set(option) <= set(table.sequences)
    with pytest.raises(ValueError, match="breakfast"):
        table.limited_to(["breakfast"])


def test_an_adc_map_is_never_acquired_without_its_diffusion_weighted_image() -> None:
    table, chance = load_sequences(), Chance.seeded(0)
    for _ in range(200):
        names = table.draw_protocol(chance).draw(chance)
        assert ("ADC" in names) == ("DWI" in names)


def test_a_grid_along_the_axes_and_the_same_grid_as_an_oblique_one_see_the_same_labels() -> None:
    deformation = draw_deformation(SUBJECT, Chance.seeded(5))
    world = np.diag([2.0, 1.5, 3.0, 1.0])
    world[:3, 3] = -35.0
    separable = torch.stack(voxels_on(deformation, (30, 40, 20), world, (1, 1, 2), SUBJECT.labels.device))
    oblique = np.array(world)
    oblique[0, 1] = 1e-5
    assert along_axes(world)
    assert not along_axes(oblique)
    general = torch.stack(voxels_on(deformation, (30, 40, 20), oblique, (1, 1, 2), SUBJECT.labels.device))
    assert float((separable - general).abs().max()) < 5e-3


def test_a_field_has_the_same_values_by_axes_and_by_points() -> None:
    field = smooth_field(Chance.seeded(2), 30.0, 3)
    axes = (torch.linspace(-150, 150, 9), torch.linspace(-80, 90, 7), torch.linspace(-20, 139, 5))
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    torch.testing.assert_close(field.at(axes), field.at_points(points), atol=1e-4, rtol=1e-4)


def test_places_are_positions_in_the_label_map_within_its_border() -> None:
    index = torch.tensor([[-3.0, 2.4, 500.0], [0.0, 7.6, 1.0], [1.0, 1.0, 1.0]])[:, :, None, None]
    places = places_in(SUBJECT, list(index))[:, 0, 0]
    w, h, d = SUBJECT.labels.shape
    expected = [0 * h * d + 0 * d + 1, 2 * h * d + 8 * d + 1, (w - 1) * h * d + 1 * d + 1]
    assert places.tolist() == expected


def test_tilts_are_rotations_and_gantry_tilts_shear() -> None:
    tilts = load_sequences().tilts
    chance = Chance.seeded(3)
    turned = sheared = 0
    for _ in range(200):
        matrix = draw_tilt(tilts, chance, computed_tomography=True)[:3, :3]
        assert np.linalg.det(matrix) == pytest.approx(1.0)
        orthogonal = bool(np.abs(matrix.T @ matrix - np.eye(3)).max() < 1e-9)
        sheared += not orthogonal
        turned += orthogonal and not np.allclose(matrix, np.eye(3))
    assert 70 < turned < 130
    assert 5 < sheared < 40
    np.testing.assert_allclose(rigid((0, 0, 90), (1, 2, 3))[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-6)
