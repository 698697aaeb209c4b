"""Loading: from a study that the node has indexed to voxels in memory, against tools that begin with the files.

.venv/bin/python -m benchmarks.loading [--cases FOLDER] [--slices 2000] [--rounds 3]

Every tool runs in a process of its own, so that its peak of memory is its own. dcm2niix writes uncompressed NIfTI into
memory (`/dev/shm` where there is one); the others end with arrays. The imports of Python are not counted, the start of
dcm2niix is. What the node does once, when a study arrives, is the row `vp-node, indexing`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REAL = {
    "MS T1, native": "ms12_longitudinal/dicom/study1_T1W",
    "MS FLAIR, JPEG-LS": "ms12_longitudinal/dicom/study2_FLAIR",
    "MS FLAIR, JPEG lossless": "ms12_longitudinal/dicom/study1_FLAIR",
    "MS T1, JPEG 2000": "ms12_longitudinal/dicom/study2_T1W",
    "Siemens enhanced study": "sie_xa30_enhanced_brain/dicom",
    "Philips 2 echoes × 2": "philips_dualecho_mag_phase/dicom",
    "Philips DWI, oblique": "philips_dwi_oblique/dicom",
    "Philips CT, tilted": "ct_philips_tilt_phantom/dicom",
}
MADE = {"made T1, 192 slices of 256²": (192, 256, "MR"), "made CT, 140 slices of 512²": (140, 512, "CT")}
LONG_CT = 512


@dataclass(frozen=True)
class Taken:
    """What one tool took for one case."""

    seconds: float
    megabytes: float
    """Peak of its process."""
    voxels: int
    """In all its volumes; 0 where it refused."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, default=default_cases(), help="folder of real cases; left out if absent")
    parser.add_argument("--slices", type=int, default=2000, help="of the long CT; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tool", choices=list(TOOLS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.tool:
        print(json.dumps(asdict(TOOLS[chosen.tool](chosen.folder, chosen.index))))
        return
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), chosen.cases, chosen.slices, chosen.rounds)


def default_cases() -> Path:
    shared = os.environ.get("VP_SHARED_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    return Path(shared) / "dicom"


def compare(folder: Path, cases: Path, slices: int, rounds: int) -> None:
    print(f"Median of {rounds} rounds: seconds, and peak of the process's memory in MB.\n")
    print(f"| case | {' | '.join(TOOLS)} |")
    print("|---" * (1 + len(TOOLS)) + "|")
    for title, where in REAL.items():
        if (cases / where).is_dir():
            print(row(title, cases / where, folder, rounds), flush=True)
    made = dict(MADE)
    if slices:
        made[f"made CT, {slices} slices of {LONG_CT}²"] = (slices, LONG_CT, "CT")
    for title, (count, side, modality) in made.items():
        with tempfile.TemporaryDirectory(dir=folder) as name:
            write_stack(Path(name), count, side, modality)
            print(row(title, Path(name), folder, rounds), flush=True)


def row(title: str, study: Path, folder: Path, rounds: int) -> str:
    index = folder / "index.json"
    write_index(study, index)
    taken: dict[str, list[Taken]] = defaultdict(list)
    for _ in range(rounds):
        for tool in TOOLS:  # in turn, so that other work on the machine is shared fairly
            read_once(study)
            taken[tool].append(run(tool, study, index))
    return f"| {title} | {' | '.join(cell(taken[tool]) for tool in TOOLS)} |"


def read_once(study: Path) -> None:
    """Brings the files into the system's cache, from which the tool before may have driven them."""
    for path in files_of(study):
        path.read_bytes()


def cell(taken: Sequence[Taken]) -> str:
    if not taken[0].voxels:
        return "refused"
    return f"{statistics.median(item.seconds for item in taken):.3f} s, {max(item.megabytes for item in taken):.0f} MB"


def run(tool: str, study: Path, index: Path) -> Taken:
    command = [
        sys.executable,
        "-m",
        "benchmarks.loading",
        "--tool",
        tool,
        "--folder",
        str(study),
        "--index",
        str(index),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Taken(**json.loads(done.stdout.splitlines()[-1]))


def timed(work: Callable[[], int]) -> Taken:
    import resource

    start = time.perf_counter()
    voxels = work()
    seconds = time.perf_counter() - start
    return Taken(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, voxels)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_index(folder: Path, index: Path) -> None:
    """What the node's database holds of a study's volumes."""
    from vp_node.compute.codec import volume_to_json
    from vp_node.studies.headers import read_header
    from vp_node.studies.understanding import understand

    volumes = understand([read_header(path) for path in files_of(folder)]).volumes
    index.write_text(json.dumps([volume_to_json(volume) for volume in volumes]), encoding="utf-8")


def with_node(_: Path, index: Path) -> Taken:
    """From the index to float32 voxels, one volume after the other."""
    from vp_node.compute.codec import volume_from_json
    from vp_node.studies.pixels import load_voxels

    def work() -> int:
        volumes = [volume_from_json(item) for item in json.loads(index.read_text(encoding="utf-8"))]
        return sum(load_voxels(volume).size for volume in volumes)

    return timed(work)


def with_indexing(folder: Path, _: Path) -> Taken:
    """What is done once, when the study arrives: reading its headers and grouping them."""
    from vp_node.studies.headers import read_header
    from vp_node.studies.understanding import understand

    def work() -> int:
        volumes = understand([read_header(path) for path in files_of(folder)]).volumes
        return sum(volume.shape[0] * volume.shape[1] * volume.shape[2] for volume in volumes)

    return timed(work)


_DCM2NIIX = """
import os, sys, time
start = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024)
"""
"""Small, because the peak of a process that was started counts what it was forked from."""


def with_dcm2niix(folder: Path, _: Path) -> Taken:
    memory = Path("/dev/shm")  # noqa: S108 (only the benchmark's own folder in it)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as out:
        program = str(Path(sys.executable).with_name("dcm2niix"))
        command = [sys.executable, "-S", "-c", _DCM2NIIX, program, "-z", "n", "-b", "n", "-o", out, str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        written = sum(path.stat().st_size for path in Path(out).glob("*.nii"))
    seconds, megabytes = (float(value) for value in done.stdout.split())
    return Taken(seconds, megabytes, written)


def with_simpleitk(folder: Path, _: Path) -> Taken:
    import SimpleITK

    def work() -> int:
        reader = SimpleITK.ImageSeriesReader()
        voxels = 0
        for place in sorted({path.parent for path in files_of(folder)}):
            for series in reader.GetGDCMSeriesIDs(str(place)):
                reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(place), series))
                voxels += SimpleITK.GetArrayViewFromImage(reader.Execute()).size
        return voxels

    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        return timed(work)
    except RuntimeError:
        return Taken(0, 0, 0)


def with_highdicom(folder: Path, _: Path) -> Taken:
    import highdicom
    from pydicom import dcmread

    def work() -> int:
        series: dict[str, list[Any]] = defaultdict(list)
        voxels = 0
        for path in files_of(folder):
            dataset = dcmread(path)
            if dataset.get("NumberOfFrames"):
                volume = highdicom.Image.from_dataset(dataset, copy=False).get_volume()
                voxels += volume.array.size
            else:
                series[dataset.SeriesInstanceUID].append(dataset)
        return voxels + sum(highdicom.get_volume_from_series(members).array.size for members in series.values())

    try:
        return timed(work)
    except (ValueError, RuntimeError, AttributeError, KeyError):
        return Taken(0, 0, 0)


TOOLS: dict[str, Callable[[Path, Path], Taken]] = {
    "vp-node": with_node,
    "vp-node, indexing": with_indexing,
    "dcm2niix": with_dcm2niix,
    "SimpleITK": with_simpleitk,
    "highdicom": with_highdicom,
}


def write_stack(folder: Path, slices: int, side: int, modality: str) -> None:
    """A series of smooth slices with noise, native, in files of the size that scanners write."""
    import numpy as np

    from tests.vp_node.studies_support.synthetic import Slices, stack_matrix, write

    chance = np.random.default_rng(1)
    plane = chance.integers(0, 2000, (side, side, 1), dtype=np.int16)
    whole = Slices(
        stack_matrix(np.eye(3), (0.5, 0.5, 0.6), (-120.0, -120.0, 0.0)),
        np.broadcast_to(plane, (side, side, slices)),
        modality=modality,
        attributes={"RescaleSlope": "1", "RescaleIntercept": "-1024" if modality == "CT" else "0"},
    )
    write(whole, folder)


if __name__ == "__main__":
    main()
