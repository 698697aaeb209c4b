"""Programs of others that read what the node writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray


def program(name: str) -> str:
    """Path of a program in the environment or on the machine; the test is skipped where there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"The program {name} is absent.")
    return found


KNOWN_FALSE = "Shall not be present for Referenced SOP Class that is not segmentation"
"""dciodvfy of 2022 does not know the Label Map Segmentation class, to which a report may refer."""


def dciodvfy_errors(path: Path) -> list[str]:
    """Errors only: warnings tell of private codes and of Device UID in the Contributing Equipment (CP of 2020)."""
    done = subprocess.run([program("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False)
    return [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if line.startswith("Error") and KNOWN_FALSE not in line
    ]


def dsrdump(path: Path) -> str:
    done = subprocess.run([program("dsrdump"), "+Pl", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def segments_by_dcmqi(path: Path, folder: Path) -> dict[int, tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """Voxels (columns, rows, slices) and voxel index → RAS matrix of each segment, as dcmqi reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [program("segimage2itkimage"), "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nifti"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-800:] + done.stderr[-800:]
    found = {}
    for file in folder.glob("*.nii.gz"):
        image = SimpleITK.ReadImage(str(file))
        direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        lps = np.eye(4)
        lps[:3, :3], lps[:3, 3] = direction, image.GetOrigin()
        voxels = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0).astype(bool)
        found[int(file.name.split(".")[0].rsplit("-", 1)[-1].rsplit("_", 1)[-1])] = (
            voxels,
            np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps,
        )
    return found


def report_by_dcmqi(path: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "report.json"
    command = [program("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-800:] + done.stderr[-800:]
    loaded: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return loaded
