"""SEGs lie on their sources bit for bit, whoever reads them, and the left stays left."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from tests.vp_node.results_support.cases import (
    GEOMETRIES,
    chosen,
    classic,
    encoded,
    enhanced,
    hippocampus,
    mask_of,
    on_the_left,
    outcome_of,
    volumes_in,
    written,
)
from tests.vp_node.results_support.tools import dciodvfy_errors, segments_by_dcmqi
from vp_model.outcome import Mask
from vp_node.results import ResultError, check_file, check_with_sources
from vp_node.studies.model import SourceVolume

CASES = [*GEOMETRIES, "enhanced axial", "enhanced oblique", "enhanced sagittal"]


def source(case: str, folder: Path) -> None:
    if case.startswith("enhanced "):
        enhanced(folder, case.removeprefix("enhanced "))
    else:
        classic(folder, case, "CT" if case == "tilted" else "MR")


def places(mask: Mask) -> np.ndarray:
    """RAS mm of the mask's voxels, sorted."""
    return in_order(np.argwhere(mask.voxels) @ mask.world[:3, :3].T + mask.world[:3, 3])


def in_order(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(points.T.round(2))]


def read_by_frames(path: Path, segment: int) -> np.ndarray:
    """RAS mm of a segment's voxels by the plain text of the standard (PS3.3 C.7.6.2.1.1), frame by frame."""
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found = []
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        named = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        if named[0].ReferencedSegmentNumber != segment:
            continue
        rows, columns = np.nonzero(frame)
        origin = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, float)
        found.append(origin + columns[:, None] * axes[0] * between_columns + rows[:, None] * axes[1] * between_rows)
    return in_order(np.concatenate(found) * (-1, -1, 1))


def references(volume: SourceVolume) -> dict[str, Path]:
    return {frame.sop_instance_uid: frame.path for frame in volume.frames if not frame.is_missing}


@pytest.mark.parametrize("case", CASES)
def test_segment_lies_on_the_voxels_that_the_mask_named(case: str, tmp_path: Path) -> None:
    source(case, tmp_path / "in")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = hippocampus(items)
    path = written(encoded(outcome, items), tmp_path / "out")[0]
    assert np.allclose(read_by_frames(path, 1), places(outcome.masks[0]), atol=1e-4)
    assert check_with_sources(path, references(items[0].volume)) == []
    assert dciodvfy_errors(path) == []


def occupied(mask: Mask) -> np.ndarray:
    """The mask's slices that have voxels: those from the first to the last, which an image of ITK holds."""
    slices = np.flatnonzero(mask.voxels.any(axis=(0, 1)))
    return mask.voxels[..., slices[0] : slices[-1] + 1]


@pytest.mark.parametrize("case", CASES)
def test_dcmqi_reads_the_same_voxels(case: str, tmp_path: Path) -> None:
    """Of a tilted stack the voxels only: dcmqi makes an ITK image of it, which has no shear, and so no true place."""
    source(case, tmp_path / "in")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = hippocampus(items)
    path = written(encoded(outcome, items), tmp_path / "out")[0]
    voxels, world = segments_by_dcmqi(path, tmp_path / "itk")[1]
    if case == "tilted":
        assert np.array_equal(voxels, occupied(outcome.masks[0]))
        return
    read = in_order(np.argwhere(voxels) @ world[:3, :3].T + world[:3, 3])
    assert np.allclose(read, places(outcome.masks[0]), atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_simpleitk_reads_the_same_voxels(case: str, tmp_path: Path) -> None:
    """It takes the frames of the file as one stack, which they are for one segment without a gap; the last slice first.

    Of a tilted stack the voxels only, as with dcmqi.
    """
    source(case, tmp_path / "in")
    items = chosen(volumes_in(tmp_path / "in"))
    mask = hippocampus(items).masks[0]
    path = written(encoded(hippocampus(items), items), tmp_path / "out")[0]
    image = SimpleITK.ReadImage(str(path))
    voxels = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0).astype(bool)
    assert np.array_equal(voxels, occupied(mask)[..., ::-1])
    if case != "tilted":
        axes = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        lps = np.argwhere(voxels) @ axes.T + image.GetOrigin()
        assert np.allclose(in_order(lps * (-1, -1, 1)), places(mask), atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_highdicom_finds_each_segment_frame_on_its_source_image(case: str, tmp_path: Path) -> None:
    source(case, tmp_path / "in")
    items = chosen(volumes_in(tmp_path / "in"))
    mask = hippocampus(items).masks[0]
    path = written(encoded(hippocampus(items), items), tmp_path / "out")[0]
    read = highdicom.seg.segread(path)
    frames = items[0].volume.frames
    for index, frame in enumerate(frames):
        expected = mask.voxels[:, :, index].T
        if frame.frame_number is None:
            pixels = read.get_pixels_by_source_instance(
                [frame.sop_instance_uid], segment_numbers=[1], assert_missing_frames_are_empty=True
            )
        else:
            pixels = read.get_pixels_by_source_frame(
                frame.sop_instance_uid,
                [frame.frame_number],
                segment_numbers=[1],
                assert_missing_frames_are_empty=True,
            )
        assert np.array_equal(pixels[0, ..., 0].astype(bool), expected)


@pytest.mark.parametrize("case", CASES)
def test_left_stays_left(case: str, tmp_path: Path) -> None:
    source(case, tmp_path / "in")
    items = chosen(volumes_in(tmp_path / "in"))
    volume = items[0].volume
    path = written(encoded(hippocampus(items), items), tmp_path / "out")[0]
    index = np.stack(np.meshgrid(*(np.arange(size) for size in volume.shape), indexing="ij"), axis=-1)
    middle = np.median(index @ volume.world[0, :3] + volume.world[0, 3])
    assert read_by_frames(path, 1)[:, 0].max() < middle
    modifier = dcmread(path).SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    assert modifier.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"


def test_overlapping_segments_and_private_names_are_kept_apart(tmp_path: Path) -> None:
    classic(tmp_path / "in", "oblique")
    items = chosen(volumes_in(tmp_path / "in"))
    volume = items[0].volume
    masks = (
        mask_of(items[0], "mask-1", "hippocampus", "left", on_the_left(volume)),
        mask_of(items[0], "mask-2", "tissue around hippocampus", "left", on_the_left(volume, 1)),
        mask_of(items[0], "mask-3", "white matter lesion", "", on_the_left(volume, 2)),
        mask_of(items[0], "mask-4", "white matter lesion", "", on_the_left(volume, 3), experimental=True),
        mask_of(items[0], "mask-5", "edema", "", np.zeros(volume.shape, bool)),
    )
    path = written(encoded(outcome_of(items, masks=masks), items), tmp_path / "out")[0]
    assert check_file(path) == [] and dciodvfy_errors(path) == []
    segments = dcmread(path).SegmentSequence
    assert len(segments) == 4
    for number, mask in enumerate(masks[:4], 1):
        assert np.allclose(read_by_frames(path, number), places(mask), atol=1e-4)
    assert segments[1].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99VOXELPROMPT"
    assert segments[2].SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert len({item.TrackingUID for item in segments}) == 4
    assert "experimental" in segments[3].SegmentLabel


def test_slice_that_never_came_has_voxels_but_no_source(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial", skip=(4,))
    items = chosen(volumes_in(tmp_path / "in"))
    volume = items[0].volume
    assert volume.missing_slices == (4,)
    mask = mask_of(items[0], "mask-1", "thalamus", "left", on_the_left(volume))
    assert mask.voxels[:, :, 4].any()
    path = written(encoded(outcome_of(items, masks=(mask,)), items), tmp_path / "out")[0]
    assert np.allclose(read_by_frames(path, 1), places(mask), atol=1e-4)
    assert check_with_sources(path, references(volume)) == [] and dciodvfy_errors(path) == []
    assert len(dcmread(path).ReferencedSeriesSequence[0].ReferencedInstanceSequence) == volume.shape[2] - 1


@pytest.mark.filterwarnings("error")
def test_traps_of_sources_are_no_obstacle(tmp_path: Path) -> None:
    """Orientation that drifts, no Frame of Reference, no Slice Thickness, an age that is none."""
    lps = GEOMETRIES["oblique"]
    cosines = (lps[:3, :2] / np.linalg.norm(lps[:3, :2], axis=0)).T.ravel()
    attributes: dict[str, object] = {
        "ImageOrientationPatient": lambda k: [f"{value + 3e-6 * k:.8f}" for value in cosines]
    }
    attributes |= {"PatientSex": "F", "PatientName": "OneComponent", "StudyTime": ""}
    classic(tmp_path / "in", "oblique", attributes=attributes)
    for path in (tmp_path / "in").iterdir():
        dataset = dcmread(path)
        del dataset.SliceThickness, dataset.FrameOfReferenceUID
        dataset.add_new("PatientAge", "AS", "060Y")
        dataset.save_as(path)
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = hippocampus(items)
    paths = written(encoded(outcome, items), tmp_path / "out")
    assert np.allclose(read_by_frames(paths[0], 1), places(outcome.masks[0]), atol=1e-2)
    assert [check_file(path) for path in paths] == [[], []]
    assert dciodvfy_errors(paths[0]) == []


def test_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    mask = mask_of(items[0], "mask-1", "thalamus", "left", np.ones((3, 3, 3), bool))
    with pytest.raises(ResultError, match="grid of volume v1"):
        encoded(outcome_of(items, masks=(mask,)), items)
