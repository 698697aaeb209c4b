"""Writing results: 100 segments and 100 groups, against plain highdicom and dcmqi's itkimage2segimage, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import SimpleITK
from highdicom.seg import Segmentation
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, Mask, Measurement, ModelIdentity, Outcome, Transcript
from vp_node.config import Config
from vp_node.results import PromptProvenance, RunIdentity, check_objects, encode
from vp_node.studies.headers import read_header
from vp_node.studies.model import ChosenVolume
from vp_node.studies.understanding import understand

SHAPES = ((256, 256, 180), (512, 512, 400))
"""(columns, rows, slices)."""
SEGMENTS = 100
RADIUS = 14
"""Voxels: a ball of this size has 29 slices."""
DENSE_LIMIT = 6e9
"""Bytes of highdicom's dense array beyond which it is not tried."""


def main() -> None:
    print(f"{'':34}{'time':>10}{'size':>12}")
    for shape in SHAPES:
        print("×".join(str(size) for size in shape), f"voxels, {SEGMENTS} segments")
        _of_shape(shape)


def _of_shape(shape: tuple[int, int, int]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        item = _source(folder / "in", shape)
        outcome = _outcome(item)
        identity = RunIdentity("run", item.volume.study_instance_uid, "v", "ab", "cd")
        provenance = PromptProvenance("benchmark", 1, "p", "o", requested_at=datetime(2026, 1, 1, tzinfo=UTC))
        objects: list[Any] = []
        _time("node: SEG and SR", lambda: objects.extend(encode(outcome, [item], identity, provenance, Config())))
        paths = [folder / f"{made.role}.dcm" for made in objects]
        _time(
            "node: writing both",
            lambda: [
                made.dataset.save_as(path, enforce_file_format=True) for made, path in zip(objects, paths, strict=True)
            ],
        )
        for path in paths:
            print(f"  {path.stem:32}{'':10}{path.stat().st_size / 1e6:10.1f} MB")
        sources = {frame.sop_instance_uid: frame.path for frame in item.volume.frames}
        _time("node: check of both", lambda: check_objects(paths, sources))
        bare = [replace(entry, masks=()) for entry in outcome.measurements]
        no_masks = replace(outcome, masks=(), measurements=tuple(bare))
        _time("node: SR alone, without segments", lambda: encode(no_masks, [item], identity, provenance, Config()))
        _time("plain highdicom: SEG", lambda: _by_highdicom(item, outcome, objects[0].dataset, folder))
        _time("dcmqi itkimage2segimage", lambda: _by_dcmqi(item, outcome, folder))


def _time(name: str, work: Callable[[], Any]) -> None:
    begin = time.perf_counter()
    said = work()
    seconds = time.perf_counter() - begin
    print(f"  {name:32}{said:>10}" if isinstance(said, str) else f"  {name:32}{seconds:8.2f} s", flush=True)


def _source(folder: Path, shape: tuple[int, int, int]) -> ChosenVolume:
    """A classic MR series without anything in its pixels."""
    folder.mkdir()
    columns, rows, slices = shape
    for k in range(slices):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = UID(f"1.2.3.4.{k + 1}")
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
        image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "b", "", "", ""
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260101", "", "", ""
        image.ReferringPhysicianName = ""
        image.Modality, image.SeriesNumber, image.InstanceNumber = "MR", 1, k + 1
        image.Rows, image.Columns, image.BitsAllocated, image.BitsStored, image.HighBit = rows, columns, 16, 16, 15
        image.PixelRepresentation, image.SamplesPerPixel, image.PhotometricInterpretation = 0, 1, "MONOCHROME2"
        image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        image.ImagePositionPatient, image.SliceThickness = [0, 0, k], 1
        image.PixelData = bytes(2 * rows * columns)
        image.save_as(folder / f"{k:04}.dcm", enforce_file_format=True)
    (volume,) = understand([read_header(path) for path in sorted(folder.iterdir())]).volumes
    return ChosenVolume("v1", 0, volume)


def _outcome(item: ChosenVolume) -> Outcome:
    """Balls at random places, each with its volume. Ten arrays serve all segments: memory is not what is measured."""
    shape = item.volume.shape
    generator = np.random.default_rng(0)
    structures = [name for name, entry in load_ontology().structures.items() if entry.kind == "anatomy"]
    pool = [_ball(shape, generator) for _ in range(10)]
    masks, measurements = [], []
    for number in range(SEGMENTS):
        structure, name = structures[number % len(structures)], f"mask-{number}"
        label = f"{structure} {number}"
        masks.append(Mask(name, structure, "", "", 0, "v1", label, pool[number % 10], item.volume.world))
        measurements.append(Measurement("volume", 1.5 + number, "ml", structure, "", "", label, (name,)))
    return Outcome(
        "answered",
        Transcript("p", (InputVolume("v1", "T1", "", 0),)),
        ModelIdentity("m", "1", "ab"),
        masks=tuple(masks),
        measurements=tuple(measurements),
    )


def _ball(shape: tuple[int, int, int], generator: np.random.Generator) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    corner = [int(generator.integers(1, size - 2 * RADIUS - 1)) for size in shape]
    grid = np.indices((2 * RADIUS + 1,) * 3) - RADIUS
    mask[tuple(slice(start, start + 2 * RADIUS + 1) for start in corner)] = (grid**2).sum(axis=0) <= RADIUS**2
    return mask


def _by_highdicom(item: ChosenVolume, outcome: Outcome, template: Dataset, folder: Path) -> str | None:
    """Its constructor with one dense array, as its documentation shows."""
    if np.prod(item.volume.shape, dtype=float) * SEGMENTS > DENSE_LIMIT:
        return "too large"
    headers = [highdicom.imread(frame.path) for frame in item.volume.frames]
    pixels = np.stack([mask.voxels.transpose(2, 1, 0) for mask in outcome.masks], axis=-1)
    made = Segmentation(
        source_images=headers,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[highdicom.seg.SegmentDescription.from_dataset(one) for one in template.SegmentSequence],
        series_instance_uid="2.25.1",
        series_number=1,
        sop_instance_uid="2.25.2",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(folder / "highdicom.dcm")
    return None


def _by_dcmqi(item: ChosenVolume, outcome: Outcome, folder: Path) -> str | None:
    """Ten files of ten labels each; writing them is not counted."""
    program = Path(sys.executable).parent / "itkimage2segimage"
    if not program.exists():
        return "absent"
    code = {"CodeValue": "91723000", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Anatomical Structure"}
    attributes, files = [], []
    for group in range(SEGMENTS // 10):
        labels = np.zeros(item.volume.shape, np.uint8)
        for number in range(10):
            labels[outcome.masks[(group + number) % 10].voxels] = number + 1
        image = SimpleITK.GetImageFromArray(labels.transpose(2, 1, 0))
        files.append(folder / f"labels-{group}.nrrd")
        SimpleITK.WriteImage(image, str(files[-1]))
        attributes.append(
            [
                {
                    "labelID": number + 1,
                    "SegmentDescription": f"s{group}-{number}",
                    "SegmentAlgorithmType": "AUTOMATIC",
                    "SegmentAlgorithmName": "m",
                    "SegmentedPropertyCategoryCodeSequence": code,
                    "SegmentedPropertyTypeCodeSequence": code,
                }
                for number in range(10)
            ]
        )
    (folder / "meta.json").write_text(
        json.dumps(
            {"ContentCreatorName": "b", "SeriesNumber": "1", "InstanceNumber": "1", "segmentAttributes": attributes}
        )
    )
    command = [str(program), "--inputImageList", ",".join(map(str, files)), "--inputDICOMDirectory", str(folder / "in")]
    command += ["--inputMetadata", str(folder / "meta.json"), "--outputDICOM", str(folder / "dcmqi.dcm"), "--skip"]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode != 0 or not (folder / "dcmqi.dcm").exists():
        return "failed"
    return f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
