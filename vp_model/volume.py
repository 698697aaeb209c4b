"""Volume: an image with its place in the world, its date and its session."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from nibabel.analyze import AnalyzeHeader
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from vp_model.geometry import Shape, spacing

_WORLD_KEY = "voxel_to_ras_mm"
_COMMENT = 6
"""Code of a comment among NIfTI's header extensions."""
_MILLIMETRES = {1: 1000.0, 3: 0.001}
"""NIfTI's codes of metres and micrometres: how many millimetres one is."""


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
    """A 3D NIfTI file as a Volume; NIfTI's world is RAS already, and in mm unless its header names another unit.

    Values that are no finite numbers become 0.

    Raises:
        ValueError: see `read_voxels`; or the values are no single real numbers.
    """
    stored, world = read_voxels(path)
    if stored.dtype.names or stored.dtype.kind not in "biuf":
        held = "colours" if stored.dtype.names else "complex numbers"
        raise ValueError(f"{path.name} holds {held}: m reads one real number for each voxel.")
    voxels = stored.astype(np.float32)
    if not np.isfinite(voxels).all():
        voxels = np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0)
    return Volume(torch.from_numpy(np.ascontiguousarray(voxels))[None], world, kind=kind, visit=visit, session=session)


def read_voxels(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Voxels (w, h, d) in the type in which they are stored (scaled ones as float64), and index → RAS mm.

    What `write_nifti` wrote comes back as it was, bit by bit: voxels, type and matrix.

    Raises:
        ValueError: the file is no image, is cut off or broken, holds more than one volume, or does not say how it lies
            in the patient, so that left could not be told from right.
    """
    try:
        return _read(path)
    except (nibabel.filebasedimages.ImageFileError, HeaderDataError, OverflowError, zlib.error, EOFError) as error:
        raise ValueError(f"{path.name} is no image that can be read: {error}") from error


def _read(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    image = nibabel.load(path)
    header = image.header
    # Analyze 7.5, from which NIfTI comes, has no place for a matrix.
    placed = not isinstance(header, AnalyzeHeader) or isinstance(header, nibabel.Nifti1Header)
    if not placed or (isinstance(header, nibabel.Nifti1Header) and not (header["sform_code"] or header["qform_code"])):
        raise ValueError(
            f"{path.name} does not say how it lies in the patient (it has neither an sform nor a qform), so that left "
            "cannot be told from right: give it one."
        )
    proxy: Any = image.dataobj  # type: ignore[attr-defined]
    unscaled = isinstance(proxy, ArrayProxy) and (proxy.slope, proxy.inter) == (1.0, 0.0)
    voxels = np.asarray(proxy.get_unscaled() if unscaled else proxy)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3:
        raise ValueError(
            f"Expected one 3D image in {path.name}, found an array of shape {voxels.shape}: split it first."
        )
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    world = _exact_world(header, np.asarray(image.affine, dtype=np.float64))  # type: ignore[attr-defined]
    return voxels, _in_millimetres(header, world)


def write_nifti(path: Path, voxels: NDArray[np.generic], world: NDArray[np.float64]) -> None:
    """Voxels (w, h, d) on `world` as a NIfTI-1 file, millimetres, scanner coordinates.

    The matrix goes into the sform, which holds shear as well; the qform, which cannot, stays empty unless it agrees.
    An sform has single precision, so the matrix is written in full into a comment too: `read_voxels` takes it from
    there, any other reader from the sform. Truth values become uint8.
    """
    if voxels.dtype == np.bool_:
        voxels = voxels.astype(np.uint8)
    image = nibabel.Nifti1Image(voxels, world, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    image.set_sform(world, code="scanner")
    axes = world[:3, :3] / spacing(world)
    if np.abs(axes.T @ axes - np.eye(3)).max() < 1e-5:
        image.set_qform(world, code="scanner")
    text = json.dumps({_WORLD_KEY: world.tolist()})
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text.encode()))
    nibabel.save(image, path)


def _in_millimetres(header: Any, world: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix, whichever unit of length the header names; most name millimetres, and many name none."""
    unit = int(header["xyzt_units"]) & 7 if isinstance(header, nibabel.Nifti1Header) else 0
    factor = _MILLIMETRES.get(unit, 1.0)
    return world if factor == 1.0 else np.diag([factor, factor, factor, 1.0]) @ world


def _exact_world(header: Any, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix of `write_nifti`'s comment, where there is one that the sform agrees with."""
    for extension in getattr(header, "extensions", ()):
        if extension.get_code() != _COMMENT:
            continue
        content = extension.get_content()
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        if not text.startswith(f'{{"{_WORLD_KEY}"'):
            continue
        try:
            world = np.asarray(json.loads(text.rstrip("\0 "))[_WORLD_KEY], dtype=np.float64)
        except (ValueError, TypeError, KeyError):
            continue  # another program's comment, or a broken one: the sform holds the matrix too
        if world.shape == (4, 4) and np.array_equal(world.astype(np.float32), affine.astype(np.float32)):
            return world
    return affine
