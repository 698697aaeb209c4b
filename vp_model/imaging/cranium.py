"""Where the cranial cavity lies, on MR of any contrast and on CT, and the crop of 20 mm around it (paper, B.2).

No network is needed. On CT the cavity is the one large body of soft tissue that a few millimetres of erosion separate
from the scalp, the orbits and the neck, because bone lies between. On MR bone and air are alike and muscle is as bright
as brain, so the cavity is told from what every contrast shows: the outline of the head above the ears, less the
thickness of scalp and skull, and a height in proportion to its length. Where the weights found the brain already,
`box_around` takes the bounds of their mask instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.imaging.conform import cut, reduce
from vp_model.imaging.grid import Index, World, to_world
from vp_model.imaging.intensity import Image
from vp_model.imaging.morphology import closing, fill
from vp_model.imaging.region import Region, region_from_mask
from vp_model.imaging.shape import Vector, bounding_box

MARGIN_MM = 20.0
"""Room around the cavity (paper, B.2)."""
WORKING_MM = 3.0
"""The cavity is found on a grid about this coarse."""
AIR_HU = -500.0
SOFT_TISSUE_HU = (-10.0, 110.0)
"""CSF, brain and fresh blood; fat is below, bone above."""
EROSIONS_MM = (0.0, 3.0, 4.5, 6.0, 8.0, 10.0)
"""Tried in turn on CT, until what is left is no larger than a cavity can be."""
LARGEST_MM = (172.0, 212.0, 180.0)
"""Left-right, front-back and top-bottom of the largest cavities, with half a working voxel to each side."""
LEAST_ML = 250.0
"""A newborn's brain has 350 ml."""
BELOW_VERTEX_MM = 40.0
"""A body whose top is further below the highest tissue is face or neck."""
SLAB_MM = (10.0, 85.0)
"""Depths below the vertex between which the head's outline is the cranium's: no ears, no nose."""
WALL_MM = 8.0
"""Scalp and skull together where they are thin: the cavity may be overestimated, never cut."""
HEIGHT_SHARE = 0.88
"""Height of the cavity down to the foramen magnum, as a share of its length."""

Bounds = tuple[Vector, Vector]
"""Lowest and highest RAS mm."""


def cranial_crop(image: Image, kind: str = "unknown", margin: float = MARGIN_MM) -> Image:
    """The image cut to `margin` mm around the cranial cavity; the whole image where none can be made out."""
    start, shape = cranial_box(image, kind, margin)
    return cut(image, start, shape)


def cranial_box(image: Image, kind: str = "unknown", margin: float = MARGIN_MM) -> tuple[Index, Index]:
    """First index and shape of the box of `cranial_crop`."""
    bounds = cranial_bounds(image, kind)
    if bounds is None:
        w, h, d = image.voxels.shape
        return (0, 0, 0), (int(w), int(h), int(d))
    return box_around(image, bounds, margin)


def box_around(image: Image, bounds: Bounds, margin: float = MARGIN_MM) -> tuple[Index, Index]:
    """First index and shape of the smallest box of an image that holds all within `margin` mm of `bounds`.

    Oblique and sheared axes keep all of the margin too: the corners of the bounds, grown by it, are taken to indices.
    ValueError where they lie outside the image.
    """
    low, high = np.asarray(bounds[0]) - margin, np.asarray(bounds[1]) + margin
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    indices = to_world(corners, np.asarray(np.linalg.inv(image.world), dtype=np.float64))
    first = np.maximum(np.floor(indices.min(axis=0) + 0.5 + 1e-6).astype(int), 0)
    last = np.minimum(np.ceil(indices.max(axis=0) + 0.5 - 1e-6).astype(int), image.voxels.shape)
    if (last <= first).any():
        raise ValueError("The bounds lie outside the image: there is nothing to crop to.")
    size = last - first
    return (int(first[0]), int(first[1]), int(first[2])), (int(size[0]), int(size[1]), int(size[2]))


def cranial_bounds(image: Image, kind: str = "unknown") -> Bounds | None:
    """Where the cranial cavity lies along the anatomical axes; None where nothing looks like a head.

    Args:
        image: voxels in stored units (CT: Hounsfield units) and world matrix.
        kind: `CT`, a sequence type, or `unknown` (values below −500 then tell CT).
    """
    values = np.nan_to_num(image.voxels, nan=0.0, posinf=0.0, neginf=0.0)
    if kind.upper() == "CT" or (kind == "unknown" and float(values.min()) <= AIR_HU):
        cavity = cavity_on_ct(Image(values, image.world))
        return None if cavity is None else bounding_box(cavity)
    return _bounds_of_head(reduce(Image(values, image.world), WORKING_MM))


def cavity_on_ct(image: Image) -> Region | None:
    """The cranial cavity of a CT, on a grid of about 3 mm; None where no body of soft tissue looks like one."""
    clipped = np.clip(image.voxels, -1000.0, 1000.0)  # a block with a little bone must not pass for soft tissue
    coarse = reduce(Image(clipped, image.world), WORKING_MM)
    low, high = SOFT_TISSUE_HU
    tissue = (coarse.voxels > low) & (coarse.voxels < high)
    if not tissue.any():
        return None
    depth = ndimage.distance_transform_edt(np.pad(tissue, 1), sampling=coarse.grid.spacing)[1:-1, 1:-1, 1:-1]
    for erosion in EROSIONS_MM:
        region = _body(coarse.world, tissue, depth, erosion)
        if region is not None:
            return region
    return None


def _body(world: World, tissue: NDArray[np.bool_], depth: NDArray[np.float64], erosion: float) -> Region | None:
    """The highest body after an erosion that, grown back and closed, may be a cranial cavity; None where none may."""
    lengths = np.linalg.norm(world[:3, :3], axis=0)
    labels, _ = ndimage.label(depth > erosion)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    least = 1000 * LEAST_ML / abs(np.linalg.det(world[:3, :3]))
    large = [int(label) for label in np.argsort(-counts)[:4] if counts[label] > least / 8]
    heights = {label: float((np.argwhere(labels == label) @ world[2, :3]).max()) for label in large}
    vertex = float((np.argwhere(tissue) @ world[2, :3]).max())
    large = [label for label in large if heights[label] > vertex - BELOW_VERTEX_MM]
    for label in sorted(large, key=lambda item: -heights[item]):
        core = labels == label
        if erosion:
            reach = ndimage.distance_transform_edt(~core, sampling=lengths)
            core = tissue & (reach <= erosion + float(lengths.min()))
        region = fill(closing(region_from_mask(core, world), 2 * WORKING_MM))
        extents = np.ptp(region.points(), axis=0)
        if region.volume >= 1000 * LEAST_ML and bool((extents <= LARGEST_MM).all()):
            return region
    return None


def _bounds_of_head(coarse: Image) -> Bounds | None:
    """The cavity of an MR image from the outline of the head below its vertex."""
    low, high = (float(value) for value in np.percentile(coarse.voxels, (1, 99)))
    if high <= low:
        return None
    bright = coarse.voxels > low + 0.15 * (high - low)
    for axis in range(3):  # scalp, dark bone and brain become one body
        planes = np.moveaxis(bright, axis, 0)
        for number, plane in enumerate(planes):
            planes[number] = ndimage.binary_fill_holes(plane)
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, step in enumerate(coarse.grid.spacing):  # thin things go, thick slices do not
        if step > 1.5 * WORKING_MM or bright.shape[axis] < 3:
            cross = cross & (np.indices((3, 3, 3))[axis] == 1)
    head = _largest(ndimage.binary_opening(np.pad(bright, 1, mode="edge"), cross)[1:-1, 1:-1, 1:-1])
    if head is None:
        return None
    points = to_world(np.argwhere(head), coarse.world)
    vertex = float(np.percentile(points[:, 2], 99.95))
    depth = vertex - points[:, 2]
    slab = points[(depth >= min(SLAB_MM[0], depth.max())) & (depth <= SLAB_MM[1])]
    near, far = np.percentile(slab[:, :2], (0.05, 99.95), axis=0)
    near, far = near + WALL_MM, far - WALL_MM
    if (far <= near).any():
        return None
    top = vertex - WALL_MM
    bottom = top - HEIGHT_SHARE * float(far[1] - near[1])
    return (float(near[0]), float(near[1]), bottom), (float(far[0]), float(far[1]), top)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The largest body of a mask; None where it is empty."""
    labels, count = ndimage.label(mask)
    if not count:
        return None
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
