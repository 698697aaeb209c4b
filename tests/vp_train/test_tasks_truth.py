"""Target programs on regions run, and give what is computed here independently from the masks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.vp_train.truth import VOXEL_ML, extents, millilitres, parts
from tests.vp_train.truth_cases import cases, drawn, region, segmented, sessions, two, used, values

AXES = ("left-right", "anterior-posterior", "superior-inferior")
CHECKED = (
    "asymmetry change", "bright share", "brightness to surroundings", "center of mass", "diffusion restriction",
    "direction between", "distance between", "enhancement", "extreme intensity", "plane measure",
    "extent analysis", "extent change", "further statistics", "image cropping", "intensity analysis",
    "intensity change", "intensity comparison", "lesion count", "lesion share", "location", "relative volume analysis",
    "segmentation", "several changes", "signal intensity", "size summary", "skull stripping", "surface area",
    "tissue removal", "volume analysis", "volume at visit", "volume change", "volume comparison",
)  # fmt: skip
"""Tasks that a test of this file looks at."""


def test_every_task_that_is_drawn_has_a_check_here() -> None:
    assert set(drawn()) == set(CHECKED)


def test_segmentation_shows_the_masks_of_the_labels() -> None:
    for example, truth, outcome in cases("segmentation"):
        shown = {volume: np.zeros_like(truth.mask("brain")) for volume in used(example)}
        for mask in outcome.masks:
            shown[mask.volume] |= mask.voxels
        for volume in used(example):
            session = truth.session(volume)
            if "_all = segment" in example.program:
                expected = region(example, truth, session)
            else:
                expected = np.logical_or.reduce([truth.mask(name, session) for name in segmented(example)])
            assert np.array_equal(shown[volume], expected), example.program


def test_volumes_of_each_session_and_side_are_those_of_the_masks() -> None:
    for example, truth, outcome in cases("volume analysis"):
        wanted = []
        for session in sessions(example, truth):
            if "_all = segment" in example.program:
                wanted.append(millilitres(region(example, truth, session)))
                continue
            for variable in ("roi", "left", "right", "roi_1", "roi_2", "roi_3", "roi_4"):
                names = re.findall(rf'^{variable}(?:_left|_right)? = segment\("([^"]+)"', example.program, re.MULTILINE)
                wanted += [millilitres(truth.mask(name, session)) for name in names]
                if len(names) == 2:
                    wanted.append(millilitres(np.logical_or.reduce([truth.mask(name, session) for name in names])))
            if re.search("^left = ", example.program, re.MULTILINE):
                wanted.append(millilitres(region(example, truth, session)))
        assert sorted(values(outcome, "volume")) == pytest.approx(sorted(wanted)), example.program


def test_changes_of_volume_are_later_minus_earlier() -> None:
    for example, truth, outcome in cases("volume change"):
        first, last = sessions(example, truth)[0], sessions(example, truth)[-1]
        before, after = (millilitres(region(example, truth, session)) for session in (first, last))
        assert values(outcome, "volume") == pytest.approx([before, after])
        assert values(outcome, "volume change") == pytest.approx([after - before])
        if before:
            assert values(outcome, "relative volume change") == pytest.approx([100 * (after - before) / before])


def test_several_changes_are_those_of_each_region() -> None:
    for example, truth, outcome in cases("several changes"):
        first, last = sessions(example, truth)[0], sessions(example, truth)[-1]
        wanted = []
        for number in range(1, 4):
            names = re.findall(rf'roi_{number}(?:_left|_right)? = segment\("([^"]+)"', example.program)
            if names:
                before, after = (
                    millilitres(np.logical_or.reduce([truth.mask(name, session) for name in names]))
                    for session in (first, last)
                )
                wanted.append(after - before)
        assert values(outcome, "volume change") == pytest.approx(wanted)


def test_asymmetry_is_positive_where_the_left_is_larger() -> None:
    for task in ("volume comparison", "asymmetry change"):
        for example, truth, outcome in cases(task):
            if "asymmetry(" not in example.program:
                continue
            structure = segmented(example)[0].removeprefix("left ")
            wanted = []
            for session in sessions(example, truth):
                left, right = (millilitres(truth.mask(f"{side} {structure}", session)) for side in ("left", "right"))
                wanted.append(200 * (left - right) / (left + right))
            assert values(outcome, "volume asymmetry") == pytest.approx(wanted)


def test_ratios_and_percentages_of_volumes_are_those_of_the_masks() -> None:
    for task, name, one, other, factor in (
        ("volume comparison", "volume ratio", "first", "second", 1),
        ("relative volume analysis", "percent of region", "part", "whole", 100),
    ):
        for example, truth, outcome in cases(task):
            if "asymmetry(" in example.program:
                continue
            wanted = []
            for session in sessions(example, truth):
                first, second = two(example, truth, session, one, other)
                wanted.append(factor * millilitres(first) / millilitres(second))
            assert values(outcome, name) == pytest.approx(wanted), example.program


def test_extents_and_boxes_are_those_of_the_masks() -> None:
    for example, truth, outcome in cases("extent analysis"):
        for axis, label in enumerate(AXES):
            for name in (f"{label} extent", f"bounding box {label}"):
                if values(outcome, name):
                    wanted = [extents(region(example, truth, s)) for s in sessions(example, truth)]
                    assert values(outcome, name) == pytest.approx([size[axis] for size in wanted])


def test_the_longest_diameter_of_a_box_is_its_diagonal() -> None:
    for example, truth, outcome in cases("extent analysis"):
        if values(outcome, "longest diameter") and "white matter lesion" not in example.program:
            names = segmented(example)
            if len(names) == 1:
                wanted = [np.linalg.norm(extents(region(example, truth, s))) for s in sessions(example, truth)]
                assert values(outcome, "longest diameter") == pytest.approx(wanted)


def test_extent_changes_are_later_minus_earlier() -> None:
    for example, truth, outcome in cases("extent change"):
        compared = [
            region(example, truth, session) for session in (sessions(example, truth)[0], sessions(example, truth)[-1])
        ]
        if not all(one.any() for one in compared):  # what is not there has no extent that could change
            assert values(outcome, "extent change") == []
            continue
        for axis, label in enumerate(AXES):
            if values(outcome, f"{label} extent"):
                before, after = (extents(one)[axis] for one in compared)
                assert values(outcome, "extent change") == pytest.approx([after - before])


def test_centres_of_mass_are_the_mean_of_the_voxels_in_ras_mm() -> None:
    for example, truth, outcome in cases("center of mass"):
        wanted = []
        for session in sessions(example, truth):
            voxels = np.argwhere(region(example, truth, session))
            if len(voxels):
                wanted.append(truth.world[:3, :3] @ voxels.mean(axis=0) + truth.world[:3, 3])
        found = np.stack([values(outcome, f"center of mass {axis}") for axis in "xyz"], axis=1)
        assert found == pytest.approx(np.asarray(wanted).reshape(-1, 3), abs=1e-3)


def test_counts_are_the_connected_parts() -> None:
    for example, truth, outcome in cases("lesion count"):
        wanted = [len(parts(region(example, truth, session))) for session in sessions(example, truth)]
        assert values(outcome, "count") == pytest.approx(wanted), example.program


def test_shares_of_a_load_are_those_of_its_voxels() -> None:
    for example, truth, outcome in cases("lesion share"):
        wanted = []
        for session in sessions(example, truth):
            whole = truth.mask("white matter lesion", session)
            wanted.append(100 * region(example, truth, session).sum() / whole.sum())
        assert values(outcome, "percent of region") == pytest.approx(wanted)


def test_a_volume_at_a_visit_is_of_that_session_alone() -> None:
    for example, truth, outcome in cases("volume at visit"):
        date = re.search(r'visit\("([^"]+)"\)', example.program)
        every = sessions(example, truth)
        session = every[0] if "earliest" in example.program else every[-1]
        if date:
            session = truth.visits.index(date.group(1))
        assert values(outcome, "volume")[-1] == pytest.approx(millilitres(region(example, truth, session)))
        assert {mask.visit for mask in outcome.masks} <= {truth.visits[session]}


def test_surfaces_and_summaries_are_measured_in_every_session() -> None:
    for task in ("surface area", "size summary"):
        for example, truth, outcome in cases(task):
            found = values(outcome, "surface area")
            there = [s for s in sessions(example, truth) if region(example, truth, s).any()]
            assert len(found) == len(there)
            for area, session in zip(found, there, strict=True):
                volume = region(example, truth, session).sum() * VOXEL_ML * 1000
                assert area > 0.8 * 4.836 * volume ** (2 / 3)  # no body has less surface than a ball
