"""Volume: an image with its place in the world, its date and its session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Shape, spacing


@dataclass(frozen=True, eq=False)
class Volume:
    """One acquired image.

    Attributes:
        features: (c, w, h, d) float32 in stored units (CT: Hounsfield units). c is 1 for the images that m reads.
        world: 4×4, voxel index → RAS mm; oblique, anisotropic and sheared matrices are as good as any.
        name: its variable name in the program: v1, v2, …
        kind: T1, T2, FLAIR, PD, GRE, SWI, DWI, ADC, CT, … or `unknown`.
        visit: date of acquisition, where known.
        session: 0 for the earliest session, then 1, 2, …
    """

    features: torch.Tensor
    world: NDArray[np.float64]
    name: str = ""
    kind: str = "unknown"
    visit: date | None = None
    session: int = 0

    def __post_init__(self) -> None:
        if self.features.ndim != 4:
            raise ValueError(f"A volume's features have four axes (c, w, h, d), not {self.features.ndim}.")
        if min(self.features.shape) < 1:
            raise ValueError(f"A volume cannot be empty: its features have the shape {tuple(self.features.shape)}.")
        if self.world.shape != (4, 4) or not np.isfinite(self.world).all():
            raise ValueError("A volume's world matrix is a finite 4×4 array.")
        if abs(np.linalg.det(self.world[:3, :3])) < 1e-9:
            raise ValueError("A volume's world matrix must be invertible: two of its axes coincide.")

    @property
    def shape(self) -> Shape:
        """(w, h, d) in voxels."""
        _, w, h, d = self.features.shape
        return int(w), int(h), int(d)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) mm of one step along each axis."""
        return spacing(self.world)

    @property
    def voxels(self) -> NDArray[np.float32]:
        """(w, h, d) of the first feature."""
        return self.features[0].numpy()

    def named(self, name: str) -> Volume:
        return replace(self, name=name)


def read_nifti(path: Path, kind: str = "unknown", visit: date | None = None, session: int = 0) -> Volume:
    """A 3D NIfTI file as a Volume; NIfTI's world is RAS mm already.

    Raises:
        ValueError: the file holds more than one volume, or values that are no finite numbers throughout.
    """
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3:
        raise ValueError(
            f"Expected one 3D image in {path.name}, found an array of shape {voxels.shape}: split it first."
        )
    if not np.isfinite(voxels).all():
        voxels = np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0)
    world = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    return Volume(torch.from_numpy(np.ascontiguousarray(voxels))[None], world, kind=kind, visit=visit, session=session)


def write_nifti(path: Path, voxels: NDArray[np.generic], world: NDArray[np.float64]) -> None:
    """Voxels (w, h, d) on `world` as a NIfTI file, millimetres, scanner coordinates."""
    image = nibabel.Nifti1Image(voxels, world)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
