"""The source images of a volume, read without pixels and mended where the SEG encoder would stumble."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DSfloat

from vp_node.results.uids import frame_of_reference_uid
from vp_node.studies.headers import is_enhanced
from vp_node.studies.model import SourceVolume

AGE = re.compile(r"\d{3}[DWMY]")
"""Age String (PS3.5 6.2); what is written otherwise would make the result invalid and is left out."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Sources:
    """The images of one volume, in the order of its slices.

    Attributes:
        datasets: one for each slice that has an image (classic), or the one enhanced object.
        slices: index along the volume's third axis of each classic dataset, or of each frame used of the enhanced one.
        enhanced: whether there is one multi-frame object.
        frame_numbers: of the enhanced object, 1-based, for each of `slices`.
    """

    datasets: tuple[Dataset, ...]
    slices: tuple[int, ...]
    enhanced: bool
    frame_numbers: tuple[int, ...]


def read_sources(volume: SourceVolume) -> Sources:
    """Reads the images of a volume.

    In memory only, so that an object can be written at all: a Frame of Reference UID where the series has none, a
    Slice Thickness where there is none, and one orientation for all slices (they differ by less than the grouping's
    tolerance, and the world matrix holds their common one).
    """
    present = [(index, frame) for index, frame in enumerate(volume.frames) if not frame.is_missing]
    if is_enhanced(present[0][1].sop_class_uid):
        dataset = _mended(dcmread(present[0][1].path, stop_before_pixels=True), volume, classic=False)
        numbers = tuple(frame.frame_number or 1 for _, frame in present)
        return Sources((dataset,), tuple(index for index, _ in present), True, numbers)
    datasets = tuple(
        _mended(dcmread(frame.path, stop_before_pixels=True), volume, classic=True) for _, frame in present
    )
    return Sources(datasets, tuple(index for index, _ in present), False, ())


def slice_position(volume: SourceVolume, index: int) -> tuple[float, float, float]:
    """Image Position (Patient) of a slice: mm, LPS."""
    place = RAS_TO_LPS @ volume.world @ np.array([0.0, 0.0, index, 1.0])
    return (float(place[0]), float(place[1]), float(place[2]))


def orientation(volume: SourceVolume) -> tuple[float, ...]:
    """Image Orientation (Patient): directions of the column index and of the row index, LPS."""
    lps = (RAS_TO_LPS @ volume.world)[:3, :3]
    cosines = lps / np.linalg.norm(lps, axis=0)
    return (*map(float, cosines[:, 0]), *map(float, cosines[:, 1]))


def _mended(dataset: Dataset, volume: SourceVolume, classic: bool) -> Dataset:
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = frame_of_reference_uid(str(dataset.SeriesInstanceUID))
        dataset.PositionReferenceIndicator = ""
    if classic:
        if not dataset.get("SliceThickness"):
            dataset.SliceThickness = DSfloat(volume.spacing[2], auto_format=True)
        cosines = [DSfloat(value, auto_format=True) for value in orientation(volume)]
        dataset.ImageOrientationPatient = MultiValue(DSfloat, cosines)
    if not classic:
        _share_grid(dataset)
    if "PatientAge" in dataset and not AGE.fullmatch(str(dataset.PatientAge)):
        del dataset.PatientAge
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"):
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    for keyword in ("AccessionNumber", "ReferringPhysicianName"):
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


def _share_grid(dataset: Dataset) -> None:
    """Spacing and orientation that an enhanced object repeats frame by frame, also where the encoder looks for them."""
    if not dataset.get("SharedFunctionalGroupsSequence"):
        dataset.SharedFunctionalGroupsSequence = [Dataset()]
    shared, first = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if keyword not in shared and keyword in first:
            setattr(shared, keyword, first[keyword].value)
