"""A prompt about change on the later of two studies: the earlier one is fetched, aligned, measured and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from tests.integration.node import Node, free_port, make_node, wait_for
from tests.integration.test_end_to_end import objects_of_modality
from tests.vp_node.wire_support.archives import store_all
from tests.vp_node.wire_support.orthanc import orthanc_server
from vp_model.outcome import Outcome
from vp_node.config import Peer, load_config
from vp_node.database.engine import create_database_engine, session_factory
from vp_node.database.models import Run, Study, StudyState

PROMPT = """
name = "growth"
owner = "Dr. Example"
text = "How much have the lateral ventricles grown since the last visit?"

[selection]
kinds = ["FLAIR"]
max_per_session = 1
"""
EARLIER, LATER = "2014-03-05", "2014-05-25"
YEARS = 81 / 365.25
STRUCTURE = "lateral ventricle"


def files(shared_data: Path, study: int) -> list[Path]:
    return sorted((shared_data / "dicom" / "ms12_longitudinal" / "dicom").glob(f"study{study}_*/*.dcm"))


def add_prompt(node: Node, folder: Path) -> None:
    (folder / "growth.toml").write_text(PROMPT)
    node.run("prompts", "add", str(folder / "growth.toml"))


def outcome_of(node: Node, run_id: str) -> Outcome:
    config = load_config(node.config)
    sessions = session_factory(create_database_engine(config.database_url))
    with sessions() as session:
        return Outcome.load(config.node.data_folder / session.get_one(Run, run_id).outcome_folder)


def wait_for_answer(node: Node, sessions: int) -> Outcome:
    """The answer that draws on so many sessions, of a run that has ended."""

    def found() -> Outcome | None:
        for run in node.json("runs"):
            assert run["state"] != "failed", run
            if run["state"] == "done":
                outcome = outcome_of(node, run["run"])
                if len({volume.session for volume in outcome.transcript.volumes}) == sessions:
                    return outcome
        return None

    outcome: Outcome = wait_for(found, 500, lambda: f"a longitudinal answer: {node.json('runs')}\n{node.log_tail()}")
    return outcome


def values(outcome: Outcome) -> dict[tuple[str, str, str], float]:
    """By name, date and unit; both sides together."""
    sides = {item.side for item in outcome.measurements if item.structure == STRUCTURE}
    side = "both" if "both" in sides else next(iter(sides))
    return {
        (item.name, item.visit if len(item.visits) < 2 else "", item.unit): item.value
        for item in outcome.measurements
        if item.side == side
    }


def published(shared_data: Path, study: int) -> NDArray[np.float64]:
    """RAS mm of the common space → RAS mm of the study's FLAIR, as its publishers registered it (ITK, LPS, affine)."""
    path = shared_data / "dicom" / "ms12_longitudinal" / f"study{study}_FLAIR_to_common_space.txt"
    said = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line and "#" not in line)
    numbers = np.array([float(value) for value in said["Parameters"].split()])
    centre = np.array([float(value) for value in said["FixedParameters"].split()])
    matrix = np.eye(4)
    matrix[:3, :3] = numbers[:9].reshape(3, 3)
    matrix[:3, 3] = numbers[9:] + centre - matrix[:3, :3] @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return np.asarray(flip @ matrix @ flip, dtype=np.float64)


def rigid_part(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the nearest rigid transform takes points (n, 3)."""
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    left, _, right = np.linalg.svd((moved - moved.mean(0)).T @ (points - points.mean(0)))
    turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    return np.asarray((points - points.mean(0)) @ turn.T + moved.mean(0), dtype=np.float64)


@pytest.fixture(scope="module")
def fetched(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both studies in Orthanc, the later one routed to the node: its run's outcome, the SR and SEG in Orthanc."""
    folder = tmp_path_factory.mktemp("longitudinal")
    port = free_port()
    with orthanc_server(folder / "orthanc", {"node": ("VOXELPROMPT", "127.0.0.1", port)}) as orthanc:
        pacs = Peer(name="pacs", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom_port)
        store_all(pacs, [*files(shared_data, 1), *files(shared_data, 2)])
        node = make_node(
            folder / "node",
            f'[[peers]]\nname = "pacs"\nae_title = "{orthanc.ae_title}"\nhost = "127.0.0.1"\n'
            f"port = {orthanc.dicom_port}\n"
            '[priors]\nsource = "archive"\n'
            '[[prior_sources]]\nname = "archive"\nmethod = "c-move"\npeer = "pacs"\n',
            port=port,
        )
        add_prompt(node, folder)
        node.start()
        try:
            later = next(
                study
                for study in orthanc.studies()
                if orthanc.get(f"/studies/{study}")["MainDicomTags"]["StudyDate"] == LATER.replace("-", "")
            )
            orthanc.send_to_modality("node", later)
            outcome = wait_for_answer(node, sessions=2)
            reports = [dcmread(path) for path in objects_of_modality(orthanc, "SR", folder / "sr")]
            segmentations = [dcmread(path) for path in objects_of_modality(orthanc, "SEG", folder / "seg")]
            yield node, outcome, reports, segmentations
        finally:
            node.stop()


@pytest.mark.requirement("the prior is fetched, aligned, measured and reported with both dates")
@pytest.mark.timeout(900)
def test_the_prior_is_fetched_and_both_dates_the_change_and_its_rate_are_reported(fetched: Any) -> None:
    node, outcome, reports, segmentations = fetched
    found = values(outcome)
    before, after = found["volume", EARLIER, "ml"], found["volume", LATER, "ml"]
    assert before > 0 and after > 0
    assert found["volume change", "", "ml"] == pytest.approx(after - before, abs=1e-6)
    assert found["relative volume change", "", "%"] == pytest.approx(100 * (after - before) / before, abs=1e-6)
    assert found["annual volume change", "", "ml/a"] == pytest.approx((after - before) / YEARS, rel=1e-6)
    runs = node.json("runs")
    assert len(runs) == 1, "no standing prompt runs on the prior"
    assert len(reports) == 1
    assert reports[0].StudyDate == LATER.replace("-", "")
    evidence = (
        *reports[0].CurrentRequestedProcedureEvidenceSequence,
        *reports[0].get("PertinentOtherEvidenceSequence", ()),
    )
    cited = {study.StudyInstanceUID for study in evidence}
    config = load_config(node.config)
    with session_factory(create_database_engine(config.database_url))() as session:
        states = {study.study_instance_uid: study.state for study in session.query(Study)}
    assert sorted(states.values()) == [StudyState.COMPLETE, StudyState.PRIOR]
    assert set(states) <= cited
    assert segmentations


@pytest.mark.requirement("registration error against the known headers is under 0.5 mm")
@pytest.mark.timeout(900)
def test_sessions_are_laid_on_each_other_within_half_a_millimetre(fetched: Any, shared_data: Path) -> None:
    _, outcome, reports, _ = fetched
    alignment = next(item for item in outcome.alignments if item.method == "rigid")
    said = [str(item.value) for item in reports[0].iterall() if item.keyword == "TextValue"]
    assert any(f"Overlap of the heads (Dice) {alignment.overlap:.3f}" in text for text in said)
    earlier = {volume.name for volume in outcome.transcript.volumes if volume.visit == EARLIER}
    assert alignment.volume in earlier
    assert alignment.overlap > 0.9 and alignment.metric_after > alignment.metric_before
    head = np.stack(np.meshgrid(np.linspace(-70, 70, 8), np.linspace(-90, 90, 8), np.linspace(-40, 90, 8)), -1)
    points = head.reshape(-1, 3)
    wanted = rigid_part(published(shared_data, 2) @ np.linalg.inv(published(shared_data, 1)), points)
    found = points @ alignment.world_transform[:3, :3].T + alignment.world_transform[:3, 3]
    error = np.linalg.norm(found - wanted, axis=1)
    assert error.mean() < 0.5


@pytest.mark.requirement("masks stay in each volume's own geometry")
@pytest.mark.timeout(900)
def test_masks_stay_in_each_volumes_own_geometry(fetched: Any, shared_data: Path) -> None:
    _, outcome, _, _ = fetched
    reference = json.loads((shared_data / "dicom" / "ms12_longitudinal" / "reference.json").read_text())
    worlds = [np.array(item["affine_ras"]) for item in reference["header_geometry"]["volumes"]]
    assert {mask.visit for mask in outcome.masks} == {EARLIER, LATER}
    for mask in outcome.masks:
        assert min(np.abs(mask.world - world).max() for world in worlds) < 1e-4


@pytest.mark.requirement("sending the same patient's studies in the wrong order gives the same answer")
@pytest.mark.timeout(900)
def test_the_wrong_order_gives_the_same_answer(fetched: Any, shared_data: Path, tmp_path: Path) -> None:
    _, expected, _, _ = fetched
    node = make_node(tmp_path / "node", "", accept_unknown_peers=True)
    add_prompt(node, tmp_path)
    node.start()
    try:
        peer = Peer(name="node", ae_title="VOXELPROMPT", host="127.0.0.1", port=node.port)
        store_all(peer, files(shared_data, 2))
        wait_for(lambda: node.json("runs"), 60, "the run on the later study")
        store_all(peer, files(shared_data, 1))
        outcome = wait_for_longitudinal_whatever_its_delivery(node)
    finally:
        node.stop()
    wanted, found = values(expected), values(outcome)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key


def wait_for_longitudinal_whatever_its_delivery(node: Node) -> Outcome:
    """This node knows nobody to send results to: its runs end in dead letters, with an outcome all the same."""

    def found() -> Outcome | None:
        config = load_config(node.config)
        with session_factory(create_database_engine(config.database_url))() as session:
            folders = [run.outcome_folder for run in session.query(Run) if run.outcome_folder]
        for folder in folders:
            outcome = Outcome.load(config.node.data_folder / folder)
            if len({volume.session for volume in outcome.transcript.volumes}) == 2:
                return outcome
        return None

    outcome: Outcome = wait_for(found, 500, lambda: f"a longitudinal answer: {node.json('runs')}\n{node.log_tail()}")
    return outcome
