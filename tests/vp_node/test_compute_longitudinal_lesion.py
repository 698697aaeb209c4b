"""A lesion that grows, from two studies as DICOM to one report: diameters of both dates, change, rate, one identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.vp_model.program_cases import TARGETS
from tests.vp_node.results_support.cases import encoded, written
from tests.vp_node.studies_support.synthetic import Slices, rotation, stack_matrix, write
from vp_model.imaging.intensity import Image
from vp_model.outcome import InputVolume, ModelIdentity, Outcome, Step
from vp_model.program.environment import ProgramEnvironment
from vp_model.program.results import build_outcome
from vp_node.compute import child
from vp_node.compute.codec import RunJob
from vp_node.compute.kept import Kept
from vp_node.compute.longitudinal import DAYS_PER_YEAR
from vp_node.config import AlignmentSection
from vp_node.results import check_objects
from vp_node.studies.headers import read_header
from vp_node.studies.sessions import sessions_of
from vp_node.studies.understanding import understand
from vp_node.studies.volume_set import SeriesSelection, choose

FIRST, SECOND = date(2023, 4, 1), date(2024, 10, 1)
YEARS = (SECOND - FIRST).days / DAYS_PER_YEAR
LESION = "white matter lesion"
PROGRAM = """\
task("extent analysis")
roi = segment("white matter lesion", v1<MOD>, v2<MOD>)
show(roi)
report("plane diameter", plane_diameter(at(roi, earliest(roi)), "axial"))
report("plane diameter", plane_diameter(at(roi, latest(roi)), "axial"))
report("volume", volume(at(roi, earliest(roi))))
report("volume", volume(at(roi, latest(roi))))
"""


class Bright:
    """Stands for the network: a lesion is what is bright."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self.images = images

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        return {name: (self.images[name].voxels > 500).astype(np.float32) for name in volumes}

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones((len(volumes), 8), np.float32)


class ProgramAgent:
    """Runs one program, by the real interpreter."""

    identity = ModelIdentity("program", "1", "ef" * 32)

    def sight(self, volumes: Sequence[Any]) -> None:
        return None

    def run(
        self,
        prompt: str,
        volumes: Sequence[Any],
        progress: Callable[..., None] | None = None,
        sight: object | None = None,
    ) -> Outcome:
        told = tuple(InputVolume(item.name, item.kind, item.visit.isoformat(), item.session) for item in volumes)
        images = {item.name: Image(item.features[0].numpy(), item.world) for item in volumes}
        environment = ProgramEnvironment(told, images, Bright(images), TARGETS)
        result = environment.step(PROGRAM)
        assert result.error == ""
        return build_outcome(environment, prompt, [Step(PROGRAM, result.output, "")], self.identity)


def write_study(
    folder: Path, visit: date, turned: tuple[float, float, float, float], radii: NDArray[np.float64]
) -> None:
    """A scan, on a grid of its own, of an ellipsoidal lesion with these radii in mm."""
    lps = stack_matrix(rotation(turned), (0.8, 0.8, 1.0), (0.0, 0.0, 0.0))
    shape = (64, 60, 48)
    lps[:3, 3] = -lps[:3, :3] @ ((np.array(shape) - 1) / 2)
    points = np.moveaxis(np.indices(shape), 0, -1) @ lps[:3, :3].T + lps[:3, 3]
    voxels = np.where((((points - [3.0, -2.0, 4.0]) / radii) ** 2).sum(-1) < 1, 900, 200).astype(np.int16)
    attributes = {
        "StudyDate": f"{visit:%Y%m%d}",
        "StudyTime": "101112",
        "StudyID": "1",
        "SeriesDescription": "FLAIR",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "Manufacturer": "Synthetic",
        "PositionReferenceIndicator": "",
    }
    write(Slices(lps, voxels, attributes=attributes), folder)


def items_of(dataset: Dataset) -> list[Dataset]:
    found = []
    for item in dataset.get("ContentSequence") or []:
        found += [item, *items_of(item)]
    return found


def numbers(report: Dataset) -> list[tuple[str, float]]:
    """Every number of a report, by its unit."""
    return [
        (
            str(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
            float(item.MeasuredValueSequence[0].NumericValue),
        )
        for item in items_of(report)
        if item.ValueType == "NUM"
    ]


@pytest.mark.requirement("RECIST-like diameters over time, with one tracking UID, in an SR that cites both sessions")
def test_a_growing_lesion_has_its_diameter_at_both_dates_its_growth_and_one_identity(tmp_path: Path) -> None:
    before, after = np.array([7.0, 5.0, 6.0]), np.array([9.5, 6.0, 7.0])
    write_study(tmp_path / "second", SECOND, (1.0, 0.0, 0.0, 0.0), after)
    write_study(tmp_path / "first", FIRST, (0.99, 0.02, -0.03, 0.01), before)
    headers = [read_header(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    chosen = choose(sessions_of(understand(headers).volumes), SeriesSelection(sessions=2)).chosen
    assert [item.volume.visit for item in chosen] == [FIRST, SECOND]
    (tmp_path / "out").mkdir()
    still = AlignmentSection(within_sessions=False, across_sessions=False)
    child._run(
        ProgramAgent(), RunJob("how has it grown?", chosen, tmp_path / "out", still).to_json(), lambda _: None, Kept()
    )
    outcome = Outcome.load(tmp_path / "out")

    diameters = {item.visit: item for item in outcome.measurements if item.name == "plane diameter"}
    assert diameters[FIRST.isoformat()].value == pytest.approx(2 * before.max(), abs=1.6)  # two voxels
    assert diameters[SECOND.isoformat()].value == pytest.approx(2 * after.max(), abs=1.6)
    growth = diameters[SECOND.isoformat()].value - diameters[FIRST.isoformat()].value
    changes = {(item.name, item.unit): item.value for item in outcome.measurements if len(item.visits) == 2}
    assert changes["extent change", "mm"] == pytest.approx(growth)
    assert changes["annual change", "mm/a"] == pytest.approx(growth / YEARS)
    assert changes["relative extent change", "%"] == pytest.approx(100 * growth / diameters[FIRST.isoformat()].value)

    objects = encoded(outcome, chosen)
    paths = written(objects, tmp_path / "objects")
    sources = {str(dcmread(path).SOPInstanceUID): path for path in tmp_path.rglob("[1-2].*.dcm")}
    findings = check_objects(paths, sources)
    assert [item for found in findings.values() for item in found if item.severity == "error"] == []
    (report,) = [item.dataset for item in objects if item.role == "sr"]
    said = numbers(report)
    for unit, value in [
        *(("mm", item.value) for item in diameters.values()),
        ("mm", growth),
        ("mm/a", growth / YEARS),
        *(("ml", item.value) for item in outcome.measurements if item.name == "volume"),
    ]:
        assert any(unit == own and found == pytest.approx(value, rel=1e-4) for own, found in said), (unit, value)
    identities = {
        str(item.UID)
        for measured in items_of(report)
        if any(own.ValueType == "NUM" for own in measured.get("ContentSequence") or [])
        for item in measured.ContentSequence
        if item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeMeaning == "Tracking Unique Identifier"
    }
    assert len(identities) == 1
    evidence = (
        *report.CurrentRequestedProcedureEvidenceSequence,
        *report.get("PertinentOtherEvidenceSequence", ()),
    )
    assert {item.volume.study_instance_uid for item in chosen} <= {study.StudyInstanceUID for study in evidence}
    # The run on the first study alone, long before, named the lesion by the same UID.
    alone = choose(sessions_of([chosen[0].volume]), SeriesSelection()).chosen
    masks = tuple(mask for mask in outcome.masks if mask.visit == FIRST.isoformat())
    earlier = encoded(Outcome(outcome.status, outcome.transcript, outcome.model, masks=masks), alone)
    (segment,) = next(item.dataset for item in earlier if item.role == "seg").SegmentSequence
    assert {str(segment.TrackingUID)} == identities
