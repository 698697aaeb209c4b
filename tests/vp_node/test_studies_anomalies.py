"""What goes wrong in real studies is flagged or set aside, and never stacked silently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

from tests.vp_node.results_support.cases import chosen, classic, encoded, hippocampus, written
from tests.vp_node.studies_support.synthetic import Slices, brain_like, corner_distance, decimal, stack_matrix, write
from vp_node.compute.codec import volume_from_json, volume_to_json
from vp_node.results import check_with_sources
from vp_node.studies.headers import read_header
from vp_node.studies.model import Understanding
from vp_node.studies.pixels import load_voxels
from vp_node.studies.sessions import sessions_of
from vp_node.studies.understanding import understand
from vp_node.studies.volume_set import SeriesSelection, choose

AXIAL = stack_matrix(np.eye(3), (1.0, 1.0, 2.0), (-50.0, -60.0, 10.0))


def stack(slices: int = 8, **attributes: object) -> Slices:
    return Slices(AXIAL, brain_like(1, (4, 3, slices)), attributes=dict(attributes))


def understand_folder(folder: Path) -> Understanding:
    return understand([read_header(path) for path in sorted(folder.rglob("*.dcm"))])


@pytest.mark.parametrize("differ", [False, True])
def test_one_duplicate_slice_is_kept_out_and_named_louder_where_its_pixels_differ(
    tmp_path: Path, differ: bool, caplog: pytest.LogCaptureFixture
) -> None:
    whole = stack()
    write(whole, tmp_path)
    voxels = brain_like(2, (4, 3, 8)) if differ else whole.voxels
    again = Slices(AXIAL, voxels, whole.series, whole.study, whole.frame_of_reference)
    again.skip = tuple(k for k in range(8) if k != 3)
    again.first_instance = 100
    write(again, tmp_path)
    understanding = understand_folder(tmp_path)
    (volume,) = understanding.volumes
    assert volume.flags == ("duplicate-slice",)
    assert corner_distance(volume.world, volume.shape, whole.world, whole.voxels.shape) < 1e-6
    (aside,) = understanding.set_aside
    assert len(aside.sop_instance_uids) == 1
    assert aside.reason.startswith("duplicate slice")
    assert ("its pixels differ" in aside.reason) == differ
    assert [record.levelname for record in caplog.records if "duplicate" in record.message] == ["WARNING"] * differ
    np.testing.assert_array_equal(load_voxels(volume), whole.voxels.astype(np.float32))


def test_scout_inside_a_series_is_split_off_and_set_aside(tmp_path: Path) -> None:
    whole = stack(20)
    write(whole, tmp_path)
    sagittal = stack_matrix(np.eye(3)[:, [1, 2, 0]], (1.0, 1.0, 5.0), (0.0, -60.0, 10.0))
    write(Slices(sagittal, brain_like(3, (4, 3, 1)), whole.series, whole.study, whole.frame_of_reference), tmp_path)
    understanding = understand_folder(tmp_path)
    (volume,) = understanding.volumes
    assert volume.shape == (4, 3, 20)
    assert ["scout" in item.reason for item in understanding.set_aside] == [True]


def test_varying_gaps_are_flagged(tmp_path: Path) -> None:
    places = [0.0, 2.0, 4.7, 6.7, 9.9, 12.0, 13.1, 16.0]
    write(stack(8, ImagePositionPatient=lambda k: ["-50", "-60", decimal(places[k])]), tmp_path)
    (volume,) = understand_folder(tmp_path).volumes
    assert volume.flags == ("irregular-spacing",)


def test_second_repetition_that_lacks_slices_is_ragged(tmp_path: Path) -> None:
    first = stack(8, TemporalPositionIdentifier=1)
    write(first, tmp_path)
    second = Slices(AXIAL, brain_like(2, (4, 3, 8)), first.series, first.study, first.frame_of_reference)
    second.attributes = {"TemporalPositionIdentifier": 2}
    second.skip = (6, 7)
    write(second, tmp_path)
    whole, ragged = understand_folder(tmp_path).volumes
    assert whole.flags == ()
    assert ragged.flags == ("ragged",)
    assert ragged.shape == (4, 3, 6)


def test_missing_slice_keeps_its_place(tmp_path: Path) -> None:
    whole = stack(8)
    whole.skip = (3,)
    write(whole, tmp_path)
    (volume,) = understand_folder(tmp_path).volumes
    assert volume.flags == ("missing-slice",)
    assert volume.shape == (4, 3, 8)
    assert volume.missing_slices == (3,)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SeriesDescription": "Survey_SHC"}, "localizer"),
        ({"ScanOptions": "SURVIEW"}, "localizer"),
        ({"Modality": "PT"}, "only MR and CT"),
        ({"SOPClassUID": PositronEmissionTomographyImageStorage, "Modality": "PT"}, "only MR and CT"),
        ({"SOPClassUID": NuclearMedicineImageStorage, "Modality": "NM"}, "only MR and CT"),
        ({"SOPClassUID": UltrasoundImageStorage, "Modality": "US"}, "only MR and CT"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"ImagePositionPatient": None}, "no geometry: Image Position"),
        ({"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, "no geometry"),
        ({"PixelSpacing": ["0", "0"]}, "no geometry: Pixel Spacing"),
    ],
)
def test_instances_that_are_no_volume_are_set_aside_with_their_reason(
    tmp_path: Path, attributes: dict[str, object], words: str
) -> None:
    write(stack(3, **attributes), tmp_path)
    understanding = understand_folder(tmp_path)
    assert understanding.volumes == ()
    (item,) = understanding.set_aside
    assert words in item.reason
    assert len(item.sop_instance_uids) == 3


def test_localizer_of_three_orientations_is_recognised_without_words(tmp_path: Path) -> None:
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for axes in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        lps = stack_matrix(np.eye(3)[:, axes], (1.0, 1.0, 10.0), (0.0, 0.0, 0.0))
        write(Slices(lps, brain_like(0, (4, 3, 5)), series, study, frame), tmp_path)
    understanding = understand_folder(tmp_path)
    assert understanding.volumes == ()
    assert "three orientations" in understanding.set_aside[0].reason


def test_same_uid_with_other_content_is_flagged_and_the_last_is_used(tmp_path: Path) -> None:
    paths = write(stack(4), tmp_path / "first")
    changed = dcmread(paths[1])
    changed.PixelData = bytes(len(changed.PixelData))
    changed.SeriesDescription = "changed"
    (tmp_path / "second").mkdir()
    changed.save_as(tmp_path / "second" / "changed.dcm")
    headers = [read_header(path) for path in (*paths, tmp_path / "second" / "changed.dcm")]
    understanding = understand(headers)
    (volume,) = understanding.volumes
    assert "conflicting-instance" in volume.flags
    assert tmp_path / "second" / "changed.dcm" in {frame.path for frame in volume.frames}
    assert "conflict" in understanding.set_aside[0].reason


def test_repeated_identical_instance_is_named_and_changes_nothing(tmp_path: Path) -> None:
    headers = [read_header(path) for path in write(stack(4), tmp_path)]
    understanding = understand([*headers, headers[0]])
    assert [volume.flags for volume in understanding.volumes] == [()]
    assert "repeat" in understanding.set_aside[0].reason


def test_magnitude_and_phase_of_two_echoes_are_four_volumes(tmp_path: Path) -> None:
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for echo in (5.0, 10.0):
        for component in ("M", "P"):
            part = Slices(AXIAL, brain_like(0, (4, 3, 5)), series, study, frame)
            part.attributes = {"EchoTime": str(echo), "ImageType": ["ORIGINAL", "PRIMARY", component]}
            write(part, tmp_path)
    volumes = understand_folder(tmp_path).volumes
    assert [dict(volume.splits) for volume in volumes] == [
        {"component": "M", "echo time": "5"},
        {"component": "M", "echo time": "10"},
        {"component": "P", "echo time": "5"},
        {"component": "P", "echo time": "10"},
    ]
    assert [volume.kind for volume in volumes] == ["unknown", "unknown", "PHASE", "PHASE"]


@pytest.mark.parametrize(
    ("attributes", "kind", "contrast"),
    [
        (
            {"ScanningSequence": ["GR", "IR"], "EchoTime": "3", "RepetitionTime": "2300", "InversionTime": "900"},
            "T1",
            "unknown",
        ),
        ({"ScanningSequence": "SE", "EchoTime": "90", "RepetitionTime": "4000"}, "T2", "unknown"),
        (
            {"ScanningSequence": ["SE", "IR"], "EchoTime": "110", "RepetitionTime": "9000", "InversionTime": "2500"},
            "FLAIR",
            "unknown",
        ),
        ({"ScanningSequence": "SE", "EchoTime": "12", "RepetitionTime": "3000"}, "PD", "unknown"),
        (
            {"ScanningSequence": "GR", "EchoTime": "20", "RepetitionTime": "30", "SeriesDescription": "SWI_Images"},
            "SWI",
            "unknown",
        ),
        ({"ScanningSequence": "GR", "EchoTime": "20", "RepetitionTime": "700"}, "GRE", "unknown"),
        ({"SeriesDescription": "t1_mprage_sag post gd"}, "T1", "post"),
        ({"SeriesDescription": "T2 FLAIR pre"}, "FLAIR", "pre"),
        ({"SeriesDescription": "t1", "ContrastBolusAgent": "Gadovist"}, "T1", "post"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "ADC", "unknown"),
        ({"SeriesDescription": "something"}, "unknown", "unknown"),
    ],
)
def test_kind_comes_from_the_header_before_the_description(
    tmp_path: Path, attributes: dict[str, object], kind: str, contrast: str
) -> None:
    write(stack(3, **attributes), tmp_path)
    (volume,) = understand_folder(tmp_path).volumes
    assert (volume.kind, volume.contrast) == (kind, contrast)
    assert volume.evidence


@pytest.mark.requirement("varying gaps are flagged and resampled only on request")
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_stack_with_varying_gaps_is_resampled_on_an_even_grid_only_where_it_is_asked_for(
    tmp_path: Path, tilt: float
) -> None:
    """The voxels say where they lie: on the even grid they say it still."""
    places = np.array([0.0, 2.0, 4.7, 6.7, 9.9, 12.0, 13.1, 16.0])
    direction = np.array([0.0, tilt, 1.0])
    voxels = np.broadcast_to((100 * places).astype(np.uint16), (4, 3, 8)).copy()
    uneven = Slices(AXIAL, voxels)
    uneven.attributes["ImagePositionPatient"] = lambda k: [decimal(v) for v in AXIAL[:3, 3] + places[k] * direction]
    write(uneven, tmp_path)
    (volume,) = understand_folder(tmp_path).volumes
    assert volume.flags == (("irregular-spacing", "gantry-tilt") if tilt else ("irregular-spacing",))
    assert len(volume.sources) == 8 and volume.missing_slices == ()
    ends = [volume.world @ [0, 0, k, 1] for k in (0, volume.shape[2] - 1)]
    first, last = (np.diag([-1, -1, 1]) @ (AXIAL[:3, 3] + places[k] * direction) for k in (0, -1))
    np.testing.assert_allclose([end[:3] for end in ends], [first, last], atol=1e-6)
    heights = volume.world[2, 2] * np.arange(volume.shape[2])
    loaded = load_voxels(volume)
    assert loaded.shape == volume.shape
    np.testing.assert_allclose(loaded[1, 2], 100 * heights, atol=0.6)
    again = volume_from_json(json.loads(json.dumps(volume_to_json(volume))))
    np.testing.assert_array_equal(load_voxels(again), loaded)
    sessions = sessions_of([volume])
    assert choose(sessions, SeriesSelection()).chosen == ()
    assert len(choose(sessions, SeriesSelection(flagged_ok=True)).chosen) == 1


def test_results_on_a_resampled_stack_pass_the_check(tmp_path: Path) -> None:
    places = [0.0, 2.0, 4.7, 6.7, 9.9, 12.0, 13.1, 16.0, 18.0, 20.0]
    stack = classic(tmp_path, "axial")
    for k, path in enumerate(sorted(tmp_path.glob("*.dcm"), key=lambda item: int(dcmread(item).InstanceNumber))):
        dataset = dcmread(path)
        if k >= len(places):
            path.unlink()
            continue
        dataset.ImagePositionPatient = [decimal(v) for v in stack.lps[:3, 3] + [0, 0, places[k]]]
        dataset.save_as(path)
    items = chosen(understand_folder(tmp_path).volumes)
    assert "irregular-spacing" in items[0].volume.flags
    objects = encoded(hippocampus(items), items)
    sources = {str(dcmread(path).SOPInstanceUID): path for path in tmp_path.glob("*.dcm")}
    for file in written(objects, tmp_path / "objects"):
        assert check_with_sources(file, sources) == []


@pytest.mark.parametrize(
    ("attributes", "head", "says"),
    [
        ({"BodyPartExamined": "BRAIN"}, "yes", "Body Part Examined says 'brain'"),
        ({"BodyPartExamined": "BRAINSPINE"}, "yes", "Body Part Examined says 'brain'"),
        ({"BodyPartExamined": "L-SPINE", "SeriesDescription": "head coil"}, "no", "Body Part Examined says 'lspine'"),
        ({"BodyPartExamined": "NECK"}, "unknown", "nothing says so"),
        ({"SeriesDescription": "T2_tse_sag_lumbar"}, "no", "the description says 'lumbar'"),
        ({"ProtocolName": "Head Neuro"}, "yes", "the description says 'head'"),
        ({"SeriesDescription": "t1 hippocampus"}, "unknown", "nothing says so"),
        ({}, "unknown", "nothing says so"),
    ],
)
def test_a_volume_that_does_not_show_the_head_is_not_taken(
    tmp_path: Path, attributes: dict[str, object], head: str, says: str
) -> None:
    write(stack(4, **attributes), tmp_path)
    (volume,) = understand_folder(tmp_path).volumes
    assert volume.head == head
    assert any(says in line for line in volume.evidence)
    assert volume_from_json(json.loads(json.dumps(volume_to_json(volume)))).head == head
    chosen_set = choose(sessions_of([volume]), SeriesSelection())
    assert len(chosen_set.chosen) == (head != "no")
    assert head != "no" or chosen_set.choices[0].reason == "it does not show the head"
