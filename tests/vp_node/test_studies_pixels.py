"""Voxels come out as they were stored, rescaled, or not at all with a clear error."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import compress
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from tests.vp_node.studies_support.synthetic import Slices, brain_like, stack_matrix, write
from vp_node.studies.codestream import declared_size
from vp_node.studies.headers import read_header
from vp_node.studies.model import FrameReference, SourceVolume
from vp_node.studies.pixels import PixelError, load_voxels
from vp_node.studies.understanding import understand

LPS = stack_matrix(np.eye(3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))


def volume_of(stack: Slices, folder: Path) -> SourceVolume:
    (volume,) = understand([read_header(path) for path in write(stack, folder)]).volumes
    return volume


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_stored_values_come_back_bit_exact(tmp_path: Path, dtype: str) -> None:
    stack = Slices(LPS, brain_like(1, dtype=dtype))
    voxels = load_voxels(volume_of(stack, tmp_path))
    assert voxels.dtype == np.float32
    np.testing.assert_array_equal(voxels, stack.voxels.astype(np.float32))


def test_each_frame_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    stack = Slices(LPS, brain_like(2))
    stack.attributes = {"RescaleSlope": lambda k: str(0.5 + k), "RescaleIntercept": "-1024"}
    voxels = load_voxels(volume_of(stack, tmp_path))
    expected = stack.voxels * (0.5 + np.arange(4)) - 1024
    np.testing.assert_array_equal(voxels, expected.astype(np.float32))


@pytest.mark.parametrize("signed", [False, True])
def test_twelve_bits_keep_their_sign_and_lose_what_lies_above(tmp_path: Path, signed: bool) -> None:
    values = np.random.default_rng(3).integers(-2048 if signed else 0, 2048 if signed else 4096, (6, 5, 4))
    stored = (values & 0x0FFF) | (np.random.default_rng(4).integers(0, 16, values.shape) << 12)
    stack = Slices(LPS, stored.astype(np.uint16))
    stack.attributes = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    np.testing.assert_array_equal(load_voxels(volume_of(stack, tmp_path)), values.astype(np.float32))


def test_monochrome1_is_inverted_and_flagged(tmp_path: Path) -> None:
    stack = Slices(LPS, brain_like(5, dtype="uint8"))
    stack.attributes = {"PhotometricInterpretation": "MONOCHROME1"}
    volume = volume_of(stack, tmp_path)
    assert volume.flags == ("inverted",)
    np.testing.assert_array_equal(load_voxels(volume), 255 - stack.voxels.astype(np.float32))


def test_padding_of_ct_becomes_the_smallest_real_value(tmp_path: Path) -> None:
    values = np.random.default_rng(6).integers(0, 3000, (6, 5, 4)).astype(np.int16)
    values[0, 0, :] = -2000
    stack = Slices(LPS, values, modality="CT")
    stack.attributes = {"PixelPaddingValue": -2000, "RescaleIntercept": "-1024", "RescaleSlope": "1"}
    voxels = load_voxels(volume_of(stack, tmp_path))
    real = values[values != -2000].min() - 1024
    assert voxels.min() == real
    assert (voxels[0, 0] == real).all()


def test_missing_slice_is_interpolated_between_its_neighbours(tmp_path: Path) -> None:
    stack = Slices(LPS, brain_like(7), skip=(2,))
    volume = volume_of(stack, tmp_path)
    voxels = load_voxels(volume)
    np.testing.assert_allclose(voxels[:, :, 2], (voxels[:, :, 1] + voxels[:, :, 3]) / 2)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels_are_the_same(tmp_path: Path, syntax: str) -> None:
    stack = Slices(LPS, brain_like(8, (16, 12, 4)))
    paths = write(stack, tmp_path)
    for path in paths:
        dataset = dcmread(path)
        compress(dataset, syntax, generate_instance_uid=False)
        dataset.save_as(path)
    (volume,) = understand([read_header(path) for path in paths]).volumes
    np.testing.assert_array_equal(load_voxels(volume), stack.voxels.astype(np.float32))


def test_damaged_pixels_give_a_clear_error(tmp_path: Path) -> None:
    stack = Slices(LPS, brain_like(9, (16, 12, 4)))
    volume = volume_of(stack, tmp_path)
    path = volume.frames[1].path
    whole = path.read_bytes()

    path.write_bytes(whole[:-100])
    with pytest.raises(PixelError, match=r"truncated|readable"):
        load_voxels(volume)

    path.unlink()
    with pytest.raises(PixelError, match="gone"):
        load_voxels(volume)

    path.write_bytes(volume.frames[2].path.read_bytes())
    with pytest.raises(PixelError, match="another instance"):
        load_voxels(volume)

    path.write_bytes(whole)
    dataset = dcmread(path)
    compress(dataset, JPEGLSLossless, generate_instance_uid=False)
    compressed = bytes(dataset.PixelData)
    dataset.PixelData = compressed[: len(compressed) // 2]
    dataset.save_as(path)
    with pytest.raises(PixelError):
        load_voxels(volume)


def test_frame_that_declares_another_size_is_not_decoded(tmp_path: Path) -> None:
    stack = Slices(LPS, brain_like(10, (16, 12, 4)))
    volume = volume_of(stack, tmp_path)
    dataset = dcmread(volume.frames[0].path)
    compress(dataset, JPEGLSLossless, generate_instance_uid=False)
    stream = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    assert declared_size(bytes(stream)) == (12, 16, 1)
    place = stream.index(b"\xff\xf7") + 5
    stream[place : place + 4] = struct.pack(">HH", 60000, 60000)
    dataset.PixelData = encapsulate([bytes(stream)])
    dataset.save_as(volume.frames[0].path)
    with pytest.raises(PixelError, match="declares another size"):
        load_voxels(volume)


def test_volume_above_the_limit_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    volume = replace(volume_of(Slices(LPS, brain_like(11)), tmp_path), shape=(100_000, 100_000, 4))
    with pytest.raises(PixelError, match="larger than the limit"):
        load_voxels(volume)


def test_nine_transfer_syntaxes_decode_to_the_same_pixels(shared_data: Path) -> None:
    decoded = []
    for path in sorted((shared_data / "dicom" / "transfer_syntaxes_9x" / "dicom").rglob("*.dcm")):
        decoded.append(one_frame(path))
    assert len(decoded) == 9
    for voxels in decoded[1:]:
        np.testing.assert_array_equal(voxels, decoded[0])


def test_signed_and_unsigned_twelve_bits_of_a_scanner_differ_only_in_sign(shared_data: Path) -> None:
    ranges = set()
    for path in sorted((shared_data / "dicom" / "bits_12_signed_unsigned" / "dicom").rglob("*.dcm")):
        voxels = one_frame(path)
        ranges.add((float(voxels.min()), float(voxels.max())))
    assert ranges == {(0.0, 2908.0), (0.0, 4095.0), (-2048.0, 2047.0)}


def one_frame(path: Path) -> np.ndarray:
    """The pixels of a mosaic, as they are stored."""
    header = read_header(path)
    volume = SourceVolume(
        identifier="",
        patient_key="",
        study_instance_uid="",
        series_instance_uid="",
        series_number=None,
        series_description="",
        frame_of_reference_uid="",
        modality=header.modality,
        kind="unknown",
        contrast="unknown",
        evidence=(),
        shape=(header.columns, header.rows, 1),
        world=np.eye(4),
        frames=(FrameReference(header.sop_instance_uid, header.sop_class_uid, path),),
        visit=None,
    )
    return load_voxels(volume)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16"]),
    spare=st.sampled_from([0, 0, 4]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    slope=st.sampled_from([1.0, 1.0, 0.5, 2.44140625, 0.0183150183]),
    intercept=st.sampled_from([0.0, -1024.0, 12.25]),
    padding=st.sampled_from([None, (-2000, None), (0, 3), (2000, 9000)]),
    implicit=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_pixels_read_from_their_place_are_those_that_the_parser_finds(
    dtype: str,
    spare: int,
    photometric: str,
    slope: float,
    intercept: float,
    padding: tuple[int, int | None] | None,
    implicit: bool,
    seed: int,
) -> None:
    attributes: dict[str, object] = {
        "PhotometricInterpretation": photometric,
        "RescaleSlope": str(slope),
        "RescaleIntercept": str(intercept),
    }
    bits = 8 * np.dtype(dtype).itemsize - spare
    attributes |= {"BitsStored": bits, "HighBit": bits - 1}
    if padding is not None and dtype != "uint8":
        low, limit = padding
        attributes["PixelPaddingValue"] = low if low >= 0 or dtype == "int16" else low % 65536
        if limit is not None:
            attributes["PixelPaddingRangeLimit"] = limit
    stack = Slices(np.diag([1.0, 1.0, 2.0, 1.0]), brain_like(seed, (7, 5, 3), dtype), attributes=attributes)
    with tempfile.TemporaryDirectory() as name:
        paths = write(stack, Path(name))
        if implicit:
            for path in paths:
                dataset = dcmread(path)
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
                dataset.save_as(path, implicit_vr=True, little_endian=True)
        (volume,) = understand([read_header(path) for path in paths]).volumes
        assert all(frame.stored is not None for frame in volume.frames)
        direct = load_voxels(volume)
        frames = tuple(replace(frame, stored=None) for frame in volume.frames)
        np.testing.assert_array_equal(direct, load_voxels(replace(volume, frames=frames)))


@pytest.mark.parametrize(
    "name", ["ms12_longitudinal", "transfer_syntaxes_9x", "sie_mosaic_ax_cor_sag", "ico_jpegls_noise"]
)
def test_compressed_frames_are_decoded_from_their_place_as_the_parser_finds_them(shared_data: Path, name: str) -> None:
    paths = sorted((shared_data / "dicom" / name / "dicom").rglob("*.dcm"))
    volumes = understand([read_header(path) for path in paths]).volumes
    compressed = 0
    for volume in volumes:
        compressed += sum(bool(frame.stored and frame.stored.layout.transfer_syntax_uid) for frame in volume.frames)
        frames = tuple(replace(frame, stored=None) for frame in volume.frames)
        np.testing.assert_array_equal(load_voxels(volume), load_voxels(replace(volume, frames=frames)))
    assert compressed


def test_a_compressed_frame_that_does_not_decode_is_told_by_the_parser(tmp_path: Path) -> None:
    (path,) = write(Slices(LPS, brain_like(5, (32, 24, 1))), tmp_path)
    dataset = dcmread(path)
    dataset.compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    dataset.PixelData = encapsulate([next(generate_frames(dataset.PixelData, number_of_frames=1))[:60]])
    dataset.save_as(path)
    header = read_header(path)
    assert header.layout is not None and header.layout.transfer_syntax_uid == JPEGLSLossless
    (volume,) = understand([header]).volumes
    with pytest.raises(PixelError, match="do not decode"):
        load_voxels(volume)


def test_a_file_that_has_changed_is_parsed_again(tmp_path: Path) -> None:
    """Its pixels lie elsewhere than the index says: they are found all the same."""
    stack = Slices(np.diag([1.0, 1.0, 2.0, 1.0]), brain_like(3, (7, 5, 3)))
    paths = write(stack, tmp_path)
    (volume,) = understand([read_header(path) for path in paths]).volumes
    dataset = dcmread(paths[1])
    dataset.ImageComments = "longer than before"
    dataset.save_as(paths[1])
    np.testing.assert_array_equal(load_voxels(volume), stack.voxels.astype(np.float32))


@pytest.mark.requirement("bounded memory on a CT of thousands of slices")
def test_loading_needs_no_more_memory_than_the_volume_and_a_few_slices(tmp_path: Path) -> None:
    side, slices = 64, 600
    voxels = np.random.default_rng(0).integers(-1000, 2000, (side, side, slices), dtype=np.int16)
    voxels[:9, :9] = -2000
    attributes = {"PixelPaddingValue": -2000, "RescaleSlope": "1", "RescaleIntercept": "-1024"}
    stack = Slices(np.diag([1.0, 1.0, 0.5, 1.0]), voxels, modality="CT", attributes=attributes)
    volume = volume_of(stack, tmp_path)
    tracemalloc.start()
    try:
        loaded = load_voxels(volume)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert loaded.shape == (side, side, slices)
    masks = side * side * slices / 8
    assert peak < loaded.nbytes + masks + 40 * side * side * 4 + 200_000  # and what holds 600 small arrays


def test_frames_of_one_object_are_read_from_their_place(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "sie_xa30_enhanced_brain" / "dicom"
    volumes = understand([read_header(path) for path in sorted(folder.rglob("*")) if path.is_file()]).volumes
    volume = max(volumes, key=lambda item: len(item.frames))
    assert {frame.stored is not None for frame in volume.frames} == {True}
    frames = tuple(replace(frame, stored=None) for frame in volume.frames)
    np.testing.assert_array_equal(load_voxels(volume), load_voxels(replace(volume, frames=frames)))
