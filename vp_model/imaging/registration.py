"""Rigid co-registration of two images of one head, within and across sessions, by SimpleITK.

Mattes' mutual information finds the six parameters, so that the two may be of different kinds (T1 and FLAIR, MR and
CT). Three levels from coarse to fine. The coarse level starts from several places and keeps the best: the world
matrices as they are (one frame of reference), or the centres of both heads, or of both grids, laid upon each other.
Nothing is resampled for good: the result is a matrix, and every volume and mask stays in its own geometry.

Two runs on the same images give the same matrix to a millionth of a millimetre: samples are drawn with a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.imaging.grid import Grid, World, resample, spacing, to_world

LEVELS_MM = (6.0, 3.0, 1.5)
"""Grid spacing of each level; axes with a larger step (thick slices) keep theirs."""
SAMPLES = 60_000
"""Voxels of the fixed head that one evaluation of the metric reads."""
BINS = 32
ITERATIONS = 120
SEED = 20_240_229
HEAD_MARGIN_MM = 8.0
"""Ring of air around the head that is sampled too: the skin's edge tells most about the pose."""
HEAD_HEIGHT_MM = 185.0
"""Below the vertex nothing of the brain is expected; the neck bends, so it has no say."""
LEAST_SHARED = 0.1
"""Share of the fixed head that must lie in the moving volume's field of view for a result to mean anything."""


class RegistrationError(ValueError):
    """Two images that cannot be registered: one is empty, or they do not meet."""


class Scan(Protocol):
    """What is registered: `vp_model.volume.Volume` and `vp_model.imaging.intensity.Image` both are scans."""

    @property
    def voxels(self) -> NDArray[np.float32]: ...
    @property
    def world(self) -> NDArray[np.float64]: ...


@dataclass(frozen=True, eq=False)
class Registration:
    """Where a moving volume lies on a fixed one.

    Attributes:
        world_transform: 4×4, RAS mm of the moving volume's world → RAS mm of the fixed one's; rotation and translation.
        metric_before: mutual information (nats, higher is better) as the world matrices have it.
        metric_after: mutual information after.
        overlap: Dice of the two heads after, within both fields of view, in [0, 1].
        iterations: steps of the optimiser, all levels and starts together.
        shared: share of the fixed head that the moving volume covers after.
        head_motion_mm: how far the head's centre moves.
        rotation_degrees: angle of the rotation about its axis.
    """

    world_transform: NDArray[np.float64]
    metric_before: float
    metric_after: float
    overlap: float
    iterations: int
    shared: float = 1.0
    head_motion_mm: float = 0.0
    rotation_degrees: float = 0.0

    def moved_world(self, world: World) -> World:
        """The moving volume's own matrix (index → its RAS mm) → index → RAS mm of the fixed volume.

        With it as its world, the moving volume or a mask of it lies where the fixed one has the same tissue.
        """
        matrix: World = self.world_transform @ world
        return matrix


@dataclass(frozen=True, eq=False)
class _Head:
    """A scan as the levels read it: voxels on orthogonal axes, and where the head is."""

    voxels: NDArray[np.float32]
    world: World
    mask: NDArray[np.bool_]
    centre: NDArray[np.float64]


def register(fixed: Scan, moving: Scan, *, threads: int = 1, finest_mm: float = LEVELS_MM[-1]) -> Registration:
    """The rigid transform that lays `moving` on `fixed`.

    Args:
        fixed, moving: voxels (w, h, d) and world (index → RAS mm) of two images of the same head; any orientation,
            thickness and shear, any contrast.
        threads: for SimpleITK.
        finest_mm: spacing of the last level; 3.0 halves the time and may cost a millimetre.

    Raises:
        RegistrationError: an image is constant, or the two do not meet anywhere.
    """
    target, source = _head_of(fixed), _head_of(moving)
    levels = [level for level in LEVELS_MM if level > finest_mm] + [finest_mm]
    steps, starts = 0, _starts(target, source, fixed, moving)
    for number, level in enumerate(levels):
        grids = _level(target, level), _level(source, level)
        tried = (_optimise(grids, start, level, threads, coarse=number == 0) for start in starts)
        found = [item for item in tried if item is not None]
        if not found:
            raise RegistrationError("The two volumes do not meet: check that both show the same head.")
        steps += sum(taken for _, _, taken in found)
        starts = [max(found, key=lambda item: item[1])[0]]
    best, identity = starts[0], sitk.Euler3DTransform()
    identity.SetCenter(target.centre.tolist())
    before, after = (_information(grids, transform, threads) for transform in (identity, best))
    if after < before:  # a start as good as the world matrices' own cannot be made worse: keep what is known
        best, after = identity, before
    matrix = np.asarray(np.linalg.inv(_matrix(best)), dtype=np.float64)
    overlap, shared = _overlap(target, source, matrix)
    if shared < LEAST_SHARED:
        raise RegistrationError("The two volumes share almost nothing of the head: they cannot be laid on each other.")
    centre = to_world(source.centre[None], matrix)[0]
    turn = np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1.0, 1.0)))
    return Registration(
        matrix, before, after, overlap, steps, shared, float(np.linalg.norm(centre - source.centre)), float(turn)
    )


def _head_of(scan: Scan) -> _Head:
    """The scan on orthogonal axes, outliers clipped, and its head."""
    voxels, world = np.asarray(scan.voxels, dtype=np.float32), np.asarray(scan.world, dtype=np.float64)
    voxels = np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (float(value) for value in np.percentile(voxels[::2, ::2, :], (0.5, 99.5)))
    if high <= low:
        low, high = float(voxels.min()), float(voxels.max())
    if high <= low:
        raise RegistrationError("One of the volumes has the same value everywhere: there is nothing to register.")
    voxels = np.clip(voxels, low, high)
    grid = _orthogonal_grid(voxels, world)
    if grid is not None:
        voxels, world = resample(voxels, world, grid, outside=low), grid.world
    mask = _head_mask(voxels, world)
    indices = np.argwhere(mask)
    centre = to_world(indices.mean(axis=0)[None], world)[0]
    return _Head(voxels, world, mask, centre)


def _orthogonal_grid(voxels: NDArray[Any], world: World) -> Grid | None:
    """A grid with orthogonal axes over a sheared volume, or None where the volume's own axes are orthogonal.

    ITK turns image gradients by the direction matrix as if it were a rotation: a gantry tilt would mislead it.
    """
    lengths = spacing(world)
    axes = world[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4:
        return None
    left, _, right = np.linalg.svd(axes)
    square = left @ right
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in voxels.shape], indexing="ij")).reshape(3, -1).T
    along = to_world(corners, world) @ square
    low, high = along.min(axis=0), along.max(axis=0)
    size = np.ceil((high - low) / lengths - 1e-6).astype(int) + 1
    matrix = np.eye(4)
    matrix[:3, :3] = square * lengths
    matrix[:3, 3] = square @ low
    return Grid((int(size[0]), int(size[1]), int(size[2])), matrix)


def _head_mask(voxels: NDArray[np.float32], world: World) -> NDArray[np.bool_]:
    """The largest bright body with the holes of each plane filled and a rim of air, without the neck."""
    lengths = spacing(world)
    step = np.maximum(np.rint(3.0 / lengths).astype(int), 1)
    coarse = voxels[:: step[0], :: step[1], :: step[2]]
    bright = coarse > _threshold(coarse)
    labels, count = ndimage.label(bright)
    if count:
        bright = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    upward = np.indices(bright.shape).reshape(3, -1).T @ (world[2, :3] * step)
    heights = upward.reshape(bright.shape)
    bright = bright & (heights >= heights[bright].max() - HEAD_HEIGHT_MM)
    for axis in range(3):
        for plane in range(bright.shape[axis]):
            index = tuple(plane if other == axis else slice(None) for other in range(3))
            bright[index] = ndimage.binary_fill_holes(bright[index])
    distance = ndimage.distance_transform_edt(~bright, sampling=lengths * step)
    grown = distance <= HEAD_MARGIN_MM
    for axis in range(3):
        grown = np.repeat(grown, step[axis], axis=axis)
    full: NDArray[np.bool_] = grown[: voxels.shape[0], : voxels.shape[1], : voxels.shape[2]]
    return full


def _threshold(values: NDArray[np.float32]) -> float:
    """Half of Otsu's threshold above the lowest value: soft tissue and skin stay, air goes."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.reshape(1, -1)))
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(image)
    low = float(values.min())
    return low + 0.5 * (float(otsu.GetThreshold()) - low)


def _level(head: _Head, level: float) -> tuple[sitk.Image, sitk.Image]:
    """(image, mask) of a scan smoothed and reduced to `level` mm, in RAS as SimpleITK's physical space."""
    lengths = spacing(head.world)
    factors = np.maximum(level / lengths, 1.0)
    factors = np.minimum(factors, np.maximum(np.asarray(head.voxels.shape) / 4, 1.0))
    sigma = np.where(factors > 1.0, 0.5 * np.sqrt(factors**2 - 1.0), 0.0)
    smooth = ndimage.gaussian_filter(head.voxels, sigma, truncate=3.0)
    size = np.maximum(np.ceil(np.asarray(head.voxels.shape) / factors - 1e-6).astype(int), 1)
    matrix = np.array(head.world)
    matrix[:3, :3] = head.world[:3, :3] * factors
    matrix[:3, 3] = head.world[:3, :3] @ ((factors - 1) / 2) + head.world[:3, 3]
    grid = Grid((int(size[0]), int(size[1]), int(size[2])), matrix)
    image = resample(smooth, head.world, grid, outside=float(smooth.min()))
    mask = resample(head.mask.astype(np.float32), head.world, grid, order=0) > 0
    return _to_itk(image, matrix), _to_itk(mask.astype(np.uint8), matrix)


def _to_itk(voxels: NDArray[Any], world: World) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    lengths = spacing(world)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((world[:3, :3] / lengths).ravel().tolist())
    image.SetOrigin(world[:3, 3].tolist())
    return image


def _starts(target: _Head, source: _Head, fixed: Scan, moving: Scan) -> list[sitk.Euler3DTransform]:
    """Translations (fixed → moving) to begin from; those that nearly repeat another are left out."""
    middles = [to_world((np.asarray(scan.voxels.shape)[None] - 1) / 2, scan.world)[0] for scan in (fixed, moving)]
    shifts = [np.zeros(3), source.centre - target.centre, middles[1] - middles[0]]
    chosen: list[NDArray[np.float64]] = []
    for shift in shifts:
        if all(np.linalg.norm(shift - other) > 5.0 for other in chosen):
            chosen.append(shift)
    transforms = []
    for shift in chosen:
        transform = sitk.Euler3DTransform()
        transform.SetCenter(target.centre.tolist())
        transform.SetTranslation(shift.tolist())
        transforms.append(transform)
    return transforms


_Grids = tuple[tuple[sitk.Image, sitk.Image], tuple[sitk.Image, sitk.Image]]


def _method(grids: _Grids, threads: int) -> sitk.ImageRegistrationMethod:
    """Mutual information over samples of the fixed head."""
    mask = grids[0][1]
    inside = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / max(inside, 1)), SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _optimise(
    grids: _Grids, start: sitk.Euler3DTransform, level: float, threads: int, coarse: bool
) -> tuple[sitk.Euler3DTransform, float, int] | None:
    """(transform, mutual information, steps) from one start, or None where the images do not meet there."""
    (fixed, _), (moving, _) = grids
    method = _method(grids, threads)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0 if coarse else level / 2,
        minStep=level / 300,
        numberOfIterations=ITERATIONS,
        relaxationFactor=0.8,  # 0.5, the default, stops short where sampling makes the metric rough
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        if "sample" in str(error).lower() or "overlap" in str(error).lower():
            return None  # too few samples fall into the moving volume: another start may do
        raise
    return transform, -float(method.GetMetricValue()), int(method.GetOptimizerIteration())


def _information(grids: _Grids, transform: sitk.Euler3DTransform, threads: int) -> float:
    """Mutual information at a transform; 0 where the images do not meet."""
    (fixed, _), (moving, _) = grids
    method = _method(grids, threads)
    method.SetInitialTransform(sitk.Euler3DTransform(transform), inPlace=True)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError as error:
        if "sample" in str(error).lower() or "overlap" in str(error).lower():
            return 0.0
        raise


def _matrix(transform: sitk.Euler3DTransform) -> NDArray[np.float64]:
    """4×4 of a transform, fixed → moving: x ↦ R (x − c) + c + t."""
    rotation = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.asarray(transform.GetTranslation()) - rotation @ centre
    return matrix


def _overlap(target: _Head, source: _Head, matrix: NDArray[np.float64]) -> tuple[float, float]:
    """Dice of the two heads within both fields of view, and the share of the fixed head that the moving one covers."""
    step = np.maximum(np.rint(3.0 / spacing(target.world)).astype(int), 1)
    index = np.stack(np.meshgrid(*[np.arange(0, n, s) for n, s in zip(target.mask.shape, step, strict=True)]), axis=-1)
    index = index.reshape(-1, 3)
    here = target.mask[tuple(index.T)]
    onward = np.asarray(np.linalg.solve(matrix @ source.world, target.world), dtype=np.float64)
    there = np.rint(to_world(index, onward)).astype(int)
    inside = ((there >= 0) & (there < np.asarray(source.mask.shape))).all(axis=1)
    other = np.zeros(len(index), dtype=np.bool_)
    other[inside] = source.mask[tuple(there[inside].T)]
    both = int(np.count_nonzero(here & other))
    total = int(np.count_nonzero(here & inside)) + int(np.count_nonzero(other))
    shared = float(np.count_nonzero(here & inside)) / max(int(np.count_nonzero(here)), 1)
    return (2 * both / total if total else 0.0), shared
