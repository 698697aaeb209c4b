"""Random grids and regions for the tests of `vp_model.imaging`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vp_model.imaging.region import Region, region_from_mask


@st.composite
def worlds(draw: st.DrawFn, shear: bool = True) -> NDArray[np.float64]:
    """World matrices: rotated, anisotropic, translated, and sheared as by a gantry tilt."""
    spacing = [draw(st.floats(0.5, 4.0)) for _ in range(3)]
    angles = [round(draw(st.floats(-180, 180)), 3) for _ in range(3)]  # SimpleITK does not take denormals
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    tilt = np.eye(3)
    if shear and draw(st.booleans()):
        tilt[1, 2] = np.tan(np.radians(draw(st.floats(-25, 25))))
    world = np.eye(4)
    world[:3, :3] = matrix @ tilt @ np.diag(spacing)
    world[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    return world


@st.composite
def masks(draw: st.DrawFn, filled: bool = True) -> NDArray[np.bool_]:
    """Random blobs of up to 10 voxels along an axis, with some background around."""
    shape = tuple(draw(st.integers(3, 10)) for _ in range(3))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = chance.random(shape) < draw(st.floats(0.02, 0.7))
    if filled and not mask.any():
        mask[tuple(size // 2 for size in shape)] = True
    return mask


def region(mask: NDArray[np.bool_], world: NDArray[np.float64] | None = None) -> Region:
    return region_from_mask(mask, np.eye(4) if world is None else world)


def ellipsoid(
    radii: tuple[float, float, float], world: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Voxels whose centre lies in an ellipsoid around the middle of the grid, axes along RAS."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    points = indices @ world[:3, :3].T + world[:3, 3]
    centre = world[:3, :3] @ ((np.asarray(shape) - 1) / 2) + world[:3, 3]
    inside: NDArray[np.bool_] = (((points - centre) / np.asarray(radii)) ** 2).sum(axis=-1) <= 1
    return inside
