"""References that resolve: to the sources, and between the objects of one run; and geometry equal to the source's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from vp_node.results.rules.problems import Problem
from vp_node.results.rules.report import evidence, segment_references
from vp_node.results.rules.segmentation import named_sources
from vp_node.studies.frames import FrameHeader, frame_headers
from vp_node.studies.tiles import Tiles, tiles_of

POSITION_TOLERANCE_MM = 0.01
"""A frame lies on its source's plane."""
ORIENTATION_TOLERANCE = 1e-4
SPACING_TOLERANCE = 1e-3
"""Relative."""
_SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})


def against_sources(dataset: Dataset, headers: Mapping[str, Dataset]) -> Iterator[Problem]:
    """Whether an object fits the images that it was made from.

    Args:
        headers: of the sources, by SOP Instance UID.
    """
    own = [header for header in headers.values() if header.StudyInstanceUID == dataset.StudyInstanceUID]
    if headers and not own:
        yield "same-study", "none of the sources is of its study"
        return
    if any(header.get("PatientID") != dataset.get("PatientID") for header in own):
        yield "same-study", "Patient ID"
    if any(header.SeriesInstanceUID == dataset.SeriesInstanceUID for header in headers.values()):
        yield "own-series", ""
    if dataset.SOPClassUID in _SEGMENTATIONS:
        yield from _frames_on_sources(dataset, headers)
    elif dataset.get("ImagePositionPatient") is not None:
        yield from _image_on_source(dataset, headers)


def within_run(dataset: Dataset, objects: Mapping[str, Dataset], headers: Mapping[str, Dataset]) -> Iterator[Problem]:
    """Whether everything that an object refers to is one of the run's objects or sources, of the class that it says.

    Args:
        objects: of the run, by SOP Instance UID.
        headers: of the sources, by SOP Instance UID.
    """
    named = _named(dataset)
    dangling = [uid for uid in named if uid not in objects and uid not in headers]
    if dangling:
        yield "resolves", f"{len(dangling)} do(es) not"
    for uid, sop_class in named.items():
        target = objects.get(uid) or headers.get(uid)
        if target is not None and sop_class and str(target.SOPClassUID) != sop_class:
            yield "resolves", "to another SOP class"
    for uid, number, tracking in segment_references(dataset):
        target = objects.get(uid)
        segments = {int(item.SegmentNumber): item for item in (target.get("SegmentSequence") or [] if target else [])}
        if number not in segments:
            yield "resolves", f"segment {number}"
        elif str(segments[number].get("TrackingUID", "")) != tracking:
            yield "same-tracking", f"segment {number}"


def _named(dataset: Dataset) -> dict[str, str]:
    """SOP Instance UID → SOP Class UID of what an object refers to, a predecessor apart."""
    found = evidence(dataset)
    for series in dataset.get("ReferencedSeriesSequence") or []:
        for item in series.get("ReferencedInstanceSequence") or []:
            found[str(item.ReferencedSOPInstanceUID)] = str(item.ReferencedSOPClassUID)
    for keyword in ("SourceImageSequence", "ReferencedImageSequence"):
        for item in dataset.get(keyword) or []:
            found[str(item.ReferencedSOPInstanceUID)] = str(item.ReferencedSOPClassUID)
    for uid in named_sources(dataset.get("PerFrameFunctionalGroupsSequence") or []):
        found.setdefault(uid, "")
    return found


def _frames_on_sources(dataset: Dataset, headers: Mapping[str, Dataset]) -> Iterator[Problem]:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.asarray(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    read: dict[str, tuple[FrameHeader, ...]] = {}
    told: set[str] = set()
    for group in dataset.PerFrameFunctionalGroupsSequence:
        here = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for derivation in group.get("DerivationImageSequence") or []:
            for item in derivation.get("SourceImageSequence") or []:
                uid = str(item.ReferencedSOPInstanceUID)
                header = headers.get(uid)
                if header is None:
                    continue
                tiles = None
                if item.get("SpatialLocationsPreserved") == "NO":
                    tiles = tiles_of(header, int(header.get("Columns") or 0), int(header.get("Rows") or 0))
                if uid not in read:
                    read[uid] = frame_headers(header, max(1, int(header.get("NumberOfFrames") or 1)))
                    yield from _grid(dataset, header, tiles)
                if tiles is not None:
                    if not any(
                        np.allclose(place, here, atol=POSITION_TOLERANCE_MM, rtol=0) for place in tiles.positions
                    ):
                        yield "on-source", "no tile of the source lies there"
                    continue
                number = int(item.get("ReferencedFrameNumber") or 1)
                if number > len(read[uid]):
                    yield "resolves", f"frame {number}"
                    continue
                for rule, detail in _plane(read[uid][number - 1], here, orientation, spacing):
                    if (key := f"{rule} {detail}") not in told:
                        told.add(key)
                        yield rule, detail


def _grid(dataset: Dataset, header: Dataset, tiles: Tiles | None) -> Iterator[Problem]:
    stated = header.get("FrameOfReferenceUID")
    if stated and stated != dataset.get("FrameOfReferenceUID"):
        yield "same-frame-of-reference", ""
    size = (tiles.rows, tiles.columns) if tiles is not None else (header.get("Rows"), header.get("Columns"))
    if size != (dataset.get("Rows"), dataset.get("Columns")):
        yield "on-source", "rows and columns differ"


def _plane(frame: FrameHeader, here: np.ndarray, orientation: np.ndarray, spacing: np.ndarray) -> Iterator[Problem]:
    if frame.position is not None and not np.allclose(frame.position, here, atol=POSITION_TOLERANCE_MM, rtol=0):
        yield "on-source", f"{np.linalg.norm(np.subtract(frame.position, here)):.3f} mm off"
    if frame.orientation is not None and not np.allclose(frame.orientation, orientation, atol=ORIENTATION_TOLERANCE):
        yield "on-source", "the orientation differs"
    if frame.pixel_spacing is not None and not np.allclose(frame.pixel_spacing, spacing, rtol=SPACING_TOLERANCE):
        yield "on-source", "the pixel spacing differs"


def _image_on_source(dataset: Dataset, headers: Mapping[str, Dataset]) -> Iterator[Problem]:
    """A derived image has the directions and the Frame of Reference of its source."""
    for item in dataset.get("SourceImageSequence") or []:
        header = headers.get(str(item.ReferencedSOPInstanceUID))
        if header is None:
            continue
        stated = header.get("FrameOfReferenceUID")
        if stated and stated != dataset.get("FrameOfReferenceUID"):
            yield "same-frame-of-reference", ""
        frames = frame_headers(header, max(1, int(header.get("NumberOfFrames") or 1)))
        number = int(item.get("ReferencedFrameNumber") or 1)
        if number > len(frames):
            yield "resolves", f"frame {number}"
            continue
        orientation = frames[number - 1].orientation
        if orientation is not None and not np.allclose(
            orientation, np.asarray(dataset.ImageOrientationPatient, float), atol=ORIENTATION_TOLERANCE
        ):
            yield "on-source", "the orientation differs"


def is_segmentation(uid: str | UID) -> bool:
    return str(uid) in _SEGMENTATIONS
