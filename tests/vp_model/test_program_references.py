"""Every operation, called in a program, agrees with an independent one: of numpy, scipy, SimpleITK or scikit-image.

`REFERENCES` has one check for each row of the table of operations; an operation without one fails the first test.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist, pdist
from skimage import measure, morphology

from vp_model.imaging.intensity import Image
from vp_model.imaging.landmarks import Landmarks
from vp_model.outcome import InputVolume
from vp_model.program.environment import ProgramEnvironment, StepResult, Target
from vp_model.program.operations import OPERATIONS
from vp_model.program.values import DerivedImage, Point, Quantity, Roi

SPACING = np.array([1.0, 1.5, 2.0])
SHAPE = (22, 20, 16)
WORLD = np.diag([*SPACING, 1.0])
WORLD[:3, 3] = (-11, -15, -16)
VOLUMES = (InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "T1", "2025-03-01", 1))
TARGETS = {
    "brainstem": Target("brainstem", ("",)),
    "white matter lesion": Target("white matter lesion", ("",)),
    "left hippocampus": Target("hippocampus", ("left",)),
    "left caudate": Target("caudate", ("left",)),
    "left putamen": Target("putamen", ("left",)),
}
START = """\
a = segment("brainstem", v1<MOD>)
b = segment("left hippocampus", v1<MOD>)
c = segment("white matter lesion", v1<MOD>)
"""
Mask = NDArray[np.bool_]


def _points() -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1) * SPACING + WORLD[:3, 3]


def _ball(centre: Sequence[float], radii: Sequence[float]) -> Mask:
    return np.asarray((((_points() - centre) / np.asarray(radii)) ** 2).sum(axis=-1) <= 1)


def _speckles() -> Mask:
    noise = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 1.0)
    mask = noise > 0.16
    mask[[0, -1]], mask[:, [0, -1]], mask[:, :, [0, -1]] = False, False, False
    return np.asarray(mask)


A = _ball((-1, 0, 0), (7, 8, 9)) & ~_ball((-1, 0, 0), (2, 3, 3))
"""An ellipsoid with a hole."""
B = _ball((4, 3, 4), (5, 6, 7))
C = _speckles()
MASKS = {"brainstem": A, "left hippocampus": B, "white matter lesion": C, "left caudate": B, "left putamen": C}
LANDMARKS = dict(
    zip(
        (
            "left cerebral white matter", "right cerebral white matter", "left frontal lobe", "left insular cortex",
            "right occipital lobe", "left thalamus", "brainstem", "left precentral gyrus", "corpus callosum",
        ),
        np.random.default_rng(8).permutation(np.argwhere(np.ones(SHAPE)))[: 9 * 12].reshape(9, 12, 3),
        strict=True,
    )
)  # fmt: skip
"""Indices of the voxels of each."""
LANDMARKS_WORLD = WORLD.copy()
LANDMARKS_WORLD[:3, 3] += (0.137, 0.211, 0.079)  # no two are equally far
IMAGE = np.random.default_rng(6).gamma(3.0, 40.0, SHAPE).astype(np.float32)


class MaskVision:
    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        """The second session's masks are the first's, moved by one voxel."""
        mask = MASKS[name].astype(np.float32)
        return {volume: np.roll(mask, 1, axis=0) if volume == "v2" else mask for volume in volumes}

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([np.arange(8, dtype=np.float32) + modulations[row].sum() for row in range(len(volumes))])

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        """A few voxels of each landmark, here and there."""
        names = tuple(name for name in LANDMARKS if name in regions)
        labels = np.zeros(SHAPE, np.uint8)
        for number, name in enumerate(names, start=1):
            labels[tuple(LANDMARKS[name].T)] = number
        return Landmarks(names, labels, LANDMARKS_WORLD)


class Case:
    """A program that ran; `x` is its result."""

    def __init__(self, code: str, start: str = START) -> None:
        images = {"v1": Image(IMAGE, WORLD), "v2": Image(np.roll(IMAGE, 1, axis=0), WORLD)}
        self.environment = ProgramEnvironment(VOLUMES, images, MaskVision(), TARGETS)
        count = (start + code).count("<MOD>")
        result = self.environment.step(start + code, np.ones((count, 32), np.float32))
        assert result.error == "", result.error
        self.result = result
        self.findings = self.environment.findings

    @property
    def x(self) -> object:
        return self.environment.values["x"]

    def mask(self) -> Mask:
        value = self.x
        assert isinstance(value, Roi) and len(value.parts) == 1
        return value.parts[0].region.on(Image(IMAGE, WORLD).grid).full()

    def number(self, unit: str) -> float:
        value = self.x
        assert isinstance(value, Quantity) and value.unit == unit and not value.missing
        return value.value

    def numbers(self, unit: str) -> list[float]:
        values = self.x
        assert isinstance(values, list) and all(value.unit == unit for value in values)
        return [value.value for value in values]

    def image(self) -> Image:
        value = self.x
        assert isinstance(value, DerivedImage) and not value.missing
        return value.image


REFERENCES: dict[str, Callable[[], None]] = {}


def reference(*names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(check: Callable[[], None]) -> Callable[[], None]:
        for name in names:
            assert name not in REFERENCES, name
            REFERENCES[name] = check
        return check

    return register


def test_every_operation_has_a_reference() -> None:
    assert set(REFERENCES) == set(OPERATIONS)


def test_references_use_nothing_of_what_they_check() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    taken = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("vp_model.imaging", "vp_model.program"))
        for alias in node.names
    }
    values = ["DerivedImage", "Point", "Quantity", "Roi"]
    assert taken == {
        "vp_model.imaging.intensity.Image",
        "vp_model.imaging.landmarks.Landmarks",
        "vp_model.program.environment.ProgramEnvironment",
        "vp_model.program.environment.StepResult",
        "vp_model.program.environment.Target",
        "vp_model.program.operations.OPERATIONS",
        *(f"vp_model.program.values.{value}" for value in values),
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_agrees_with_its_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is what the reference runs: a check under a name that it never calls would prove nothing."""
    ran: list[str] = []
    step = ProgramEnvironment.step

    def watched(self: ProgramEnvironment, code: str, modulations: NDArray[np.float32] | None = None) -> StepResult:
        ran.append(code)
        return step(self, code, modulations)

    monkeypatch.setattr(ProgramEnvironment, "step", watched)
    REFERENCES[name]()
    assert any(re.search(rf"\b{name}\(", code) for code in ran)


# --- helpers of the references


def itk(voxels: NDArray[np.generic]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin(WORLD[:3, 3].tolist())
    return image


def back(image: sitk.Image) -> NDArray[np.generic]:
    array: NDArray[np.generic] = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return array


def shape_of(mask: Mask) -> sitk.LabelShapeStatisticsImageFilter:
    filtered = sitk.LabelShapeStatisticsImageFilter()
    filtered.ComputeOrientedBoundingBoxOn()
    filtered.Execute(itk(mask.astype(np.uint8)))
    return filtered


def within(mask: Mask, radius: float) -> Mask:
    """Voxels within a radius, by SimpleITK's Maurer distances (to voxel centres)."""
    distances = sitk.SignedMaurerDistanceMap(itk(mask.astype(np.uint8)), False, False, True)
    return np.asarray((back(distances) <= radius + 1e-4) | mask)


def labelled(mask: Mask) -> NDArray[np.int64]:
    return np.asarray(measure.label(mask, connectivity=3))


def corners(mask: Mask) -> NDArray[np.float64]:
    offsets = np.array(list(product((-0.5, 0.5), repeat=3)))
    return (np.argwhere(mask)[:, None] + offsets).reshape(-1, 3) * SPACING + WORLD[:3, 3]


def centre(mask: Mask) -> NDArray[np.float64]:
    return np.asarray(ndimage.center_of_mass(mask)) * SPACING + WORLD[:3, 3]


def statistics(mask: Mask) -> sitk.LabelStatisticsImageFilter:
    filtered = sitk.LabelStatisticsImageFilter()
    filtered.Execute(itk(IMAGE), itk(mask.astype(np.uint8)))
    return filtered


# --- the task, the network, the sessions


@reference("task")
def _task() -> None:
    assert Case('task("volume change")').findings.task == "volume change"


@reference("refuse")
def _refuse() -> None:
    case = Case('refuse("missing session")\nx = 1')
    assert case.result.refused and case.findings.refusal == "missing session" and "x" not in case.environment.values


@reference("segment")
def _segment() -> None:
    np.testing.assert_array_equal(Case('x = segment("white matter lesion", v1<MOD>)').mask(), C)


@reference("encode")
def _encode() -> None:
    case = Case("x = encode(v1<MOD>, v2<MOD>)", start="")
    np.testing.assert_array_equal(case.result.encodings[0], np.stack([np.arange(8) + 32.0] * 2))


@reference("visits", "earliest", "latest", "visit", "at")
def _sessions() -> None:
    code = 'r = segment("brainstem", v1<MOD>, v2<MOD>)\n'
    for expression, expected in {
        "at(r, earliest(r))": A,
        "at(r, latest(r))": np.roll(A, 1, axis=0),
        'at(r, visit("2025-03-01"))': np.roll(A, 1, axis=0),
        "at(r, visits(r)[0])": A,
    }.items():
        np.testing.assert_array_equal(Case(f"{code}x = {expression}", start="").mask(), expected)
    assert [str(when) for when in Case(f"{code}x = visits(r)", start="").x] == ["2024-03-01", "2025-03-01"]  # type: ignore[attr-defined]


# --- regions


@reference("union", "intersection", "difference")
def _sets() -> None:
    one, other = itk(A.astype(np.uint8)), itk(C.astype(np.uint8))
    united = Case("x = union(a, c)").x
    assert isinstance(united, Roi) and len(united.parts) == 1
    np.testing.assert_array_equal(Case("x = union(a, c)").mask(), back(sitk.Or(one, other)) > 0)
    np.testing.assert_array_equal(Case("x = intersection(a, c)").mask(), back(sitk.And(one, other)) > 0)
    np.testing.assert_array_equal(Case("x = difference(a, c)").mask(), back(sitk.And(one, 1 - other)) > 0)


@reference("assemble")
def _assembled() -> None:
    parts = 'd = segment("left caudate", v1<MOD>)\ne = segment("left putamen", v1<MOD>)\n'
    case = Case(parts + 'x = assemble("dorsal striatum", d, e)')
    whole = case.x
    assert isinstance(whole, Roi) and (whole.structure, whole.side) == ("dorsal striatum", "left")
    np.testing.assert_array_equal(case.mask(), B | C)


@reference("largest", "components", "count", "larger_than", "smaller_than")
def _parts() -> None:
    labels = labelled(C)
    sizes = np.bincount(labels.ravel())[1:]
    assert sizes.size > 3 and np.sort(sizes)[-1] > np.sort(sizes)[-2]
    np.testing.assert_array_equal(Case("x = largest(c)").mask(), labels == sizes.argmax() + 1)
    assert Case("x = count(components(c))").number("1") == sizes.size
    found = Case("x = components(c)").x
    assert isinstance(found, list)
    volumes = [part.parts[0].region.volume for part in found]
    np.testing.assert_allclose(volumes, np.sort(sizes)[::-1] * SPACING.prod())
    limit = 30.0
    large = morphology.remove_small_objects(C, max_size=int(limit / SPACING.prod()), connectivity=3)
    np.testing.assert_array_equal(Case("x = larger_than(c, 30)").mask(), large)
    small = np.isin(labels, np.flatnonzero(sizes * SPACING.prod() < limit) + 1)
    np.testing.assert_array_equal(Case("x = smaller_than(c, 30)").mask(), small)


@reference("with_signal")
def _with_signal() -> None:
    labels = labelled(C)
    values = np.asarray(IMAGE[A], dtype=np.float64)
    for signal, wanted in (("hyperintense", 1), ("isointense", 0), ("hypointense", -1)):
        expected = np.zeros(C.shape, bool)
        for label in range(1, labels.max() + 1):
            away = (IMAGE[labels == label].mean() - values.mean()) / values.std()
            expected |= (labels == label) & (int(np.sign(away)) * (abs(away) >= 1) == wanted)
        np.testing.assert_array_equal(Case(f'x = with_signal(c, a, "{signal}", v1)').mask(), expected)


@reference("dilate", "erode", "opening", "closing", "surrounding")
def _morphology() -> None:
    radius = 3.0
    wide = np.pad(A, 8)

    def outward(mask: Mask) -> Mask:
        image = sitk.GetImageFromArray(mask.astype(np.uint8).transpose(2, 1, 0))
        image.SetSpacing(SPACING.tolist())
        distances = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)).transpose(2, 1, 0)
        return np.asarray((distances <= radius + 1e-4) | mask)

    def inward(mask: Mask) -> Mask:
        return ~outward(~mask)

    inner = (slice(8, -8),) * 3
    for code, expected in {
        "dilate(a, 3)": outward(wide),
        "erode(a, 3)": inward(wide),
        "opening(a, 3)": outward(inward(wide)),
        "closing(a, 3)": inward(outward(wide)),
        "surrounding(a, 3)": outward(wide) & ~wide,
    }.items():
        np.testing.assert_array_equal(Case(f"x = {code}").mask(), expected[inner], err_msg=code)


@reference("fill")
def _fill() -> None:
    filled = back(sitk.BinaryFillhole(itk(A.astype(np.uint8)))) > 0
    assert filled.sum() > A.sum()
    np.testing.assert_array_equal(Case("x = fill(a)").mask(), filled)


@reference("boundary_of")
def _boundary() -> None:
    np.testing.assert_array_equal(
        Case("x = boundary_of(a)").mask(), back(sitk.BinaryContour(itk(A.astype(np.uint8)), False)) > 0
    )


@reference("brighter_than", "darker_than", "percent_brighter", "percent_darker")
def _thresholds() -> None:
    bright = back(sitk.BinaryThreshold(itk(IMAGE), 110.0001, 1e9)) > 0
    np.testing.assert_array_equal(Case("x = brighter_than(a, v1, 110)").mask(), A & bright)
    np.testing.assert_array_equal(Case("x = darker_than(a, v1, 110)").mask(), A & ~bright)
    share = 100 * np.count_nonzero(A & bright) / np.count_nonzero(A)
    assert Case("x = percent_brighter(a, v1, 110)").number("%") == pytest.approx(share)
    assert Case("x = percent_darker(a, v1, 110)").number("%") == pytest.approx(100 - share)
    median = float(np.median(IMAGE[A]))
    assert Case("x = percent_brighter(a, v1, median_intensity(a, v1))").number("%") == pytest.approx(
        100 * np.mean(IMAGE[A] > median)
    )


@reference("within_distance")
def _near() -> None:
    np.testing.assert_array_equal(Case("x = within_distance(a, b, 4)").mask(), A & within(B, 4.0))


@reference("touching", "apart_from", "nearest_part")
def _beside() -> None:
    labels = labelled(C)
    beside = np.unique(labels[within(B, float(SPACING.max())) & C])
    assert 0 < beside.size < labels.max()
    np.testing.assert_array_equal(Case("x = touching(c, b)").mask(), np.isin(labels, beside))
    np.testing.assert_array_equal(Case("x = apart_from(c, b)").mask(), C & ~np.isin(labels, beside))
    sizes = np.bincount(labels.ravel())
    second = labels == np.argsort(-sizes)[2]  # the largest but the background and the first
    MASKS["left hippocampus"] = np.asarray(ndimage.binary_dilation(second) & ~C)
    try:
        distances = back(
            sitk.SignedMaurerDistanceMap(itk(MASKS["left hippocampus"].astype(np.uint8)), False, False, True)
        )
        gaps = np.array([distances[labels == label].min() for label in range(1, labels.max() + 1)])
        assert np.count_nonzero(gaps == gaps.min()) == 1 and gaps.argmin() + 1 == np.argsort(-sizes)[2]
        np.testing.assert_array_equal(Case("x = nearest_part(c, b)").mask(), second)
    finally:
        MASKS["left hippocampus"] = B


@reference("outermost")
def _outermost() -> None:
    labels = labelled(C)
    centres = np.array([region.centroid for region in measure.regionprops(labels)])
    for word, axis, sign in (("left", 0, -1), ("right", 0, 1), ("anterior", 1, 1), ("inferior", 2, -1)):
        places = sign * centres[:, axis]
        farthest = np.flatnonzero(places == places.max()) + 1  # two may lie equally far
        found = Case(f'x = outermost(c, "{word}")').mask()
        assert any(np.array_equal(found, labels == label) for label in farthest)


@reference("on_side", "is_toward")
def _sides() -> None:
    x, y, z = np.moveaxis(_points(), -1, 0)
    middle = centre(B)
    for word, half in {"left": x < middle[0], "anterior": y > middle[1], "superior": z > middle[2]}.items():
        np.testing.assert_array_equal(Case(f'x = on_side(a, "{word}", b)').mask(), A & half)
    assert centre(A)[0] < middle[0]
    assert Case('x = is_toward(a, "left", b)').x is True
    assert Case('x = is_toward(a, "right", b)').x is False


@reference("align_to")
def _align() -> None:
    """Two sessions of a phantom of which the second was shifted: SimpleITK's own transform is the reference."""
    from tests.vp_model.test_imaging_registration import displaced, phantom

    scan = phantom()
    shift = np.eye(4)
    shift[:3, 3] = (5, -3, 4)
    mask = (np.indices(scan.voxels.shape) // 8).sum(axis=0) % 5 == 0

    class Vision(MaskVision):
        def segment(
            self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
        ) -> Mapping[str, NDArray[np.float32]]:
            return {volume: mask.astype(np.float32) for volume in volumes}

    moved = displaced(scan, shift)
    environment = ProgramEnvironment(VOLUMES, {"v1": scan, "v2": moved}, Vision(), TARGETS)
    code = 'a = segment("brainstem", v1<MOD>)\nb = segment("brainstem", v2<MOD>)\n'
    result = environment.step(code + "x = align_to(a, latest(b))\nd = center_distance(x, b)\n")
    assert result.error == ""
    aligned, own = environment.values["x"], environment.values["a"]
    assert isinstance(aligned, Roi) and isinstance(own, Roi)
    np.testing.assert_allclose(
        np.subtract(aligned.parts[0].region.points(), own.parts[0].region.points()).mean(axis=0), (5, -3, 4), atol=0.3
    )
    distance = environment.values["d"]
    assert isinstance(distance, Quantity) and distance.value == pytest.approx(np.sqrt(50), abs=0.3)
    assert "positions of two sessions differ" in environment.step("y = center_distance(a, b)").error


# --- size and place


@reference("volume", "in_unit")
def _volume() -> None:
    expected = shape_of(C).GetPhysicalSize(1)
    assert Case("x = volume(c)").number("ml") == pytest.approx(expected / 1000)
    assert Case('x = in_unit(volume(c), "mm3")').number("mm3") == pytest.approx(expected)
    assert Case('x = in_unit(longest_diameter(c), "cm")').number("cm") == pytest.approx(
        Case("x = longest_diameter(c)").number("mm") / 10
    )
    assert Case('x = in_unit(in_unit(volume(c), "l"), "ml")').number("ml") == pytest.approx(expected / 1000)


@reference("extent", "bounding_box")
def _extents() -> None:
    low_high = np.array(shape_of(C).GetBoundingBox(1)).reshape(2, 3)
    expected = low_high[1] * SPACING
    axes = ("left-right", "anterior-posterior", "superior-inferior")
    np.testing.assert_allclose([Case(f'x = extent(c, "{axis}")').number("mm") for axis in axes], expected)
    np.testing.assert_allclose(Case("x = bounding_box(c)").numbers("mm"), expected)


@reference("oriented_box")
def _oriented() -> None:
    """SimpleITK's box has the same axes; it measures to voxel corners as well."""
    expected = np.sort(shape_of(B).GetOrientedBoundingBoxSize(1))[::-1]
    np.testing.assert_allclose(Case("x = oriented_box(b)").numbers("mm"), expected, rtol=0.02)


@reference("longest_diameter")
def _diameter() -> None:
    expected = pdist(np.unique(corners(B & ~ndimage.binary_erosion(B)), axis=0)).max()
    assert Case("x = longest_diameter(b)").number("mm") == pytest.approx(expected)


@reference("plane_diameter", "perpendicular_diameter", "bidimensional_product")
def _bidimensional() -> None:
    """By brute force: all pairs of corners of each slice; and all heights of a fine fan of perpendicular lines."""
    for plane, axis in {"sagittal": 0, "coronal": 1, "axial": 2}.items():
        best = (-1.0, np.zeros((0, 2)), (0, 0))
        for index in range(SHAPE[axis]):
            section = np.argwhere(np.take(B, index, axis=axis))
            if not len(section):
                continue
            offsets = np.array(list(product((-0.5, 0.5), repeat=2)))
            outline = np.unique((section[:, None] + offsets).reshape(-1, 2) * np.delete(SPACING, axis), axis=0)
            distances = cdist(outline, outline)
            if distances.max() > best[0] + 1e-9:
                ends = np.unravel_index(distances.argmax(), distances.shape)
                best = float(distances.max()), outline, (int(ends[0]), int(ends[1]))
        long, outline, (one, other) = best
        assert Case(f'x = plane_diameter(b, "{plane}")').number("mm") == pytest.approx(long)
        along = (outline[other] - outline[one]) / long
        places = (outline - outline[one]) @ along
        heights = (outline - outline[one]) @ np.array([-along[1], along[0]])
        pairs = [
            (places[i], heights[i], places[j], heights[j]) for i in range(len(outline)) for j in range(len(outline))
        ]
        widths = []
        for place in places:
            found = [
                h1 + (h2 - h1) * (place - p1) / (p2 - p1) for p1, h1, p2, h2 in pairs if p1 < p2 and p1 <= place <= p2
            ]
            widths.append(max(found) - min(found) if found else 0.0)
        short = max(widths)
        assert Case(f'x = perpendicular_diameter(b, "{plane}")').number("mm") == pytest.approx(short)
        assert Case(f'x = bidimensional_product(b, "{plane}")').number("mm2") == pytest.approx(long * short)


@reference("cross_section")
def _section() -> None:
    for plane, axis in {"sagittal": 0, "coronal": 1, "axial": 2}.items():
        areas = [measure.regionprops(np.take(C, i, axis=axis).astype(int)) for i in range(SHAPE[axis])]
        pixel = np.delete(SPACING, axis).prod()
        expected = max(found[0].area for found in areas if found) * pixel
        assert Case(f'x = cross_section(c, "{plane}")').number("mm2") == pytest.approx(expected)


@reference("surface_area", "sphericity")
def _surface() -> None:
    filled = shape_of(B)
    area = Case("x = surface_area(b)").number("mm2")
    assert area == pytest.approx(filled.GetPerimeter(1), rel=0.05)
    vertices, faces, _, _ = measure.marching_cubes(np.pad(B.astype(float), 1), 0.5, spacing=tuple(SPACING))
    assert area == pytest.approx(
        measure.mesh_surface_area(vertices, faces), rel=0.15
    )  # marching cubes on steps: too large
    assert Case("x = sphericity(b)").number("1") == pytest.approx(filled.GetRoundness(1), rel=0.05)


@reference("center_of_mass", "coordinate_of")
def _centre() -> None:
    point = Case("x = center_of_mass(c)").x
    assert isinstance(point, Point)
    expected = shape_of(C).GetCentroid(1)
    np.testing.assert_allclose(point.position, expected)
    axes = ("left-right", "anterior-posterior", "superior-inferior")
    found = [Case(f'x = coordinate_of(center_of_mass(c), "{axis}")').number("mm") for axis in axes]
    np.testing.assert_allclose(found, expected)


# --- intensity


@reference("mean_intensity", "sd_intensity", "median_intensity", "min_intensity", "max_intensity")
def _statistics() -> None:
    expected = statistics(A)
    count = expected.GetCount(1)
    assert Case("x = mean_intensity(a, v1)").number("1") == pytest.approx(expected.GetMean(1))
    spread = expected.GetSigma(1) * np.sqrt((count - 1) / count)  # SimpleITK's is of a sample
    assert Case("x = sd_intensity(a, v1)").number("1") == pytest.approx(spread)
    assert Case("x = min_intensity(a, v1)").number("1") == pytest.approx(expected.GetMinimum(1))
    assert Case("x = max_intensity(a, v1)").number("1") == pytest.approx(expected.GetMaximum(1))
    assert Case("x = median_intensity(a, v1)").number("1") == pytest.approx(ndimage.median(IMAGE, A), rel=1e-6)


@reference("percentile_intensity")
def _percentile() -> None:
    ordered = np.sort(IMAGE[A])
    place = 0.9 * (ordered.size - 1)
    low = int(place)
    expected = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
    assert Case("x = percentile_intensity(a, v1, 90)").number("1") == pytest.approx(float(expected), rel=1e-5)


@reference("intensity_histogram")
def _histogram() -> None:
    low, high = ndimage.minimum(IMAGE, A), ndimage.maximum(IMAGE, A)
    counts = ndimage.histogram(IMAGE, low, high, 12, labels=A, index=1)
    np.testing.assert_allclose(Case("x = intensity_histogram(a, v1, 12)").numbers("%"), 100 * counts / counts.sum())


@reference("contrast_with", "standard_score", "contrast_to_surrounding", "signal_against")
def _contrast() -> None:
    one, other = statistics(A), statistics(B)
    relative = 100 * (one.GetMean(1) - other.GetMean(1)) / other.GetMean(1)
    assert Case("x = contrast_with(a, b, v1)").number("%") == pytest.approx(relative)
    spread = other.GetSigma(1) * np.sqrt((other.GetCount(1) - 1) / other.GetCount(1))
    score = (one.GetMean(1) - other.GetMean(1)) / spread
    assert Case("x = standard_score(a, b, v1)").number("1") == pytest.approx(score)
    ring = statistics(within(B, 3.0) & ~B)
    expected = 100 * (other.GetMean(1) - ring.GetMean(1)) / ring.GetMean(1)
    assert Case("x = contrast_to_surrounding(b, v1, 3)").number("%") == pytest.approx(expected)
    assert abs(score) < 1
    assert Case("x = signal_against(a, b, v1)").x == "isointense"
    bright = "brighter_than(a, v1, percentile_intensity(a, v1, 90))"
    dark = "darker_than(a, v1, percentile_intensity(a, v1, 5))"
    assert Case(f"x = signal_against({bright}, a, v1)").x == "hyperintense"
    assert Case(f"x = signal_against({dark}, a, v1)").x == "hypointense"


# --- relations


@reference("distance_to")
def _distance() -> None:
    assert Case("x = distance_to(a, b)").number("mm") == 0
    left, right = "x = distance_to(", 'on_side(a, "left", b), on_side(b, "right", b))'
    halves = A & (_points()[..., 0] < centre(B)[0]), B & (_points()[..., 0] > centre(B)[0])
    expected = back(sitk.SignedMaurerDistanceMap(itk(halves[1].astype(np.uint8)), False, False, True))[halves[0]].min()
    assert Case(left + right).number("mm") == pytest.approx(float(expected), rel=1e-5)


@reference("center_distance")
def _between_centres() -> None:
    expected = np.linalg.norm(np.subtract(shape_of(A).GetCentroid(1), shape_of(C).GetCentroid(1)))
    assert Case("x = center_distance(a, c)").number("mm") == pytest.approx(expected)


@reference("dice_overlap", "percent_inside", "is_inside", "located_in")
def _overlap() -> None:
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(itk(A.astype(np.uint8)), itk(B.astype(np.uint8)))
    assert Case("x = dice_overlap(a, b)").number("1") == pytest.approx(overlap.GetDiceCoefficient())
    share = np.count_nonzero(A & B) / np.count_nonzero(A)
    assert Case("x = percent_inside(a, b)").number("%") == pytest.approx(100 * share)
    assert Case("x = is_inside(a, b)").x is bool(share >= 0.5)
    assert Case("x = is_inside(erode(a, 1), a)").x is True
    shares = {"left hippocampus": share, "white matter lesion": np.count_nonzero(A & C) / np.count_nonzero(A)}
    expected = ", ".join(f"{name} ({100 * shares[name]:.0f} %)" for name in sorted(shares, key=lambda n: -shares[n]))
    assert Case("x = located_in(a, b, c)").x == expected


@reference("lobe_of", "territory_of")
def _places() -> None:
    lobes = {
        "left frontal lobe": "frontal lobe",
        "left insular cortex": "insular cortex",
        "right occipital lobe": "occipital lobe",
    }
    territories = {
        "left precentral gyrus": "middle cerebral artery territory",
        "left insular cortex": "middle cerebral artery territory",
        "right occipital lobe": "posterior cerebral artery territory",
        "corpus callosum": "anterior cerebral artery territory",
    }
    deep = {"left thalamus": "thalamus", "brainstem": "brainstem"}
    supplied = {
        "left thalamus": "posterior cerebral artery territory",
        "brainstem": "vertebrobasilar territory",
    }
    for operation, cortex, others in (("lobe_of", lobes, deep), ("territory_of", territories, supplied)):
        for name, mask in (("a", A), ("b", B), ("c", C)):
            places = []
            for point in np.argwhere(mask) * SPACING + WORLD[:3, 3]:
                nearest = _nearest(point, [*cortex, *others, *WHITE])
                places.append(cortex[_nearest(point, cortex)] if nearest in WHITE else {**cortex, **others}[nearest])
            found, counts = np.unique(places, return_counts=True)
            ranked = [str(found[index]) for index in np.argsort(-counts)]
            needed = int(np.argmax(np.cumsum(np.sort(counts)[::-1]) >= len(places) / 2)) + 1
            assert Case(f"x = {operation}({name})").x == " and ".join(ranked[:needed])


@reference("in_lobe")
def _in_lobe() -> None:
    lobes = {"left frontal lobe": ("left", "frontal lobe"), "right occipital lobe": ("right", "occipital lobe")}
    others = {"left insular cortex": ("left", "insular cortex"), "left thalamus": ("left", "thalamus")}
    others["brainstem"] = ("", "brainstem")
    cortex = [*lobes, "left insular cortex"]
    found = {}
    for index in np.argwhere(C):
        point = index * SPACING + WORLD[:3, 3]
        near = _nearest(point, [*lobes, *others, *WHITE])
        place = {**lobes, **others}[_nearest(point, cortex) if near in WHITE else near][1]
        found[tuple(index)] = (near.split(" ")[0] if near != "brainstem" else "", place)
    for lobe in ("frontal lobe", "left frontal lobe", "right frontal lobe", "brainstem", "infratentorial region"):
        side, _, name = lobe.partition(" ") if lobe.startswith(("left ", "right ")) else ("", "", lobe)
        meant = ("brainstem", "cerebellum") if name == "infratentorial region" else (name,)
        expected = np.zeros(C.shape, bool)
        for place, (own, where) in found.items():
            expected[place] = where in meant and side in ("", own)
        np.testing.assert_array_equal(Case(f'x = in_lobe(c, "{lobe}")').mask(), expected, err_msg=lobe)


WHITE = ("left cerebral white matter", "right cerebral white matter")


def _nearest(point: NDArray[np.float64], among: Iterable[str]) -> str:
    places = {name: LANDMARKS[name] * SPACING + LANDMARKS_WORLD[:3, 3] for name in among}
    return min(among, key=lambda name: np.linalg.norm(places[name] - point, axis=1).min())


@reference("direction_from")
def _direction() -> None:
    offset = centre(A) - centre(B)
    words = np.array([("left", "right"), ("posterior", "anterior"), ("inferior", "superior")])
    order = [axis for axis in np.argsort(-np.abs(offset)) if abs(offset[axis]) >= 5]
    expected = " and ".join(words[axis, int(offset[axis] > 0)] for axis in order) or "at the same place"
    assert Case("x = direction_from(a, b)").x == expected


# --- comparison


@reference("asymmetry", "percent_change", "percent_of", "ratio")
def _comparison() -> None:
    one, other = (shape_of(mask).GetPhysicalSize(1) for mask in (A, B))
    for code, expected, unit in (
        ("asymmetry", 200 * (one - other) / (one + other), "%"),
        ("percent_change", 100 * (other / one - 1), "%"),
        ("percent_of", 100 * one / other, "%"),
        ("ratio", one / other, "1"),
    ):
        assert Case(f"x = {code}(volume(a), volume(b))").number(unit) == pytest.approx(expected)


@reference("per_year")
def _yearly() -> None:
    code = 'r = segment("brainstem", v1<MOD>, v2<MOD>)\nf = extent(at(r, earliest(r)), "left-right")\n'
    code += "s = volume(at(r, latest(r))) * 2 - volume(at(r, earliest(r)))\nx = per_year(s)\n"
    years = (np.datetime64("2025-03-01") - np.datetime64("2024-03-01")).astype(int) / 365.25
    expected = shape_of(A).GetPhysicalSize(1) / 1000 / years
    assert Case(code, start="").number("ml/a") == pytest.approx(float(expected))


# --- images


@reference("crop", "crop_cavity")
def _crop() -> None:
    low_size = np.array(shape_of(B).GetBoundingBox(1)).reshape(2, 3)
    steps = np.ceil(3 / SPACING - 1e-9).astype(int)
    low = np.maximum(low_size[0] - steps, 0)
    high = np.minimum(low_size[0] + low_size[1] + steps, SHAPE)
    region = sitk.RegionOfInterest(itk(IMAGE), (high - low).tolist(), low.tolist())
    found = Case("x = crop(v1, b, 3)").image()
    np.testing.assert_array_equal(found.voxels, back(region))
    np.testing.assert_allclose(found.world[:3, 3], region.GetOrigin())
    whole = Case("x = crop_cavity(v1, 20)").image()  # the head of 22 mm is smaller than the margin
    np.testing.assert_array_equal(whole.voxels, IMAGE)


@reference("remove", "isolate")
def _masking() -> None:
    air, mask = float(IMAGE.min()), itk(B.astype(np.uint8))
    np.testing.assert_array_equal(Case("x = isolate(v1, b)").image().voxels, back(sitk.Mask(itk(IMAGE), mask, air, 0)))
    np.testing.assert_array_equal(
        Case("x = remove(v1, b)").image().voxels, back(sitk.MaskNegated(itk(IMAGE), mask, air, 0))
    )


@reference("pad")
def _pad() -> None:
    steps = [3, 2, 2]
    expected = sitk.ConstantPad(itk(IMAGE), steps, steps, float(IMAGE.min()))
    found = Case("x = pad(v1, 3)").image()
    np.testing.assert_array_equal(found.voxels, back(expected))
    start = expected.GetOrigin()
    np.testing.assert_allclose(found.world[:3, 3], start)


@reference("resample")
def _resample() -> None:
    """SimpleITK interpolates the same at the same places where nothing becomes coarser."""
    found = Case("x = resample(v1, 1)").image()
    np.testing.assert_allclose(np.linalg.norm(found.world[:3, :3], axis=0), 1.0)
    target = sitk.Image([int(size) for size in found.voxels.shape], sitk.sitkFloat32)
    target.SetOrigin(found.world[:3, 3].tolist())
    expected = back(sitk.Resample(itk(IMAGE), target, sitk.Transform(), sitk.sitkLinear, float(IMAGE.min())))
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(found.voxels[inner], expected[inner], rtol=1e-4, atol=1e-3)


@reference("reorient")
def _reorient() -> None:
    for target in ("LPS", "ASR", "LIP"):
        found = Case(f'x = reorient(v1, "{target}")').image()
        turned = nibabel.Nifti1Image(IMAGE, WORLD)
        turned = turned.as_reoriented(ornt_transform(io_orientation(WORLD), axcodes2ornt(target)))
        np.testing.assert_array_equal(found.voxels, np.asarray(turned.dataobj))
        np.testing.assert_allclose(found.world, turned.affine)


@reference("distance_map")
def _distance_map() -> None:
    image = itk(B.astype(np.uint8))
    outside = back(sitk.SignedMaurerDistanceMap(image, False, False, True))
    inside = back(sitk.SignedMaurerDistanceMap(1 - image, False, False, True))
    expected = np.where(B, -inside, outside)
    np.testing.assert_allclose(Case("x = distance_map(v1, b)").image().voxels, expected, atol=1e-4)


# --- what is given out


@reference("show")
def _show() -> None:
    findings = Case("show(c)\nshow(c)").findings
    assert len(findings.shown) == 1
    np.testing.assert_array_equal(findings.shown[0].part.region.on(Image(IMAGE, WORLD).grid).full(), C)


@reference("report")
def _report() -> None:
    found = Case('report("volume", volume(c))\nreport("center of mass", center_of_mass(c))').findings.reported
    assert [item.name for item in found] == ["volume", *(f"center of mass {axis}" for axis in "xyz")]
    expected = [shape_of(C).GetPhysicalSize(1) / 1000, *shape_of(C).GetCentroid(1)]
    np.testing.assert_allclose([item.quantity.value for item in found], expected)


@reference("save")
def _save() -> None:
    saved = Case("save(crop(v1, b, 3))").findings.saved
    assert len(saved) == 1 and saved[0].operation == "crop"


@reference("answer")
def _answer() -> None:
    text, parts = Case('task("location")\nanswer("in the brainstem", a)').findings.texts[0]
    assert (text.text, text.topic, text.structure, len(parts)) == ("in the brainstem", "location", "brainstem", 1)


@reference("print")
def _print() -> None:
    expected = f"{shape_of(C).GetPhysicalSize(1) / 1000:.2f} ml"
    assert Case("print(volume(c))").result.output == expected
