"""Every real case against its reference: the right matrix, or a written reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.vp_node.studies_support.synthetic import corner_distance
from vp_node.studies.headers import InstanceHeader, read_header
from vp_node.studies.inspect import inspect_folder, with_digests_of_repeats
from vp_node.studies.model import Understanding
from vp_node.studies.pixels import load_voxels
from vp_node.studies.understanding import understand

TOLERANCE_MM = 0.05

# What each case holds: the volumes by kind, and the words of the reasons for what is set aside.
CASES: dict[str, tuple[dict[str, int], tuple[str, ...]]] = {
    "ms12_longitudinal": ({"FLAIR": 2, "T1": 2}, ()),
    "sie_xa30_enhanced_brain": (
        {"T1": 1, "FIELDMAP": 2, "PHASE": 1, "DWI": 3, "ADC": 1, "TRACE": 1, "FA": 1, "PERFUSION": 3, "CBF": 1},
        ("colour image", "no image: Enhanced SR"),
    ),
    "sie_mosaic_dwi_decubitus": ({"DWI": 3}, ()),
    "sie_mosaic_ax_cor_sag": ({"BOLD": 8}, ()),
    "transfer_syntaxes_9x": ({"BOLD": 9}, ()),
    "bits_12_signed_unsigned": ({"BOLD": 1}, ("conflict",)),
    "ct_philips_tilt_phantom": ({"CT": 1}, ("localizer", "secondary capture")),
    "ge_localizer_3plane": ({"BOLD": 2}, ("localizer",)),
    "philips_dualecho_mag_phase": ({"GRE": 2, "PHASE": 2}, ()),
    "philips_dwi_oblique": ({"DWI": 3}, ()),
    "canon_dwi_oblique": ({"DWI": 3}, ()),
    "uih_dti_vframe": ({"DWI": 17}, ()),
    "ico_ct_tilt_noise": ({"CT": 1}, ()),
    "ico_ct_increment_noise": ({"CT": 1}, ()),
    "ico_mixed_orientation_noise": ({"T2": 2}, ()),
    "ico_slopes_per_slice_noise": ({"unknown": 1}, ()),
    "ico_rgb_j2k": ({}, ("colour image",)),
    "ico_hyperfine_multiframe_noise": ({"FLAIR": 1}, ()),
    "ico_enhanced_philips_noise": ({"T1": 1}, ()),
    "ico_jpegls_noise": ({"FLAIR": 1}, ()),
}


def headers_of(case: Path) -> list[InstanceHeader]:
    paths = sorted(path for path in (case / "dicom").rglob("*") if path.is_file())
    return with_digests_of_repeats([read_header(path) for path in paths])


def understood(shared_data: Path, name: str) -> tuple[list[InstanceHeader], Understanding]:
    headers = headers_of(shared_data / "dicom" / name)
    return headers, understand(headers)


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_understood_or_set_aside_with_its_reason(shared_data: Path, name: str) -> None:
    headers, understanding = understood(shared_data, name)
    kinds, reasons = CASES[name]
    found: dict[str, int] = {}
    for volume in understanding.volumes:
        found[volume.kind] = found.get(volume.kind, 0) + 1
    assert found == kinds
    for words in reasons:
        assert any(words in item.reason for item in understanding.set_aside)
    assert all(any(words in item.reason for words in reasons) for item in understanding.set_aside)
    accounted = {frame.sop_instance_uid for volume in understanding.volumes for frame in volume.frames}
    accounted |= {uid for item in understanding.set_aside for uid in item.sop_instance_uids}
    assert {header.sop_instance_uid for header in headers} <= accounted


@pytest.mark.parametrize("name", CASES)
def test_corners_of_every_case_match_the_reference(shared_data: Path, name: str) -> None:
    _, understanding = understood(shared_data, name)
    reference = json.loads((shared_data / "dicom" / name / "reference.json").read_text())
    fitted = [(v["affine_ras"], v["shape_ijk"]) for v in reference["header_geometry"]["volumes"]]
    if not fitted:  # tiles of one frame, whose position is not that of a slice: dcm2niix's matrices stand for the truth
        fitted = [(v["affine_ras"], v["shape"][:3]) for v in reference["outputs"]]
    for volume in understanding.volumes:
        distances = [corner_distance(volume.world, volume.shape, np.array(w), shape) for w, shape in fitted]
        assert min(distances) < TOLERANCE_MM
    set_aside = {"localizer", "secondary capture", "colour image"}
    if not any(words in item.reason for item in understanding.set_aside for words in set_aside):
        for world, shape in fitted:
            assert any(
                corner_distance(volume.world, volume.shape, np.array(world), shape) < TOLERANCE_MM
                for volume in understanding.volumes
            )


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("ct_philips_tilt_phantom", "gantry-tilt"),
        ("ico_ct_tilt_noise", "gantry-tilt"),
        ("ico_ct_increment_noise", "missing-slice"),
    ],
)
def test_irregular_geometry_is_flagged(shared_data: Path, name: str, flag: str) -> None:
    _, understanding = understood(shared_data, name)
    assert [volume.flags for volume in understanding.volumes] == [(flag,)]


def test_b_values_of_classic_and_enhanced_diffusion_are_known(shared_data: Path) -> None:
    for name, expected in (
        ("philips_dwi_oblique", ["0", "2000", "2000"]),
        ("canon_dwi_oblique", ["0", "1500", "1500"]),
        ("sie_xa30_enhanced_brain", ["0", "2500", "2500"]),
    ):
        _, understanding = understood(shared_data, name)
        diffusion = [volume for volume in understanding.volumes if volume.kind == "DWI"]
        assert sorted(dict(volume.splits)["b-value"] for volume in diffusion) == sorted(expected)


def test_visits_are_the_study_dates_and_redacted_ones_are_none(shared_data: Path) -> None:
    _, longitudinal = understood(shared_data, "ms12_longitudinal")
    assert sorted({str(volume.visit) for volume in longitudinal.volumes}) == ["2014-03-05", "2014-05-25"]
    headers = headers_of(shared_data / "dicom" / "uih_dti_vframe")
    assert {header.study_date for header in headers} == {"***"}


@pytest.mark.parametrize(
    "name", ["ms12_longitudinal", "sie_xa30_enhanced_brain", "ico_slopes_per_slice_noise", "ico_jpegls_noise"]
)
def test_voxels_have_the_intensities_of_the_reference(shared_data: Path, name: str) -> None:
    _, understanding = understood(shared_data, name)
    reference = json.loads((shared_data / "dicom" / name / "reference.json").read_text())
    outputs = [item for item in reference["outputs"] if "mean" in item and len(item["shape"]) == 3]
    by_series: dict[int | None, list[tuple[float, float, float]]] = {}
    for volume in understanding.volumes:
        voxels = load_voxels(volume)
        assert voxels.shape == volume.shape
        by_series.setdefault(volume.series_number, []).append(
            (float(voxels.min()), float(voxels.max()), float(voxels.mean(dtype=np.float64)))
        )
    for item in outputs:
        if item["SeriesNumber"] not in by_series:
            continue
        wanted = np.array([item["min"], item["max"], item["mean"]])
        assert any(np.allclose(found, wanted, rtol=1e-5, atol=1e-3) for found in by_series[item["SeriesNumber"]])


def test_inspect_lists_volumes_and_reasons_as_plain_json(shared_data: Path) -> None:
    said = json.loads(json.dumps(inspect_folder(shared_data / "dicom" / "ct_philips_tilt_phantom" / "dicom")))
    assert [volume["flags"] for volume in said["volumes"]] == [["gantry-tilt"]]
    assert {"study", "series", "visit", "kind", "shape", "world", "flags"} <= said["volumes"][0].keys()
    assert all({"series", "reason"} <= item.keys() for item in said["set_aside"])


def test_the_private_scaling_of_philips_is_left_alone_and_recorded(shared_data: Path) -> None:
    for name, scaled in (("philips_dwi_oblique", True), ("canon_dwi_oblique", False)):
        _, understanding = understood(shared_data, name)
        assert {"private-scaling" in volume.flags for volume in understanding.volumes} == {scaled}
        assert {volume.head for volume in understanding.volumes} == {"yes"}
    volume = understood(shared_data, "philips_dwi_oblique")[1].volumes[0]
    dataset = dcmread(volume.frames[20].path)
    wanted = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    np.testing.assert_allclose(load_voxels(volume)[:, :, 20], wanted.T, rtol=1e-6)
