"""Segmentations written frame by frame are those that highdicom writes from a dense array."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pytest
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import Segmentation
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from tests.vp_node.results_support.cases import chosen, classic, encoded, mask_of, on_the_left, outcome_of, volumes_in
from tests.vp_node.results_support.cases import written as write_all
from tests.vp_node.results_support.tools import dciodvfy_errors
from vp_node.results import check_file
from vp_node.results.model import Form, Wanted
from vp_node.results.segment_frames import put_frames
from vp_node.results.segmentation import _TYPES
from vp_node.results.sources import Source, read_sources

FORMS: tuple[Form, ...] = ("binary", "labelmap", "fractional")


def by_highdicom(source: Source, masks: list[np.ndarray], form: Form, template: Dataset) -> Dataset:
    """The same segmentation as highdicom alone makes it, from all slices and segments in one array."""
    images = []
    for index, position in enumerate(source.geometry.positions):
        image = Dataset()
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(image, keyword, "")
        image.StudyID = image.AccessionNumber = image.ReferringPhysicianName = ""
        image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"2.25.{index + 1}"
        image.StudyInstanceUID, image.SeriesInstanceUID = "2.25.100", "2.25.101"
        image.FrameOfReferenceUID, image.Modality = source.frame_of_reference_uid, "MR"
        image.PositionReferenceIndicator = ""
        image.Columns, image.Rows = masks[0].shape[:2]
        image.ImageOrientationPatient = list(source.geometry.orientation)
        image.ImagePositionPatient = list(position)
        image.PixelSpacing, image.SliceThickness = list(source.geometry.pixel_spacing), 1.0
        images.append(image)
    stacked = np.stack([mask.transpose(2, 1, 0) for mask in masks], axis=-1)
    pixels = stacked.astype(np.float32 if form == "fractional" else np.uint8)
    if form == "labelmap":
        pixels = (pixels * np.arange(1, len(masks) + 1, dtype=np.uint8)).max(axis=-1)
    descriptions = [
        highdicom.seg.SegmentDescription.from_dataset(item) for item in template.SegmentSequence if item.SegmentNumber
    ]
    return Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=_TYPES[form],
        fractional_type="OCCUPANCY",
        max_fractional_value=255,
        segment_descriptions=descriptions,
        series_instance_uid="2.25.7",
        series_number=1,
        sop_instance_uid="2.25.8",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian if form == "binary" else RLELossless,
        pixel_measures=PixelMeasuresSequence(source.geometry.pixel_spacing, 1.0, 1.0),
        plane_orientation=PlaneOrientationSequence(CoordinateSystemNames.PATIENT, source.geometry.orientation),
        plane_positions=[
            PlanePositionSequence(CoordinateSystemNames.PATIENT, position) for position in source.geometry.positions
        ],
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("geometry", ["axial", "sagittal", "oblique", "tilted"])
@pytest.mark.parametrize("count", [1, 3])
def test_frames_are_those_of_highdicom(form: Form, geometry: str, count: int, tmp_path: Path) -> None:
    classic(tmp_path / "in", geometry)
    items = chosen(volumes_in(tmp_path / "in"))
    masks, seen = [], np.zeros(items[0].volume.shape, bool)
    for seed in range(count):
        voxels = on_the_left(items[0].volume, seed) & ~seen
        voxels[:, :, :seed] = False
        seen |= voxels if form == "labelmap" else False
        masks.append(voxels)
    named = ("hippocampus", "thalamus", "putamen")
    outcome = outcome_of(
        items, masks=tuple(mask_of(items[0], f"m{n}", named[n], "left", voxels) for n, voxels in enumerate(masks))
    )
    made = next(
        item.dataset
        for item in encoded(outcome, items, wanted=Wanted(forms=(form,)))
        if item.role == "seg" and item.form == form
    )
    (source,) = read_sources(items)
    expected = by_highdicom(source, masks, form, made)
    assert made.PixelData == expected.PixelData
    for keyword in (
        "NumberOfFrames",
        "Rows",
        "Columns",
        "SegmentsOverlap",
        "DimensionOrganizationType",
        "BitsAllocated",
        "SegmentationType",
        "PhotometricInterpretation",
        "PixelPaddingValue",
    ):
        if (keyword, form) != (
            "SegmentsOverlap",
            "fractional",
        ):  # highdicom leaves it undefined, ours says what is true
            assert made.get(keyword) == expected.get(keyword), keyword
    assert made.SharedFunctionalGroupsSequence[0].keys() == expected.SharedFunctionalGroupsSequence[0].keys()
    groups = zip(made.PerFrameFunctionalGroupsSequence, expected.PerFrameFunctionalGroupsSequence, strict=True)
    for ours, theirs in groups:
        assert ours.FrameContentSequence == theirs.FrameContentSequence
        assert ours.PlanePositionSequence == theirs.PlanePositionSequence
        assert ours.get("SegmentIdentificationSequence") == theirs.get("SegmentIdentificationSequence")
        one, other = ours.DerivationImageSequence[0], theirs.DerivationImageSequence[0]
        assert one.DerivationCodeSequence == other.DerivationCodeSequence
        assert one.SourceImageSequence[0].keys() == other.SourceImageSequence[0].keys()


@pytest.mark.parametrize("shape", [(7, 5, 3), (8, 4, 3), (3, 3, 9)])
def test_bits_are_packed_across_frames_of_any_size(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    masks = [generator.random(shape) < 0.5 for _ in range(3)]
    dataset = Dataset()
    dataset.BitsAllocated = 1
    positions = [(0.0, 0.0, float(-k)) for k in range(shape[2])]
    put_frames(dataset, masks, "binary", positions, (1, 0, 0, 0, 1, 0), [None] * shape[2], ExplicitVRLittleEndian)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    size = shape[0] * shape[1]
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        k = int(-group.PlanePositionSequence[0].ImagePositionPatient[2])
        frame = bits[index * size : (index + 1) * size].reshape(shape[1], shape[0])
        assert np.array_equal(frame.astype(bool), masks[number - 1][:, :, k].T)


def test_label_maps_of_overlapping_segments_are_several(tmp_path: Path) -> None:
    classic(tmp_path / "in", "oblique")
    items = chosen(volumes_in(tmp_path / "in"))
    volume = items[0].volume
    masks = tuple(
        mask_of(items[0], f"m{n}", name, "left", on_the_left(volume, n))
        for n, name in enumerate(("hippocampus", "thalamus", "putamen"))
    )
    objects = encoded(outcome_of(items, masks=masks), items, wanted=Wanted(forms=("labelmap",)))
    maps = [item for item in objects if item.form == "labelmap" and item.role == "seg"]
    assert len(maps) > 1
    labels = [
        segment.SegmentLabel for item in maps for segment in item.dataset.SegmentSequence if segment.SegmentNumber
    ]
    assert sorted(labels) == ["left hippocampus", "left putamen", "left thalamus"]
    reports = [item for item in objects if item.role == "sr"]
    assert [item.form for item in reports] == ["labelmap", "binary"]
    paths = write_all(objects, tmp_path / "out")
    for path, item in zip(paths, objects, strict=True):
        assert check_file(path) == [], item
        if item.form != "labelmap" or item.role == "sr":
            assert dciodvfy_errors(path) == []
    read = dcmread(paths[-2])
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for study in read.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert {item.sop_instance_uid for item in maps} <= named


@pytest.mark.parametrize("form", ["labelmap", "fractional"])
def test_other_forms_hold_the_same_voxels(form: Form, tmp_path: Path) -> None:
    classic(tmp_path / "in", "sagittal")
    items = chosen(volumes_in(tmp_path / "in"))
    mask = mask_of(items[0], "m", "hippocampus", "left", on_the_left(items[0].volume))
    objects = encoded(outcome_of(items, masks=(mask,)), items, wanted=Wanted(forms=(form,)))
    (made,) = (item for item in objects if item.role == "seg" and item.form == form)
    (path,) = write_all([made], tmp_path / "out")
    read = dcmread(path)
    planes = read.pixel_array.reshape(-1, read.Rows, read.Columns)
    assert int((planes > 0).sum()) == int(mask.voxels.sum())
    assert set(np.unique(planes)) == {0, 1 if form == "labelmap" else 255}
