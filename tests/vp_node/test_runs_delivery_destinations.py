"""Each destination gets what it takes, in the form that it accepts, over the way that it is reached by."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModelInstance  # type: ignore[attr-defined]
from sqlalchemy.orm import Session

from tests.vp_node.results_support.cases import chosen, classic, encoded, hippocampus, volumes_in
from tests.vp_node.test_runs_delivery import RUN, context_with_results, deliveries, fill, make_due, peer, state_of_run
from vp_node.config import (
    Config,
    DeliveryRule,
    DeliverySection,
    DicomSection,
    FolderDestination,
    NodeSection,
    Peer,
    TlsSection,
    WebDestination,
)
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import DeliveryState, Prompt, PromptVersion, Result, Run, RunState, Study
from vp_node.demo.pacs import receiving_pacs
from vp_node.dicom.commitment import CommitmentReport, read_report
from vp_node.dicom.listener import Listener
from vp_node.dicom.sender import echo, probe, send
from vp_node.results.model import Wanted
from vp_node.runs.commitment import ask_due, due_commitments, keep_answer
from vp_node.runs.context import RunContext
from vp_node.runs.delivery import deliver_due
from vp_node.runs.destinations import destinations_of

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
COMMITMENT = "1.2.840.10008.1.20.1"


def put_results(context: RunContext, folder: Path, forms: tuple[Any, ...]) -> None:
    """Replaces the run's objects by encoded ones."""
    classic(folder / "source", "axial")
    items = chosen(volumes_in(folder / "source"))
    with context.sessions.begin() as session:
        run = session.get_one(Run, RUN)
        for result in list(run.results):
            session.delete(result)
        session.flush()
        for number, item in enumerate(encoded(hippocampus(items), items, wanted=Wanted(forms=forms))):
            path = context.data_folder / "runs" / RUN / f"new-{number}.dcm"
            item.dataset.save_as(path, enforce_file_format=True)
            session.add(
                Result(
                    run_id=RUN,
                    role=item.role,
                    form=item.form or "",
                    sop_class_uid=item.sop_class_uid,
                    sop_instance_uid=item.sop_instance_uid,
                    series_instance_uid=item.series_instance_uid,
                    path=str(path.relative_to(context.data_folder)),
                    digest="",
                )
            )


@contextmanager
def archive(
    classes: dict[str, list[str]], tls: ssl.SSLContext | None = None, handlers: tuple[Any, ...] = ()
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A Storage SCP that takes the given classes and transfer syntaxes; yields its port and what came."""
    taken: list[tuple[str, str]] = []

    def store(event: Any) -> int:
        taken.append((str(event.request.AffectedSOPClassUID), str(event.context.transfer_syntax)))
        return 0

    entity = AE(ae_title="TESTPACS")
    for sop_class, syntaxes in classes.items():
        entity.add_supported_context(sop_class, syntaxes)
    entity.add_supported_context("1.2.840.10008.1.1")
    bound = [(evt.EVT_C_STORE, store), *handlers]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=bound, ssl_context=tls)
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()


BOTH = [str(RLELossless), str(ExplicitVRLittleEndian)]
PLAIN = [str(ExplicitVRLittleEndian)]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ({SEGMENTATION: PLAIN, LABEL_MAP: BOTH, REPORT: PLAIN}, {(LABEL_MAP, str(RLELossless))}),
        ({SEGMENTATION: PLAIN, LABEL_MAP: PLAIN, REPORT: PLAIN}, {(LABEL_MAP, str(ExplicitVRLittleEndian))}),
        ({SEGMENTATION: PLAIN, REPORT: PLAIN}, {(SEGMENTATION, str(ExplicitVRLittleEndian))}),
    ],
)
def test_form_that_the_peer_accepts_is_sent_and_no_other(
    classes: dict[str, list[str]], expected: set[tuple[str, str]], tmp_path: Path
) -> None:
    with archive(classes) as (port, taken):
        pacs = peer("pacs", port, segmentations=("labelmap", "binary"))
        context = context_with_results(tmp_path, peers=(pacs,))
        put_results(context, tmp_path, ("labelmap", "binary"))
        fill(context, "pacs")
        assert deliver_due(context, "pacs") == 2
    assert {item for item in taken if item[0] != REPORT} == expected
    assert [item[0] for item in taken].count(REPORT) == 1
    states = sorted(item.state for item in deliveries(context))
    assert states == [DeliveryState.SENT, DeliveryState.SENT, DeliveryState.SET_ASIDE, DeliveryState.SET_ASIDE]
    assert state_of_run(context)[0] == RunState.DONE


def test_peer_that_cannot_be_probed_is_tried_again(tmp_path: Path) -> None:
    context = context_with_results(tmp_path, peers=(peer("pacs", 1, segmentations=("labelmap", "binary")),))
    put_results(context, tmp_path, ("labelmap", "binary"))
    fill(context, "pacs")
    assert deliver_due(context, "pacs") == 0
    assert {item.state for item in deliveries(context)} == {DeliveryState.PENDING}


def test_object_that_breaks_a_rule_or_was_changed_is_never_sent(tmp_path: Path) -> None:
    with receiving_pacs(tmp_path / "pacs", "TESTPACS") as port:
        context = context_with_results(tmp_path, peers=(peer("pacs", port),))
        with context.sessions.begin() as session:
            first, second = session.get_one(Run, RUN).results
            first.findings = [{"severity": "error", "rule": "uid", "message": "A UID is not valid."}]
            second.digest = "another"
        fill(context, "pacs")
        assert deliver_due(context, "pacs") == 0
    said = {item.last_error for item in deliveries(context)}
    assert {item.state for item in deliveries(context)} == {DeliveryState.DEAD}
    assert any("breaks a rule" in words for words in said) and any("changed after" in words for words in said)
    assert not list((tmp_path / "pacs").rglob("*.dcm"))


def test_folder_gets_the_kinds_that_it_takes(tmp_path: Path) -> None:
    folder = FolderDestination(name="export", path=tmp_path / "export", takes=("sr",))
    context = context_with_results(tmp_path, folder_destinations=(folder,))
    fill(context, "export")
    assert deliver_due(context, "export") == 1
    assert len(list((tmp_path / "export").iterdir())) == 1


class _Web(BaseHTTPRequestHandler):
    answers: ClassVar[list[int]] = []
    heard: ClassVar[list[tuple[str, str]]] = []

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers.get("Content-Length") or 0)) if "Content-Length" in self.headers else b""
        )
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)
            self.rfile.readline()
        self.heard.append((self.path, self.headers.get("Authorization", "")))
        code = self.answers.pop(0)
        self.send_response(code)
        self.send_header("Content-Type", "application/dicom+json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_web_destination_is_tried_again_when_busy_and_not_when_it_refuses(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Web.answers, _Web.heard = [200, 503, 200], []
    (tmp_path / "token").write_text("secret\n")
    web = WebDestination(
        name="web", url=f"http://127.0.0.1:{server.server_address[1]}/dicom-web", token_file=tmp_path / "token"
    )
    try:
        context = context_with_results(tmp_path, web_destinations=(web,))
        fill(context, "web")
        assert deliver_due(context, "web") == 1
        assert sorted(item.state for item in deliveries(context)) == [DeliveryState.PENDING, DeliveryState.SENT]
        make_due(context)
        assert deliver_due(context, "web") == 1
    finally:
        server.shutdown()
    assert _Web.heard[0] == ("/dicom-web/studies", "Bearer secret")
    assert state_of_run(context)[0] == RunState.DONE


def certificates(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of 127.0.0.1, signed by itself."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *extra], check=True, capture_output=True)
    return certificate, key


def test_results_go_over_tls_to_a_trusted_peer_only(tmp_path: Path) -> None:
    certificate, key = certificates(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    server.load_cert_chain(certificate, key)
    server.verify_mode = ssl.CERT_REQUIRED
    classic(tmp_path / "in", "axial")
    path = next((tmp_path / "in").iterdir())
    with archive({"1.2.840.10008.5.1.4.1.1.4": PLAIN}, server) as (port, taken):
        safe = peer("safe", port, tls=True)
        trusted = TlsSection(ca_file=certificate, certificate_file=certificate, key_file=key)
        assert [item.outcome for item in send(safe, [path], "NODE", tls=trusted)] == ["sent"]
        assert echo(safe, "NODE", tls=trusted).reachable
        assert probe(safe, ["1.2.840.10008.5.1.4.1.1.4"], "NODE", trusted) == {"1.2.840.10008.5.1.4.1.1.4"}
        strangers = TlsSection(certificate_file=certificate, key_file=key)
        assert [item.outcome for item in send(safe, [path], "NODE", 5, tls=strangers)] == ["retry"]
        assert [item.outcome for item in send(peer("plain", port), [path], "NODE", 5)] == ["retry"]
    assert len(taken) == 1


def run_from(session: Session, title: str, name: str) -> Run:
    version = PromptVersion(
        id="w", number=1, text="p", definition={"name": name, "owner": "o", "text": "p"}, created_by="test"
    )
    version.prompt = Prompt(name=name, owner="o")
    return Run(study=Study(calling_ae_title=title), prompt_version=version)


def test_rules_add_destinations_or_replace_them(tmp_path: Path) -> None:
    rules = (
        DeliveryRule(prompts=("research *",), destinations=("export",), instead=True),
        DeliveryRule(senders=("MODALITY*",), statuses=("answered",), destinations=("export",)),
    )
    context = context_with_results(
        tmp_path,
        count=1,
        folder_destinations=(FolderDestination(name="export", path=tmp_path),),
    )
    config = context.config.model_copy(update={"delivery": DeliverySection(rules=rules)})
    with context.sessions() as session:
        assert destinations_of(config, run_from(session, "PACS", "clinical"), "answered") == ("sender",)
        assert destinations_of(config, run_from(session, "MODALITY1", "clinical"), "answered") == ("sender", "export")
        assert destinations_of(config, run_from(session, "MODALITY1", "clinical"), "refused") == ("sender",)
        assert destinations_of(config, run_from(session, "MODALITY1", "research 1"), "answered") == ("export",)


def committing(port: int) -> Peer:
    return peer("pacs", port, storage_commitment=True)


def test_commitment_is_kept_whenever_its_answer_comes(tmp_path: Path) -> None:
    """The answer is heard by a node that was started anew: what the transaction was about is in the database."""
    asked: list[Any] = []

    def action(event: Any) -> tuple[int, None]:
        asked.append(event.action_information)
        return 0x0000, None

    classes = {"1.2.840.10008.5.1.4.1.1.4": PLAIN, COMMITMENT: PLAIN}
    with archive(classes, handlers=((evt.EVT_N_ACTION, action),)) as (port, _):
        context = context_with_results(tmp_path, peers=(committing(port),))
        fill(context, "pacs")
        assert deliver_due(context, "pacs") == 2
        with context.sessions() as session:
            assert due_commitments(session, context.now()) == ["pacs"]
        assert ask_due(context, "pacs") == 2
        with context.sessions() as session:
            assert due_commitments(session, context.now()) == []
    assert state_of_run(context)[0] == RunState.DONE
    transaction = str(asked[0].TransactionUID)
    uids = [str(item.ReferencedSOPInstanceUID) for item in asked[0].ReferencedSOPSequence]
    keep = keep_answer(context.sessions, context.config)
    assert not keep(CommitmentReport("1.2.3", (uids[0],), ()))
    assert keep(CommitmentReport(transaction, (uids[0],), ((uids[1], 0x0112),)))
    states = {item.state: item for item in deliveries(context)}
    assert set(states) == {DeliveryState.COMMITTED, DeliveryState.PENDING}
    assert states[DeliveryState.COMMITTED].committed_at is not None
    assert "0112" in states[DeliveryState.PENDING].last_error


def test_answer_on_a_new_association_reaches_the_node(tmp_path: Path) -> None:
    """The node's own listener: the peer opens the association and stays the SCP of the service."""
    heard: list[CommitmentReport] = []
    peers = (Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=11112),)
    config = Config(node=NodeSection(data_folder=tmp_path), dicom=DicomSection(host="127.0.0.1", port=0), peers=peers)
    engine = create_database_engine(config.database_url)
    upgrade(engine)
    listener = Listener(config, session_factory(engine), lambda report: heard.append(report) is None)
    listener.start()
    try:
        pacs = AE(ae_title="PACS")
        pacs.add_requested_context(COMMITMENT)
        roles = [build_role(COMMITMENT, scu_role=False, scp_role=True)]
        association = pacs.associate("127.0.0.1", listener.port, ae_title=config.dicom.ae_titles[0], ext_neg=roles)
        assert association.is_established
        information, item = Dataset(), Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SEGMENTATION, "1.2.3"
        information.TransactionUID, information.ReferencedSOPSequence = "1.2.9", [item]
        status, _ = association.send_n_event_report(information, 1, COMMITMENT, StorageCommitmentPushModelInstance)
        association.release()
    finally:
        listener.stop()
        engine.dispose()
    assert status.Status == 0
    assert heard == [read_report(information)] == [CommitmentReport("1.2.9", ("1.2.3",), ())]
