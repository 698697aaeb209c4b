"""Reading a header: what is kept, what is refused, and that the patient stays unnamed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import DataElement, config, dcmread
from pydicom.tag import Tag

from tests.vp_node.studies_support.synthetic import Slices, brain_like, stack_matrix, write
from vp_node.studies.headers import HeaderError, InstanceHeader, patient_key, read_header
from vp_node.studies.inspect import inspect_folder
from vp_node.studies.understanding import understand


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lps = stack_matrix(np.eye(3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    return write(Slices(lps, brain_like(0, (40, 30, 1))), tmp_path / "study")[0]


def test_header_survives_json(path: Path) -> None:
    header = read_header(path)
    again = InstanceHeader.from_json(json.loads(json.dumps(header.to_json())))
    assert again == header
    assert InstanceHeader.from_json(header.to_json(), Path("elsewhere.dcm")).path == Path("elsewhere.dcm")


def test_enhanced_header_survives_json(shared_data: Path) -> None:
    for path in (shared_data / "dicom" / "sie_xa30_enhanced_brain" / "dicom").rglob("*.dcm"):
        header = read_header(path)
        assert InstanceHeader.from_json(json.loads(json.dumps(header.to_json()))) == header


def test_header_does_not_name_the_patient(path: Path) -> None:
    text = json.dumps(read_header(path).to_json())
    assert "Synthetic" not in text
    assert "synthetic" not in text


def test_patients_without_id_are_not_one_patient() -> None:
    assert patient_key("", "", "1.2") != patient_key("", "", "1.3")
    assert patient_key("", "***", "1.2") != patient_key("", "***", "1.3")
    assert patient_key("", "A1", "1.2") == patient_key("", "A1", "1.3")
    assert patient_key("north", "A1", "1.2") != patient_key("south", "A1", "1.2")


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("StudyInstanceUID", None, "no StudyInstanceUID"),
        ("SeriesInstanceUID", None, "no SeriesInstanceUID"),
        ("SOPInstanceUID", None, "no SOPInstanceUID"),
        ("Rows", 0, "no size"),
        ("Columns", 0, "no size"),
        ("NumberOfFrames", "0", "no size"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(path: Path, keyword: str, value: object, words: str) -> None:
    dataset = dcmread(path)
    if value is None:
        delattr(dataset, keyword)
    else:
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=False)
    with pytest.raises(HeaderError, match=words) as raised:
        read_header(path)
    assert "ynthetic" not in str(raised.value)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["../../etc/passwd", "1.2.a", "1..2", "1.2.", "1." + "3" * 64, "1.2/3", "1.2\\1.3"])
def test_what_is_no_uid_is_refused_before_anything_is_made_of_it(path: Path, keyword: str, value: str) -> None:
    dataset = dcmread(path)
    dataset.add(DataElement(Tag(keyword), "UI", value, validation_mode=config.IGNORE))
    dataset.save_as(path, enforce_file_format=False)
    with pytest.raises(HeaderError, match="is no UID") as raised:
        read_header(path)
    assert value not in str(raised.value)


def test_no_dicom_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\0" * 1000):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(HeaderError, match="no DICOM file"):
            read_header(tmp_path / "file")


def test_truncated_pixels_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(HeaderError, match="truncated"):
        read_header(path)


@pytest.mark.parametrize("end", range(132, 800, 23))
def test_file_that_ends_inside_its_header_is_refused(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(HeaderError):
        read_header(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(132, 900), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_headers_are_read_or_refused_and_nothing_else(
    path: Path, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[min(place, len(content) - 1)] = value
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(bytes(content))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            header = read_header(damaged)
        except HeaderError as error:
            assert "Synthetic" not in str(error)
            return
        finally:
            assert not [warning for warning in said if "Synthetic" in str(warning.message)]
    understanding = understand([header])
    assert len(understanding.volumes) + len(understanding.set_aside) == 1


@pytest.mark.parametrize("frames", ["3000000000", "99999"])
def test_more_frames_than_a_file_can_hold_are_refused(path: Path, frames: str) -> None:
    dataset = dcmread(path)
    dataset.NumberOfFrames = frames
    dataset.save_as(path)
    with pytest.raises(HeaderError):
        read_header(path)


def test_redacted_and_malformed_values_are_absent_without_a_word(path: Path, recwarn: pytest.WarningsRecorder) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"20240301", b"***     "))
    header = read_header(path)
    assert header.study_date == "***"
    assert not [warning for warning in recwarn if "***" in str(warning.message)]


def test_inspect_lists_files_that_are_no_dicom(path: Path) -> None:
    (path.parent / "notes.txt").write_text("not an image")
    said = inspect_folder(path.parent)
    assert [(item["file"], "no DICOM file" in item["reason"]) for item in said["set_aside"]] == [("notes.txt", True)]
    assert [volume["flags"] for volume in said["volumes"]] == [["single-slice"]]


def test_inspect_of_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        inspect_folder(tmp_path / "absent")
