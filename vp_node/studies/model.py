"""The values that the understanding of a study is made of. No pixels, no database, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredLayout:
    """How a frame is stored: little endian, its highest bit the highest of its Bits Stored (PS3.5 8.1)."""

    columns: int
    rows: int
    bits_allocated: int
    """8 or 16."""
    bits_stored: int
    signed: bool
    inverted: bool
    """MONOCHROME1."""
    padding: tuple[int, int] | None
    """The stored values, both ends included, that stand for no measurement (PS3.3 C.7.5.1.1.2)."""
    transfer_syntax_uid: str = ""
    """Of a compressed frame, the only one of its file; empty: native."""

    @property
    def frame_bytes(self) -> int:
        """Of a native frame."""
        return self.columns * self.rows * (self.bits_allocated // 8)


@dataclass(frozen=True)
class StoredFrame:
    """Where the pixels of a frame lie in its file: known since it was indexed, so that nothing is parsed twice.

    It holds for as long as the file has the size and the time of modification that it had then.
    """

    layout: StoredLayout
    offset: int
    """Bytes from the beginning of the file; of a compressed frame, of the value of Pixel Data."""
    slope: float
    intercept: float
    file_state: tuple[int, int]
    """Size in bytes and time of modification in ns."""


@dataclass(frozen=True)
class FrameReference:
    """One stored frame of one SOP Instance, or a tile of it."""

    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    frame_number: int | None = None
    """1-based (PS3.3 C.7.6.6); None for a single-frame object."""
    stored: StoredFrame | None = None
    """None where the pixels are compressed, or stored in an unusual way: then the file is parsed again."""
    tile: tuple[int, int] | None = None
    """Of a frame in which the slices are tiled: column and row of the slice's first pixel. None: the whole frame."""

    @property
    def is_missing(self) -> bool:
        """Whether this stands for a slice that never came."""
        return not self.sop_instance_uid


MISSING_FRAME = FrameReference("", "", Path())
"""The place of a slice that never came, in a volume flagged `missing-slice`: its pixels are unknown."""


@dataclass(frozen=True, eq=False)
class SourceVolume:
    """A stack of frames with one geometry: what the node takes as one volume.

    The voxel index is (column, row, slice), so that an array of it has the shape (columns, rows, slices); `frames[k]`
    holds slice k. The world matrix keeps the step between slices as a vector: a tilted gantry is a shear, not an error.
    """

    identifier: str
    """SHA-256 over the sorted (SOP Instance UID, frame number) pairs, first 32 hexadecimal digits."""
    patient_key: str
    """Issuer and Patient ID, hashed."""
    study_instance_uid: str
    series_instance_uid: str
    series_number: int | None
    series_description: str
    frame_of_reference_uid: str
    modality: str
    """`MR` or `CT`."""
    kind: str
    """Sequence type: `T1`, `T2`, `FLAIR`, `PD`, `GRE`, `SWI`, `DWI`, `ADC`, `CT`, …, or `unknown`."""
    contrast: str
    """`pre`, `post` or `unknown`."""
    evidence: tuple[str, ...]
    """Why `kind` and `contrast` were chosen, in words."""
    shape: tuple[int, int, int]
    world: NDArray[np.float64]
    """4×4, voxel index → RAS mm."""
    frames: tuple[FrameReference, ...]
    visit: date | None
    flags: tuple[str, ...] = ()
    """`missing-slice`, `duplicate-slice`, `irregular-spacing`, `gantry-tilt`, `no-date`… : see `volumes.md`."""
    splits: tuple[tuple[str, str], ...] = ()
    """What told this volume apart in its series: (`echo time`, `4.92`), (`b-value`, `1000`)…"""
    uneven: tuple[tuple[float, FrameReference], ...] = ()
    """Of a stack with varying gaps: the acquired frames, each with its place between the volume's slices, as an index.
    The slices are an even grid then, on which voxels are interpolated; `frames` holds those that lie on it."""

    head: str = "unknown"
    """Whether it shows the head: `yes`, `no` or `unknown`."""
    order_key: str = ""
    """The Accession Number, hashed; empty where there is none."""

    @property
    def sources(self) -> tuple[FrameReference, ...]:
        """Every stored frame that the volume is made of, in order of place."""
        held = (frame for _, frame in self.uneven) if self.uneven else iter(self.frames)
        return tuple(frame for frame in held if not frame.is_missing)

    @property
    def missing_slices(self) -> tuple[int, ...]:
        """Indices of the slices that never came."""
        if self.uneven:
            return ()
        return tuple(index for index, frame in enumerate(self.frames) if frame.is_missing)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along column index, row index and slice index."""
        lengths = np.linalg.norm(self.world[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))


@dataclass(frozen=True)
class SetAside:
    """Instances that are no volume, and why. Set aside is not failed."""

    study_instance_uid: str
    series_instance_uid: str
    series_description: str
    reason: str
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class Understanding:
    """Everything that a set of instances was understood to be: each instance is in a volume or set aside."""

    volumes: tuple[SourceVolume, ...]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True)
class Session:
    """The volumes of one patient on one visit date."""

    patient_key: str
    visit: date | None
    study_instance_uids: tuple[str, ...]
    volumes: tuple[SourceVolume, ...]


@dataclass(frozen=True)
class ChosenVolume:
    """A volume in a volume set, under the name that the program calls it by."""

    name: str
    session: int
    volume: SourceVolume


@dataclass(frozen=True)
class VolumeChoice:
    """Why a volume was taken for a prompt, or was not."""

    volume: SourceVolume
    taken: bool
    reason: str


@dataclass(frozen=True)
class VolumeSet:
    """The input of a run: sessions in order of date, at most eight volumes in each."""

    chosen: tuple[ChosenVolume, ...]
    choices: tuple[VolumeChoice, ...]
