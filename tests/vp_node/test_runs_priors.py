"""Earlier studies come from real archives for a run that asks about change, and from nowhere for one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from tests.vp_node.runs_support.index import closed_study, make_context
from tests.vp_node.runs_support.prompts import add_prompt
from tests.vp_node.runs_support.studies import study_uid, write_phantom
from tests.vp_node.wire_support.archives import dcmqrscp, store_all
from tests.vp_node.wire_support.orthanc import free_port, orthanc_server
from vp_node.config import Config, DicomSection, Peer, PriorSource, PriorsSection
from vp_node.database.models import Instance, Patient, PriorFetch, Run, Study, StudyState
from vp_node.dicom.listener import Listener
from vp_node.runs.context import RunContext
from vp_node.runs.planning import plan_standing_prompts
from vp_node.runs.steps import perform

CHANGE = "How much has the lesion grown since the last visit?"
NODE = "VOXELPROMPT"
MODEL = "ab" * 32


@dataclass(frozen=True)
class Patients:
    """Studies as files; `now` is the one that the node is asked about."""

    now: list[Path]
    before: list[Path]
    long_before: list[Path]
    after: list[Path]
    other: list[Path]
    scout: list[Path]

    @property
    def all(self) -> list[Path]:
        return [*self.now, *self.before, *self.long_before, *self.after, *self.other, *self.scout]


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Patients:
    folder = tmp_path_factory.mktemp("patients")
    scout = write_phantom(folder / "scout", visit=date(2023, 9, 1), description="localizer", seed=6)
    return Patients(
        now=write_phantom(folder / "now", visit=date(2024, 3, 1)),
        before=write_phantom(folder / "before", visit=date(2023, 1, 10), seed=1),
        long_before=write_phantom(folder / "long", visit=date(2005, 1, 10), seed=2),
        after=write_phantom(folder / "after", visit=date(2025, 1, 10), seed=3),
        other=write_phantom(folder / "other", patient_id="P2", visit=date(2023, 6, 1), seed=4),
        scout=scout,
    )


@contextmanager
def archive(kind: str, folder: Path, node_port: int) -> Iterator[tuple[Peer, PriorSource]]:
    server, method = kind.split()
    with ExitStack() as stack:
        if server == "dcmqrscp":
            peer = stack.enter_context(dcmqrscp(folder, (NODE, node_port)))
            yield peer, PriorSource(name="archive", method=method, peer="pacs")
            return
        modalities = {"node": (NODE, "127.0.0.1", node_port)}
        orthanc = stack.enter_context(orthanc_server(folder, modalities, dicomweb=method == "dicomweb"))
        peer = Peer(name="pacs", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.dicom_port)
        if method == "dicomweb":
            yield peer, PriorSource(name="archive", method="dicomweb", url=orthanc.dicomweb_url)
        else:
            yield peer, PriorSource(name="archive", method=method, peer="pacs")


def context_of(folder: Path, port: int, peer: Peer | None, source: PriorSource | None, **priors: object) -> RunContext:
    return make_context(
        folder,
        dicom=DicomSection(host="127.0.0.1", port=port, minimum_free_disk_gb=0.01, accept_unknown_peers=True),
        peers=(peer,) if peer else (),
        prior_sources=(source,) if source else (),
        priors=PriorsSection.model_validate({"source": source.name if source else "", **priors}),
    )


def ask(context: RunContext, study_id: int, text: str, **definition: object) -> Run:
    """Plans a prompt and does the first two steps of its run."""
    add_prompt(context.sessions, f"prompt {text[:20]}", text, **definition)
    with context.sessions.begin() as session:
        study = session.get_one(Study, study_id)
        runs = plan_standing_prompts(
            session, study, context.data_folder, MODEL, datetime.now(UTC), context.config.priors
        )
        identifier = runs[-1].id
    for step in ("fetch", "gather"):
        assert perform(context, step, identifier, 1) == "next"
    with context.sessions() as session:
        return session.get_one(Run, identifier)


def studies_here(context: RunContext) -> dict[str, str]:
    with context.sessions() as session:
        return {study.study_instance_uid: study.state for study in session.scalars(select(Study))}


def taken_studies(context: RunContext, run: Run) -> set[str]:
    with context.sessions() as session:
        return {session.get_one(Study, entry["study_id"]).study_instance_uid for entry in run.choices if entry["taken"]}


KINDS = ("orthanc c-get", "orthanc c-move", "orthanc dicomweb", "dcmqrscp c-get", "dcmqrscp c-move")


@pytest.mark.parametrize("kind", KINDS)
def test_the_prior_comes_from_a_real_archive_and_nothing_else_does(
    kind: str, patients: Patients, tmp_path: Path
) -> None:
    port = free_port()
    with archive(kind, tmp_path / "archive", port) as (peer, source):
        store_all(peer, patients.all)
        context = context_of(tmp_path / "node", port, peer, source)
        listener = Listener(context.config, context.sessions)
        listener.start()
        try:
            study_id = closed_study(context, patients.now)
            run = ask(context, study_id, CHANGE)
        finally:
            listener.stop()
    before = study_uid(patients.before)
    here = {study_uid(patients.now): StudyState.COMPLETE, before: StudyState.PRIOR}
    if kind.startswith("dcmqrscp"):  # tells no Series Description: that it is a localizer shows when it is here
        here[study_uid(patients.scout)] = StudyState.PRIOR
    assert studies_here(context) == here
    assert taken_studies(context, run) == {study_uid(patients.now), before}
    assert [entry["session"] for entry in run.choices if entry["taken"]] == [0, 1]
    assert run.priors["fetched"] == [before]
    assert run.priors["instances"] == len(patients.before) * (len(here) - 1)
    with context.sessions() as session:
        assert session.scalar(select(func.count(Run.id))) == 1, "no standing prompt runs on a prior"
        assert session.scalar(select(func.count(PriorFetch.id))) == 0
        stored = session.scalars(
            select(Instance).join(Instance.series).join(Study).where(Study.study_instance_uid == before)
        ).all()
        sent = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in patients.before}
        assert {item.sop_instance_uid: dcmread(context.data_folder / item.path).PixelData for item in stored} == sent


@pytest.fixture(scope="module")
def orthanc(patients: Patients, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, PriorSource]]:
    with archive("orthanc c-get", tmp_path_factory.mktemp("archive") / "orthanc", free_port()) as (peer, source):
        store_all(peer, patients.all)
        yield peer, source


def test_a_prompt_that_asks_about_no_change_asks_no_archive(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    run = ask(context, closed_study(context, patients.now), "Measure the hippocampus")
    assert run.priors == {}
    assert len(studies_here(context)) == 1


def test_a_prompt_may_forbid_priors_and_may_ask_for_them_without_a_word_of_change(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    study_id = closed_study(context, patients.now)
    assert ask(context, study_id, CHANGE, priors={"wanted": "never"}).priors == {}
    run = ask(context, study_id, "Measure the hippocampus", priors={"wanted": "always"})
    assert taken_studies(context, run) == {study_uid(patients.now), study_uid(patients.before)}


def test_number_and_age_of_priors_are_bounded_by_the_prompt(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    run = ask(context, closed_study(context, patients.now), CHANGE, priors={"studies": 3, "maximum_age_days": 9000})
    assert taken_studies(context, run) == {
        study_uid(patients.now),
        study_uid(patients.before),
        study_uid(patients.long_before),
    }
    assert any("Only 2 of 3 earlier studies" in note for note in run.priors["notes"])


def test_instances_are_bounded_and_the_run_goes_on_and_says_so(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc, maximum_instances=3)
    run = ask(context, closed_study(context, patients.now), CHANGE)
    assert taken_studies(context, run) == {study_uid(patients.now)}
    assert any("maximum_instances" in note for note in run.priors["notes"])


def test_a_silent_archive_costs_no_more_than_its_time_limit_and_the_run_says_so(
    patients: Patients, tmp_path: Path
) -> None:
    nobody = Peer(name="pacs", ae_title="NOBODY", host="127.0.0.1", port=free_port())
    source = PriorSource(name="archive", method="c-get", peer="pacs")
    context = context_of(tmp_path / "node", 0, nobody, source, time_limit_seconds=5)
    run = ask(context, closed_study(context, patients.now), CHANGE)
    assert taken_studies(context, run) == {study_uid(patients.now)}
    assert run.priors["notes"] == [
        "Earlier studies could not be fetched: pacs cannot be reached, or does not accept the association."
    ]


def test_a_patient_id_with_a_wildcard_is_never_asked_for(orthanc: tuple[Peer, PriorSource], tmp_path: Path) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    run = ask(context, closed_study(context, write_phantom(tmp_path / "wild", patient_id="P*")), CHANGE)
    assert len(studies_here(context)) == 1
    assert "no Patient ID" in run.priors["notes"][0]


def test_a_prior_that_is_here_is_not_fetched_again(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    closed_study(context, patients.before)
    run = ask(context, closed_study(context, patients.now), CHANGE)
    assert (run.priors["fetched"], run.priors["here"]) == ([], [study_uid(patients.before)])
    assert taken_studies(context, run) == {study_uid(patients.now), study_uid(patients.before)}


def test_a_prior_that_its_sender_sends_later_is_an_arrival_like_any_other(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    run = ask(context, closed_study(context, patients.now), CHANGE)
    before = study_uid(patients.before)
    assert studies_here(context)[before] == StudyState.PRIOR
    closed_study(context, patients.before)
    assert studies_here(context)[before] == StudyState.COMPLETE
    with context.sessions() as session:
        assert session.scalar(
            select(func.count(Instance.id)).join(Instance.series).join(Study).where(Study.study_instance_uid == before)
        ) == len(patients.before)
    assert taken_studies(context, run) == {study_uid(patients.now), before}


def test_another_issuer_is_another_patient(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    paths = write_phantom(tmp_path / "issued", visit=date(2024, 3, 1), seed=9)
    for path in paths:
        dataset = dcmread(path)
        dataset.IssuerOfPatientID = "OTHER HOSPITAL"
        dataset.save_as(path)
    context = context_of(tmp_path / "node", 0, *orthanc)
    ask(context, closed_study(context, paths), CHANGE)
    with context.sessions() as session:
        patients_here = session.scalars(select(Patient)).all()
        assert {patient.issuer for patient in patients_here} == {"OTHER HOSPITAL"}


def test_fetching_again_after_a_crash_ends_in_the_same_rows(
    orthanc: tuple[Peer, PriorSource], patients: Patients, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "node", 0, *orthanc)
    run = ask(context, closed_study(context, patients.now), CHANGE)
    with context.sessions.begin() as session:
        # As a crash leaves it before the report is written down.
        session.get_one(Run, run.id).priors = {}
    for step in ("fetch", "gather"):
        assert perform(context, step, run.id, 1) == "next"
    with context.sessions() as session:
        again = session.get_one(Run, run.id)
        assert again.choices == run.choices and again.input_digest == run.input_digest
        assert session.scalar(select(func.count(Instance.id))) == len(patients.now) + len(patients.before)


def test_the_source_of_a_prompt_must_be_configured(tmp_path: Path, patients: Patients) -> None:
    context = context_of(tmp_path / "node", 0, None, None)
    run = ask(context, closed_study(context, patients.now), CHANGE, priors={"source": "elsewhere"})
    assert "no prior source named 'elsewhere'" in run.priors["notes"][0]


def test_a_configuration_names_only_sources_that_exist() -> None:
    with pytest.raises(ValueError, match="none of the"):
        Config.model_validate({"priors": {"source": "nowhere"}})
    with pytest.raises(ValueError, match="which is none"):
        Config.model_validate({"prior_sources": [{"name": "a", "peer": "nobody"}]})
