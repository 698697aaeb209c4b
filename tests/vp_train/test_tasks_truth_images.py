"""Target programs on images run, and give what is computed here independently from masks and images."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vp_train.truth import SPACING, Truth, near
from tests.vp_train.truth_cases import Voxels, cases, mean_of, region, segmented, sessions, two, values, voxels_of
from vp_train.tasks.scene import Example


def test_intensities_are_those_of_the_images_in_the_masks() -> None:
    statistics: dict[str, Callable[[NDArray[np.float32]], float]] = {
        "mean": lambda x: float(x.mean(dtype=np.float64)),
        "sd": lambda x: float(x.std(dtype=np.float64)),
        "median": lambda x: float(np.median(x)),
    }
    for task in ("intensity analysis", "further statistics"):
        for example, truth, outcome in cases(task):
            for statistic, image in re.findall(r"(mean|sd|median)_intensity\(\w+, (v\d)\)", example.program):
                name = {"sd": "SD"}.get(statistic, statistic) + " intensity"
                where = region(example, truth, truth.session(image))
                if where.any():
                    assert values(outcome, name)[0] == pytest.approx(
                        statistics[statistic](voxels_of(truth, image, where))
                    )
            for image, percent in re.findall(r"percentile_intensity\(\w+, (v\d), (\d+)\)", example.program):
                where = region(example, truth, truth.session(image))
                if where.any():
                    wanted = np.percentile(voxels_of(truth, image, where).astype(float), float(percent))
                    assert values(outcome, "percentile intensity") == pytest.approx([wanted])


def test_comparisons_of_intensity_relate_the_means() -> None:
    for example, truth, outcome in cases("intensity comparison"):
        image = re.findall(r"mean_intensity\(first, (v\d)\)", example.program)[0]
        first, second = two(example, truth, truth.session(image), "first", "second")
        one, other = (mean_of(truth, image, where) for where in (first, second))
        assert values(outcome, "mean intensity") == pytest.approx([one, other])
        assert values(outcome, "intensity difference") == pytest.approx([one - other], abs=1e-6)
        assert values(outcome, "relative intensity") == pytest.approx([100 * one / other])


def test_changes_of_intensity_are_later_minus_earlier() -> None:
    for example, truth, outcome in cases("intensity change"):
        images = re.findall(r"mean_intensity\(at\(roi, \w+\(roi\)\), (v\d)\)", example.program)
        kinds = {item.name: item.kind for item in truth.volumes}
        assert kinds[images[0]] == kinds[images[1]]
        wheres = [region(example, truth, truth.session(image)) for image in images]
        if all(where.any() for where in wheres):
            one, other = (
                float(voxels_of(truth, i, where).mean(dtype=np.float64))
                for i, where in zip(images, wheres, strict=True)
            )
            assert values(outcome, "intensity change") == pytest.approx([other - one], abs=1e-6)


def test_crops_hold_the_region_and_its_margin() -> None:
    for example, truth, outcome in cases("image cropping"):
        margin = float(re.findall(r"crop\(v\d, roi, (\d+)\)", example.program)[0])
        for image in outcome.derived:
            where = region(example, truth, truth.session(image.source))
            places = np.argwhere(where)
            steps = np.ceil(margin / np.asarray(SPACING) - 1e-6).astype(int)
            low = np.maximum(places.min(axis=0) - steps, 0)
            high = np.minimum(places.max(axis=0) + steps + 1, where.shape)
            assert np.all(np.abs(np.asarray(image.voxels.shape) - (high - low)) <= 2), (example.program, margin)


def test_removal_and_isolation_keep_the_other_voxels_as_they_are() -> None:
    for task in ("tissue removal", "skull stripping"):
        for example, truth, outcome in cases(task):
            for image in outcome.derived:
                where = region(example, truth, truth.session(image.source))
                kept = where if image.operation == "isolate" else ~where
                original = truth.images[image.source].voxels
                assert np.array_equal(image.voxels[kept], original[kept])
                assert image.voxels[~kept].max() <= original.min()


def test_the_bright_share_lies_two_deviations_beyond_what_is_around() -> None:
    for example, truth, outcome in cases("bright share"):
        operation, image = re.findall(r"(brighter|darker)_than\(roi, (v\d), limit\)", example.program)[0]
        where = region(example, truth, truth.session(image))
        if not where.any():
            continue
        around = voxels_of(truth, image, near(where, 5) & ~where).astype(float)
        inside = voxels_of(truth, image, where).astype(float)
        if operation == "brighter":
            share = (inside > around.mean() + 2 * around.std()).mean()
        else:
            share = (inside < around.mean() - 2 * around.std()).mean()
        assert values(outcome, "percent of region") == pytest.approx([100 * share], abs=1.0)


def test_brightness_to_surroundings_is_a_ratio_of_means() -> None:
    for example, truth, outcome in cases("brightness to surroundings"):
        image = re.findall(r"mean_intensity\(roi, (v\d)\)", example.program)[0]
        where = region(example, truth, truth.session(image))
        if where.any():
            around = voxels_of(truth, image, near(where, 5) & ~where).mean(dtype=np.float64)
            wanted = 100 * voxels_of(truth, image, where).mean(dtype=np.float64) / around
            assert values(outcome, "relative intensity") == pytest.approx([wanted], rel=0.01)


def compared_with(example: Example, truth: Truth, image: str, where: Voxels) -> Voxels:
    """Voxels that a region is compared with: white matter for a lesion, else what is around."""
    if "white matter lesion" not in segmented(example):
        return near(where, 5) & ~where
    return truth.mask("cerebral white matter", truth.session(image)) & ~where


def signal_words(truth: Truth, image: str, where: Voxels, rest: Voxels) -> str:
    around = voxels_of(truth, image, rest).astype(float)
    inside = float(voxels_of(truth, image, where).mean(dtype=np.float64))
    ct = next(item.kind for item in truth.volumes if item.name == image) == "CT"
    suffix = "dense" if ct else "intense"
    if inside > around.mean() + around.std():
        return f"hyper{suffix}"
    return f"hypo{suffix}" if inside < around.mean() - around.std() else f"iso{suffix}"


def test_signal_is_told_in_words_relative_to_white_matter_or_what_is_around() -> None:
    said = set()
    for example, truth, outcome in cases("signal intensity"):
        image = re.findall(r"mean_intensity\(roi, (v\d)\)", example.program)[0]
        where = region(example, truth, truth.session(image))
        answers = [text.text for text in outcome.texts if text.topic == "signal intensity"]
        rest = compared_with(example, truth, image, where)
        assert answers == ([signal_words(truth, image, where, rest)] if where.any() else []), example.program
        said.update(answers)
    assert len(said) >= 2


def test_diffusion_is_restricted_where_dwi_is_bright_and_adc_dark() -> None:
    for example, truth, outcome in cases("diffusion restriction"):
        answers = [text.text for text in outcome.texts if text.topic == "diffusion restriction"]
        dwi, adc = re.findall(r"(?:one|two) = mean_intensity\(roi, (v\d)\)", example.program)
        where = region(example, truth, truth.session(dwi))
        if not where.any():
            assert answers == []
            continue
        rest = compared_with(example, truth, dwi, where)
        if "white matter lesion" in segmented(example):
            (bright, usual), (dark, other) = (
                [voxels_of(truth, image, voxels).mean(dtype=np.float64) for voxels in (where, rest)]
                for image in (dwi, adc)
            )
            restricted = bright > 1.05 * usual and dark < other
        else:
            restricted = [signal_words(truth, image, where, rest)[:4] for image in (dwi, adc)] == ["hype", "hypo"]
        assert answers == ["restricted diffusion" if restricted else "no restricted diffusion"], example.program


def test_enhancement_is_a_growth_of_contrast_to_what_is_around() -> None:
    for example, truth, outcome in cases("enhancement"):
        answers = [text.text for text in outcome.texts if text.topic == "enhancement"]
        pre, post = re.findall(r"= ratio\(mean_intensity\(roi, (v\d)\)", example.program)
        kinds = {item.name: item.kind for item in truth.volumes}
        assert (kinds[pre], kinds[post]) == ("T1", "T1+C")
        where = region(example, truth, truth.session(pre))
        if not where.any():
            assert answers == []
            continue
        contrast = []
        for image in (pre, post):
            around = voxels_of(truth, image, near(where, 5) & ~where).mean(dtype=np.float64)
            contrast.append(voxels_of(truth, image, where).mean(dtype=np.float64) / around)
        assert answers == ["enhancing" if contrast[1] > 1.1 * contrast[0] else "not enhancing"], example.program


def test_a_location_is_the_hemisphere_that_holds_most() -> None:
    for example, truth, outcome in cases("location"):
        session = sessions(example, truth)[-1]
        whole = truth.mask("white matter lesion", session)
        left, right = (
            (whole & truth.mask(f"{side} cerebral white matter", session)).sum() for side in ("left", "right")
        )
        wanted = (
            "left hemisphere" if left > 4 * right else "right hemisphere" if right > 4 * left else "both hemispheres"
        )
        assert [text.text for text in outcome.texts if text.topic == "location"] == [wanted]
