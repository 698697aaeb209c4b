"""Reports say what was found, of what, when, by whom and for whom; also that nothing was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.vp_node.results_support.cases import (
    MODEL,
    PROVENANCE,
    STUDY,
    chosen,
    classic,
    encoded,
    enhanced,
    hippocampus,
    identity_of,
    mask_of,
    on_the_left,
    outcome_of,
    volumes_in,
    written,
)
from tests.vp_node.results_support.tools import dciodvfy_errors, dsrdump, report_by_dcmqi
from vp_model.outcome import DerivedVolume, Measurement, Text
from vp_node.results import PromptProvenance, ResultObject, RunIdentity, check_file
from vp_node.results.model import Predecessor
from vp_node.results.uids import tracking_uid


def content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from content(child)


def texts(report: Dataset) -> str:
    return "\n".join(item.TextValue for item in content(report) if item.ValueType == "TEXT")


def numbers(report: Dataset) -> dict[str, tuple[float, str]]:
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in content(report)
        if item.ValueType == "NUM"
    }


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_report_is_read_by_others_with_its_numbers(kind: str, tmp_path: Path) -> None:
    (classic if kind == "classic" else enhanced)(tmp_path / "in", "oblique")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = hippocampus(items)
    objects = encoded(outcome, items)
    segmentation, report = objects[0].dataset, objects[-1].dataset
    path = written(objects, tmp_path / "out")[-1]
    assert check_file(path) == [] and dciodvfy_errors(path) == []
    assert "UNVERIFIED" in dsrdump(path)
    read = report_by_dcmqi(path, tmp_path / "read")["Measurements"][0]
    assert read["TrackingUniqueIdentifier"] == segmentation.SegmentSequence[0].TrackingUID
    assert read["segmentationSOPInstanceUID"] == segmentation.SOPInstanceUID
    values = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in read["measurementItems"]}
    assert values["Volume"] == pytest.approx(outcome.measurements[0].value, rel=1e-6)
    assert numbers(report)["Volume"][1] == "ml"


def test_points_stand_in_the_report_in_the_frame_of_dicom(tmp_path: Path) -> None:
    classic(tmp_path / "in", "oblique")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = hippocampus(items)
    report = encoded(outcome, items)[-1].dataset
    lines = [item for item in content(report) if item.ValueType == "SCOORD3D" and item.GraphicType == "POLYLINE"]
    ends = np.asarray(outcome.measurements[2].points) * (-1, -1, 1)
    assert np.allclose(np.reshape(lines[0].GraphicData, (-1, 3)), ends, atol=1e-3)
    assert lines[0].ReferencedFrameOfReferenceUID == items[0].volume.frame_of_reference_uid


def test_report_answers_who_asked_and_what_did_it(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    report = encoded(hippocampus(items), items)[-1].dataset
    told = texts(report)
    for words in (PROVENANCE.text, "version 3", "neuroradiology", "standing prompt", MODEL.content_hash, "segment("):
        assert words in told
    assert "Asked: What is the volume of the left hippocampus?" in told and "Finds the left hippocampus on v1" in told
    assert "research use only" in told and report.VerificationFlag == "UNVERIFIED"
    assert report.CompletionFlag == "COMPLETE"


def test_other_weights_are_another_device_wherever_the_model_is_named(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    retrained = replace(hippocampus(items), model=replace(MODEL, content_hash="cd" * 32))
    devices = []
    for outcome in (hippocampus(items), hippocampus(items), retrained):
        objects = encoded(outcome, items)
        named = {str(item.dataset.ContributingEquipmentSequence[0].DeviceUID) for item in objects}
        named |= {
            str(item.UID)
            for item in content(objects[-1].dataset)
            if item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeValue == "121012"
        }
        assert len(named) == 1
        devices.append(named.pop())
    assert devices[0] == devices[1] != devices[2]


def test_prompt_in_another_script_is_kept(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial", attributes={"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Änne"})
    items = chosen(volumes_in(tmp_path / "in"))
    provenance = PromptProvenance("海馬", 1, "左の海馬の体積は？", "放射線科", requested_at=PROVENANCE.requested_at)
    path = written(encoded(hippocampus(items), items, provenance=provenance), tmp_path / "out")[-1]
    from pydicom import dcmread

    read = dcmread(path)
    assert "左の海馬の体積は？" in texts(read) and str(read.PatientName) == "Müller^Änne"
    assert dciodvfy_errors(path) == [] and check_file(path) == []


def two_visits(folder: Path) -> tuple[Path, Path]:
    classic(folder / "old", "oblique", study="1.2.3.4.1", attributes={"StudyDate": "20230102"})
    classic(folder / "new", "oblique", study=STUDY)
    return folder / "old", folder / "new"


def test_change_names_both_dates_and_masks_of_a_prior_study_get_no_object(tmp_path: Path) -> None:
    two_visits(tmp_path / "in")
    items = chosen(volumes_in(tmp_path / "in"))
    masks = tuple(
        mask_of(item, f"mask-{n}", "hippocampus", "left", on_the_left(item.volume, n))
        for n, item in enumerate(items, 1)
    )
    shared = {"structure": "hippocampus", "side": "left", "label": "left hippocampus"}
    measurements = (
        Measurement("volume", 3.5, "ml", visit="2023-01-02", masks=("mask-1",), **shared),  # type: ignore[arg-type]
        Measurement("volume", 3.25, "ml", visit="2024-03-01", masks=("mask-2",), **shared),  # type: ignore[arg-type]
        Measurement(
            "relative volume change",
            -7.142857142857143,
            "%",
            visit="2024-03-01",
            visits=("2023-01-02", "2024-03-01"),
            masks=("mask-1", "mask-2"),
            **shared,  # type: ignore[arg-type]
        ),
    )
    objects = encoded(outcome_of(items, masks=masks, measurements=measurements), items)
    assert [item.role for item in objects] == ["seg", "sr"]
    assert all(item.dataset.StudyInstanceUID == STUDY for item in objects)
    report = objects[-1].dataset
    assert numbers(report)["Relative volume change"] == (pytest.approx(-7.14285714), "%")
    told = texts(report)
    assert "between 2023-01-02 and 2024-03-01" in told and "without a segmentation here" in told
    path = written(objects, tmp_path / "out")[-1]
    assert check_file(path) == [] and dciodvfy_errors(path) == []
    assert {item.StudyInstanceUID for item in report.PertinentOtherEvidenceSequence} == {"1.2.3.4.1"}
    (change,) = [
        group
        for group in content(report)
        if "between 2023-01-02 and 2024-03-01" in texts(group)
        and group.ValueType == "CONTAINER"
        and len(numbers(group)) == 1
    ][-1:]
    cited = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in change.ContentSequence
        if item.ValueType == "IMAGE"
    }
    for item in items:  # one image of each session, that on which the region is largest
        (mask,) = [mask for mask in masks if mask.volume == item.name]
        largest = item.volume.frames[int(np.argmax(mask.voxels.sum(axis=(0, 1))))]
        assert largest.sop_instance_uid in cited
    assert len(cited) == 2


def test_refusal_is_a_report_that_says_so_and_no_segmentation(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = outcome_of(items, status="refused", reason="The prompt was not understood.", structures=())
    objects = encoded(outcome, items)
    assert [item.role for item in objects] == ["sr"]
    path = written(objects, tmp_path / "out")[0]
    assert "No result: The prompt was not understood." in texts(objects[0].dataset)
    assert objects[0].dataset.CompletionFlag == "PARTIAL"
    assert check_file(path) == [] and dciodvfy_errors(path) == [] and dsrdump(path)


def test_nothing_found_is_a_coded_negative_with_volume_zero(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    objects = encoded(outcome_of(items, structures=(("white matter lesion", ""),)), items)
    assert [item.role for item in objects] == ["sr"]
    report = objects[0].dataset
    assert numbers(report)["Volume"] == (0.0, "ml")
    assert any(
        item.ValueType == "CODE" and item.ConceptCodeSequence[0].CodeMeaning == "Absent" for item in content(report)
    )
    path = written(objects, tmp_path / "out")[0]
    assert check_file(path) == [] and dciodvfy_errors(path) == []


def test_words_and_numbers_that_are_none_are_told(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = outcome_of(
        items,
        texts=(Text("It lies in the left frontal lobe.", "location", "white matter lesion", "left"),),
        measurements=(Measurement("volume ratio", float("nan"), "1", "hippocampus", "left", "", "left hippocampus"),),
    )
    objects = encoded(outcome, items)
    told = texts(objects[-1].dataset)
    assert "location: It lies in the left frontal lobe." in told and "could not be computed" in told
    assert dciodvfy_errors(written(objects, tmp_path / "out")[-1]) == []


@pytest.mark.parametrize("case", ["axial", "tilted", "enhanced oblique"])
def test_encoding_twice_gives_the_same_bytes(case: str, tmp_path: Path) -> None:
    if case.startswith("enhanced"):
        enhanced(tmp_path / "in", "oblique")
    else:
        classic(tmp_path / "in", case, "CT" if case == "tilted" else "MR")
    items = chosen(volumes_in(tmp_path / "in"))
    volume = items[0].volume
    derived = DerivedVolume("image-1", "crop", "v1", "cropped", np.ones((4, 5, 3), np.float32), volume.world)
    outcome = outcome_of(items, masks=hippocampus(items).masks, derived=(derived,))
    once, again = (written(encoded(outcome, items), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    other = encoded(outcome, items, identity=identity_of(run_id="another"))
    assert not {item.sop_instance_uid for item in other} & {item.sop_instance_uid for item in encoded(outcome, items)}


def follower(before: ResultObject, *, same_model: bool) -> RunIdentity:
    predecessor = Predecessor(
        identity_of().run_id,
        "voxelprompt-compact 0.0.9, SHA-256 0123456789ab",
        same_model,
        before.sop_class_uid,
        before.sop_instance_uid,
        before.series_instance_uid,
        STUDY,
    )
    return replace(identity_of(run_id="later"), predecessor=predecessor)


def test_revision_names_its_predecessor(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    before = encoded(hippocampus(items), items)[-1]
    after = encoded(hippocampus(items), items, identity=follower(before, same_model=True))
    named = after[-1].dataset.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.SeriesInstanceUID == before.series_instance_uid
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.sop_instance_uid
    assert "Replaces the report of run" in texts(after[-1].dataset)
    assert dciodvfy_errors(written(after, tmp_path / "out")[-1]) == []


def test_run_of_another_model_stands_beside_and_says_so(tmp_path: Path) -> None:
    classic(tmp_path / "in", "axial")
    items = chosen(volumes_in(tmp_path / "in"))
    before = encoded(hippocampus(items), items)[-1]
    after = encoded(hippocampus(items), items, identity=follower(before, same_model=False))[-1].dataset
    assert "PredecessorDocumentsSequence" not in after
    assert "Stands beside" in texts(after) and "voxelprompt-compact 0.0.9" in texts(after)


def test_tracking_is_of_patient_structure_and_side() -> None:
    assert tracking_uid("a", "hippocampus", "left") == tracking_uid("a", "hippocampus", "left")
    uids = {
        tracking_uid(patient, structure, side)
        for patient in "ab"
        for structure in ("hippocampus", "thalamus")
        for side in ("left", "right")
    }
    assert len(uids) == 8
