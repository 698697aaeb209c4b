"""The source images of a volume, with one geometry for all: what SEG, SR and derived images refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from vp_node.results.model import ResultError
from vp_node.results.uids import frame_of_reference_uid
from vp_node.studies.frames import FrameHeader, frame_headers
from vp_node.studies.model import ChosenVolume, FrameReference

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between RAS, the node's frame, and LPS, DICOM's: its own inverse."""

POSITION_TOLERANCE = 0.05
"""Part of the slice spacing by which a source's own position may differ from the volume's and still be taken: a viewer
matches frames by position, so that the source's own number is better than one that was fitted."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Planes of a volume in LPS mm (PS3.3 C.7.6.2)."""

    orientation: tuple[float, ...]
    """Six cosines: direction of a row, then of a column."""
    positions: tuple[tuple[float, float, float], ...]
    """Centre of the first pixel of each slice."""
    pixel_spacing: tuple[float, float]
    """mm between rows, then between columns."""
    slice_thickness: float
    spacing_between_slices: float
    """mm along the normal of the planes: of a tilted stack less than between the positions."""


@dataclass(frozen=True, eq=False)
class Source:
    """A chosen volume and the headers of its images."""

    chosen: ChosenVolume
    headers: tuple[Dataset, ...]
    """One for each instance, without pixels, in order of its first slice."""
    frames: tuple[FrameHeader, ...]
    """One for each slice; empty where the slice never came."""
    geometry: Geometry

    @property
    def first(self) -> Dataset:
        return self.headers[0]

    @property
    def frame_of_reference_uid(self) -> str:
        volume = self.chosen.volume
        return volume.frame_of_reference_uid or frame_of_reference_uid(volume.series_instance_uid)

    def reference(self, index: int) -> FrameReference:
        return self.chosen.volume.frames[index]


def read_sources(volumes: Sequence[ChosenVolume]) -> tuple[Source, ...]:
    """Headers of all volumes, each file read once.

    Raises:
        ResultError: a file is gone or holds another instance.
    """
    read: dict[Path, Dataset] = {}
    return tuple(_source(chosen, read) for chosen in volumes)


def _source(chosen: ChosenVolume, read: dict[Path, Dataset]) -> Source:
    volume = chosen.volume
    headers: dict[str, Dataset] = {}
    of_instance: dict[str, tuple[FrameHeader, ...]] = {}
    frames = []
    for frame in volume.frames:
        if frame.is_missing:
            frames.append(FrameHeader())
            continue
        if frame.sop_instance_uid not in headers:
            header = _header(frame, read)
            headers[frame.sop_instance_uid] = header
            count = max(1, int(header.get("NumberOfFrames") or 1))
            of_instance[frame.sop_instance_uid] = frame_headers(header, count)
        frames.append(of_instance[frame.sop_instance_uid][(frame.frame_number or 1) - 1])
    if not headers:
        raise ResultError(f"The volume {chosen.name} has no image at all.")
    return Source(chosen, tuple(headers.values()), tuple(frames), _geometry(chosen, frames))


def _header(frame: FrameReference, read: dict[Path, Dataset]) -> Dataset:
    if frame.path not in read:
        try:
            read[frame.path] = dcmread(frame.path, stop_before_pixels=True)
        except FileNotFoundError as error:
            raise ResultError("A source image is gone. Send the study again.") from error
    header = read[frame.path]
    if str(header.get("SOPInstanceUID", "")) != frame.sop_instance_uid:
        raise ResultError("A source file holds another instance than when the study came in. Send the study again.")
    return header


def _geometry(chosen: ChosenVolume, frames: Sequence[FrameHeader]) -> Geometry:
    """The source's own numbers where they agree with the volume's matrix, otherwise the matrix's."""
    lps = LPS @ chosen.volume.world
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / lengths
    orientation = tuple(float(value) for value in axes[:, :2].T.ravel())
    stated = next((frame for frame in frames if frame.orientation is not None), FrameHeader())
    if stated.orientation is not None and np.allclose(stated.orientation, orientation, atol=1e-4):
        orientation = _orthonormal(stated.orientation)
    pixel_spacing = (float(lengths[1]), float(lengths[0]))
    if stated.pixel_spacing is not None and np.allclose(stated.pixel_spacing, pixel_spacing, rtol=1e-4):
        pixel_spacing = stated.pixel_spacing
    between = float(abs(np.dot(np.cross(orientation[:3], orientation[3:]), lps[:3, 2])))
    positions = []
    for index, frame in enumerate(frames):
        fitted = lps[:3, 3] + index * lps[:3, 2]
        own = None if frame.position is None else np.asarray(frame.position)
        near = own is not None and np.linalg.norm(own - fitted) <= POSITION_TOLERANCE * lengths[2]
        chosen_position = own if near and own is not None else fitted
        positions.append((float(chosen_position[0]), float(chosen_position[1]), float(chosen_position[2])))
    thickness = next((frame.slice_thickness for frame in frames if frame.slice_thickness), None)
    return Geometry(orientation, tuple(positions), pixel_spacing, thickness or between, between)


def _orthonormal(stated: Sequence[float]) -> tuple[float, ...]:
    """The stated directions, as they are where they are orthogonal unit vectors to six digits."""
    axes: NDArray[np.float64] = np.asarray(stated, dtype=np.float64).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-6):
        row = axes[0] / np.linalg.norm(axes[0])
        column = axes[1] - np.dot(axes[1], row) * row
        axes = np.stack([row, column / np.linalg.norm(column)])
    return tuple(float(value) for value in axes.ravel())
