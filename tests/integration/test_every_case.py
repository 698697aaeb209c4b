"""Every real study that is at hand is accepted over DICOM, and shown as volumes in their true place or set aside."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.integration.node import make_node, wait_for
from tests.vp_node.studies_support.synthetic import corner_distance
from tests.vp_node.test_studies_cases import CASES
from vp_node.config import Peer
from vp_node.dicom.sender import send
from vp_node.studies.headers import read_header

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
    series = {
        case.name: {read_header(path).series_instance_uid for path in (case / "dicom").rglob("*.dcm")} for case in cases
    }
    for case in cases:
        # Two of the cases are parts of one series.
        together = [name for name, others in series.items() if others & series[case.name]]
        here = set().union(*(series[name] for name in together))
        kinds = sum((Counter(CASES[name][0]) for name in together), Counter())
        reasons = {words for name in together for words in CASES[name][1]}
        assert Counter(volume["kind"] for volume in volumes if volume["series"] in here) == kinds, case.name
        said = {entry["reason"] for entry in set_aside if entry["series"] in here}
        assert all(any(words in reason for reason in said) for words in reasons), case.name
        assert all(any(words in reason for words in reasons) for reason in said), case.name
        reference = json.loads((case / "reference.json").read_text())
        for wanted in reference["header_geometry"]["volumes"]:
            aside = [entry for entry in set_aside if entry["series"] == wanted["SeriesInstanceUID"]]
            world, shape = np.array(wanted["affine_ras"]), tuple(wanted["shape_ijk"])
            own = [volume for volume in volumes if volume["series"] == wanted["SeriesInstanceUID"]]
            found = [volume for volume in own if is_same_place(volume, world, shape)]
            assert found or aside, f"{case.name}: series {wanted['SeriesNumber']} is neither a volume nor set aside"


def all_understood(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return studies if len(studies) == 20 and all(study["state"] == "complete" for study in studies) else []
