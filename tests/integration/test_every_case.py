"""Every real study that is at hand is accepted over DICOM, and shown as volumes in their true place or set aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.integration.node import make_node, wait_for
from tests.vp_node.studies_support.synthetic import corner_distance
from vp_node.config import Peer
from vp_node.dicom.sender import send

TOLERANCE_MM = 0.05


def is_same_place(volume: dict[str, Any], world: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    return corner_distance(np.array(volume["world"]), tuple(volume["shape"]), world, shape) < TOLERANCE_MM


@pytest.mark.requirement("every case is accepted; its volumes match their reference, or a reason is written")
@pytest.mark.timeout(600)
def test_every_case_is_accepted_and_understood(shared_data: Path, tmp_path: Path) -> None:
    cases = sorted(path.parent for path in (shared_data / "dicom").glob("*/reference.json"))
    assert len(cases) == 20
    node = make_node(tmp_path / "node", "", accept_unknown_peers=True)
    node.start()
    try:
        peer = Peer(name="node", ae_title="VOXELPROMPT", host="127.0.0.1", port=node.port)
        sent = 0
        for case in cases:
            paths = sorted(path for path in (case / "dicom").rglob("*") if path.is_file())
            reports = send(peer, paths, "MODALITY")
            assert {report.outcome for report in reports} == {"sent"}, case.name
            sent += len(paths)
        studies = wait_for(lambda: all_understood(node.json("studies")), 120, "all studies to be understood")
        shown = [node.json("volumes", study["study"]) for study in studies]
    finally:
        node.stop()
    volumes = [volume for item in shown for volume in item["volumes"]]
    set_aside = [entry for item in shown for entry in item["set_aside"]]
    assert volumes and all(entry["reason"] for entry in set_aside)
    for case in cases:
        reference = json.loads((case / "reference.json").read_text())
        for wanted in reference["header_geometry"]["volumes"]:
            series = wanted["SeriesInstanceUID"]
            aside = [entry for entry in set_aside if entry["series"] == series]
            world, shape = np.array(wanted["affine_ras"]), tuple(wanted["shape_ijk"])
            found = [volume for volume in volumes if volume["series"] == series and is_same_place(volume, world, shape)]
            assert found or aside, f"{case.name}: series {wanted['SeriesNumber']} is neither a volume nor set aside"


def all_understood(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return studies if len(studies) == 20 and all(study["state"] == "complete" for study in studies) else []
