"""Operations that put a volume, or a region's distances, on another grid; and a region into another session's frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vp_model.imaging import conform, cranium, intensity, morphology
from vp_model.imaging.grid import Grid, resample
from vp_model.imaging.intensity import Image
from vp_model.imaging.region import Region
from vp_model.outcome import InputVolume
from vp_model.program.errors import ProgramError
from vp_model.program.measures import missing_reason, whole_region
from vp_model.program.regions import in_session, single_visit
from vp_model.program.state import State
from vp_model.program.values import DerivedImage, Part, Roi, Visit, VolumeReference

MAXIMUM_GROWTH = 64
"""Times as many voxels as the source that a resampled image may have."""


def resampled(state: State, reference: VolumeReference, step: float) -> DerivedImage:
    image = state.images[reference.volume.name]
    if step <= 0:
        raise ProgramError("resample takes a voxel size above 0 mm.")
    extents = np.asarray(image.grid.shape) * image.grid.spacing / step
    voxels = float(np.prod(np.ceil(extents)))
    if voxels > MAXIMUM_GROWTH * image.voxels.size:
        raise ProgramError("resample would make an image many times as large: take a coarser voxel size.")
    state.reserve(int(8 * voxels) + 2 * image.voxels.nbytes, kept=int(4 * voxels))
    return DerivedImage("resample", reference.volume, conform.resample_spacing(image, step), None)


def reoriented(state: State, reference: VolumeReference, target: str) -> DerivedImage:
    image = state.images[reference.volume.name]
    state.reserve(image.voxels.nbytes, kept=image.voxels.nbytes)
    return DerivedImage("reorient", reference.volume, conform.reorient(image, target), None)


def padded(state: State, reference: VolumeReference, margin: float) -> DerivedImage:
    """Air of `margin` mm on every side, in whole voxels."""
    image = state.images[reference.volume.name]
    steps = [int(np.ceil(margin / size - 1e-6)) for size in image.grid.spacing]
    size = 4 * int(np.prod([n + 2 * step for n, step in zip(image.voxels.shape, steps, strict=True)]))
    state.reserve(2 * size, kept=size)
    return DerivedImage("pad", reference.volume, intensity.pad(image, steps, steps, intensity.background(image)), None)


def crop_cavity(state: State, reference: VolumeReference, margin: float) -> DerivedImage:
    image = state.images[reference.volume.name]
    state.reserve(4 * image.voxels.nbytes, kept=image.voxels.nbytes)
    return DerivedImage("crop", reference.volume, cranium.cranial_crop(image, reference.volume.kind, margin), None)


def distance_map(state: State, reference: VolumeReference, roi: Roi) -> DerivedImage:
    """Signed distance in mm to the region, negative inside, on the volume's grid.

    On sheared axes it is computed on an orthogonal grid of the finest step and brought back by interpolation.
    """
    chosen = in_session(state, roi, reference)
    image = state.images[reference.volume.name]
    state.reserve(48 * image.voxels.size, kept=image.voxels.nbytes)
    region = whole_region(state, chosen).on(image.grid)
    if region.empty:
        return DerivedImage("distance map", reference.volume, image, chosen, missing=missing_reason(roi))
    return DerivedImage("distance map", reference.volume, Image(distances(region), image.world), chosen)


def distances(region: Region) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    axes = region.grid.world[:3, :3] / region.grid.spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4:
        return morphology.distance_map(region)
    around = orthogonal_grid(region.grid)
    there = region.on(around)
    if there.empty:
        return np.full(region.grid.shape, np.inf, dtype=np.float32)
    return resample(morphology.distance_map(there), around.world, region.grid)


def orthogonal_grid(grid: Grid) -> Grid:
    """A grid along the anatomical axes, of the finest step, that reaches a step beyond all voxels of another."""
    step = float(grid.spacing.min())
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in grid.shape], indexing="ij")).reshape(3, -1).T
    points = corners @ grid.world[:3, :3].T + grid.world[:3, 3]
    low = points.min(axis=0) - 2 * step
    size = np.ceil((points.max(axis=0) - low) / step).astype(int) + 3
    world = np.diag([step, step, step, 1.0])
    world[:3, 3] = low
    return Grid((int(size[0]), int(size[1]), int(size[2])), world)


def align_to(state: State, roi: Roi, when: Visit) -> Roi:
    """The region where it lies in another session's frame: its volume is laid on that session's by registration.

    It can be compared there; it is not shown, because it is no mask of that session's volumes.
    """
    here = single_visit(roi)
    if here == when:
        return roi
    fixed = _first_volume(state, when, roi)
    moving = _first_volume(state, here, roi)
    transform = _transform(state, fixed, moving)
    parts = []
    for part in roi.parts:
        grid = Grid(part.region.grid.shape, transform @ part.region.grid.world)
        parts.append(Part(part.side, when, (), replace(part.region, grid=grid)))
    return replace(roi, parts=tuple(parts), suffix=f"{roi.suffix} of {here} aligned to {when}")


def _first_volume(state: State, when: Visit, roi: Roi) -> InputVolume:
    """The volume to register: one of the kind that the region was found on, else the first of the session."""
    members = [volume for volume in state.volumes.values() if state.visit(volume) == when]
    if not members:
        raise ProgramError(f"There is no volume of {when}.")
    kinds = [state.volumes[name].kind for part in roi.parts for name in part.volumes]
    return next((volume for volume in members if volume.kind in kinds), members[0])


def _transform(
    state: State, fixed: InputVolume, moving: InputVolume
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    from vp_model.imaging.registration import RegistrationError, register  # SimpleITK: only where a program aligns

    key = (fixed.name, moving.name)
    if key not in state.transforms:
        one, other = state.images[fixed.name], state.images[moving.name]
        state.reserve(8 * (one.voxels.nbytes + other.voxels.nbytes), kept=0)
        try:
            state.transforms[key] = register(one, other).world_transform
        except RegistrationError as error:
            raise ProgramError(f"{moving.name} cannot be laid on {fixed.name}: {error}") from error
    return state.transforms[key]
