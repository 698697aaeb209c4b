"""The Storage SCU and the Verification SCU.

Presentation contexts are proposed for the files at hand, not from a table: tables of "all" classes are longer than the
128 that an association may propose and lack the newest classes.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from vp_node.config import Peer, TlsSection

LOG = logging.getLogger(__name__)

MAXIMUM_CONTEXTS = 128
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
TIMEOUT_SECONDS = 60.0
NO_CERTIFICATES = TlsSection()
_TRANSCODED = (*UNCOMPRESSED, str(RLELossless))
"""What can be written in an uncompressed transfer syntax for a peer that takes no other."""

SendOutcome = Literal["sent", "retry", "refused"]


@dataclass(frozen=True)
class SendReport:
    """What became of one file."""

    path: Path
    sop_instance_uid: str
    status: int | None
    """DIMSE status; None where the peer gave none."""
    outcome: SendOutcome
    message: str


@dataclass(frozen=True)
class EchoReport:
    reachable: bool
    message: str


@dataclass(frozen=True)
class _File:
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def send(
    peer: Peer,
    paths: Sequence[Path],
    calling_ae_title: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    tls: TlsSection = NO_CERTIFICATES,
) -> list[SendReport]:
    """Stores files at a peer over as few associations as the limit on contexts allows.

    Returns one report for each path, in their order. Out of resources (A7xx), a lost connection and a rejected
    association are worth another try; a data set that the peer refuses (A9xx, Cxxx, 01xx) is not.
    """
    reports: dict[Path, SendReport] = {}
    files: list[_File] = []
    for path in paths:
        try:
            files.append(_identify(path))
        except (InvalidDicomError, OSError, AttributeError, KeyError):
            reports[path] = SendReport(path, "", None, "refused", "The file is no DICOM instance.")
    for group in _groups(files):
        for report in _send_group(peer, group, calling_ae_title, timeout_seconds, tls):
            reports[report.path] = report
    return [reports[path] for path in paths]


def probe(
    peer: Peer,
    sop_classes: Sequence[str],
    calling_ae_title: str,
    tls: TlsSection = NO_CERTIFICATES,
    timeout_seconds: float = 10.0,
) -> frozenset[str] | None:
    """The SOP classes that a peer accepts, asked by an association that stores nothing; None: it cannot be asked."""
    contexts = [build_context(uid, [*UNCOMPRESSED, str(RLELossless)]) for uid in dict.fromkeys(sop_classes)]
    association = associate(peer, _entity(calling_ae_title, timeout_seconds), contexts, tls)
    if not association.is_established:
        return frozenset() if _accepts_nothing(association) else None
    try:
        return frozenset(str(context.abstract_syntax) for context in association.accepted_contexts)
    finally:
        association.release()


def associate(peer: Peer, entity: AE, contexts: list[Any], tls: TlsSection, **more: Any) -> Association:
    """Opens an association, over TLS where the peer has `tls = true` (PS3.15 B.12: TLS 1.2 or newer)."""
    if peer.tls:
        more["tls_args"] = (tls_context(tls), peer.host)
    return entity.associate(peer.host, peer.port, contexts=contexts, ae_title=peer.ae_title, **more)


def tls_context(tls: TlsSection) -> ssl.SSLContext:
    """For connections that this node opens: the peer's certificate must be trusted, and be of the peer's host.

    Raises:
        OSError, ssl.SSLError: a certificate file is missing or holds none.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tls.ca_file) if tls.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context


def echo(
    peer: Peer, calling_ae_title: str, timeout_seconds: float = 10.0, tls: TlsSection = NO_CERTIFICATES
) -> EchoReport:
    """Asks a peer whether it answers (C-ECHO)."""
    entity = _entity(calling_ae_title, timeout_seconds)
    association = associate(peer, entity, [build_context(Verification)], tls)
    if not association.is_established:
        return EchoReport(False, _why_not(association, peer))
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if "Status" in status and status.Status == 0:
        return EchoReport(True, f"{peer.ae_title} at {peer.host}:{peer.port} answered.")
    return EchoReport(False, f"{peer.ae_title} at {peer.host}:{peer.port} accepted the association but not C-ECHO.")


def _identify(path: Path) -> _File:
    meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return _File(path, str(meta.SOPClassUID), str(meta.SOPInstanceUID), str(meta.file_meta.TransferSyntaxUID))


def _proposals(file: _File) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Contexts that would carry a file: its own transfer syntax, and the uncompressed ones that it can go in."""
    own = (file.sop_class_uid, (file.transfer_syntax_uid,))
    if file.transfer_syntax_uid in _TRANSCODED:
        return (own, (file.sop_class_uid, UNCOMPRESSED))
    return (own,)


def _groups(files: Sequence[_File]) -> list[list[_File]]:
    """Files in their order, cut where the contexts would be too many for one association."""
    groups: list[list[_File]] = []
    contexts: set[tuple[str, tuple[str, ...]]] = set()
    for file in files:
        wanted = set(_proposals(file))
        if not groups or len(contexts | wanted) > MAXIMUM_CONTEXTS:
            groups.append([])
            contexts = set()
        contexts |= wanted
        groups[-1].append(file)
    return groups


def _send_group(peer: Peer, files: Sequence[_File], calling: str, timeout: float, tls: TlsSection) -> list[SendReport]:
    entity = _entity(calling, timeout)
    proposals = list(dict.fromkeys(proposal for file in files for proposal in _proposals(file)))
    contexts = [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in proposals]
    association = associate(peer, entity, contexts, tls)
    if not association.is_established:
        message = _why_not(association, peer)
        final = _rejected_for_good(association) or _accepts_nothing(association)
        outcome: SendOutcome = "refused" if final else "retry"
        return [SendReport(file.path, file.sop_instance_uid, None, outcome, message) for file in files]
    try:
        return [_send_one(association, peer, file) for file in files]
    finally:
        if association.is_established:
            association.release()


def _send_one(association: Association, peer: Peer, file: _File) -> SendReport:
    def report(outcome: SendOutcome, message: str, status: int | None = None) -> SendReport:
        return SendReport(file.path, file.sop_instance_uid, status, outcome, message)

    if not association.is_established:
        return report("retry", f"The connection to {peer.name} was lost.")
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in association.accepted_contexts
    }
    carried = (file.sop_class_uid, file.transfer_syntax_uid) in accepted or (
        file.transfer_syntax_uid in _TRANSCODED
        and any((file.sop_class_uid, syntax) in accepted for syntax in UNCOMPRESSED)
    )
    if not carried:
        return report("refused", f"{peer.name} does not accept this SOP class in the file's transfer syntax.")
    try:
        answer = association.send_c_store(_dataset(file, accepted))
    except (ValueError, RuntimeError) as error:
        # pynetdicom: ValueError for a data set that it cannot encode, RuntimeError for an association that just ended.
        outcome: SendOutcome = "retry" if isinstance(error, RuntimeError) else "refused"
        return report(outcome, f"The instance could not be sent to {peer.name} ({type(error).__name__}).")
    if "Status" not in answer:
        return report("retry", f"{peer.name} did not answer in time or closed the connection.")
    status = int(answer.Status)
    comment = str(answer.get("ErrorComment", ""))
    said = f"{peer.name} answered {status:04X}" + (f": {comment}" if comment else "")
    if status == 0 or status & 0xF000 == 0xB000:
        return report("sent", said, status)
    if status & 0xFF00 == 0xA700:
        return report("retry", said, status)
    return report("refused", said, status)


def _dataset(file: _File, accepted: set[tuple[str, str]]) -> Any:
    """The path where the file can go as it is; a data set in the accepted uncompressed syntax where it cannot."""
    if (file.sop_class_uid, file.transfer_syntax_uid) in accepted:
        return file.path
    dataset: Dataset = dcmread(file.path)
    other = next(syntax for syntax in UNCOMPRESSED if (file.sop_class_uid, syntax) in accepted)
    if UID(file.transfer_syntax_uid).is_compressed:
        dataset.decompress(generate_instance_uid=False)  # without loss: it stays the same instance
    dataset.file_meta.TransferSyntaxUID = UID(other)
    return dataset


def _entity(calling: str, timeout: float) -> AE:
    entity = AE(ae_title=calling)
    entity.connection_timeout = timeout
    entity.acse_timeout = timeout
    entity.dimse_timeout = timeout
    entity.network_timeout = timeout
    entity.maximum_pdu_size = 0
    return entity


def _rejected_for_good(association: Association) -> bool:
    primitive = association.acceptor.primitive
    return association.is_rejected and primitive is not None and primitive.result == 1


def _accepts_nothing(association: Association) -> bool:
    """The peer answered, and took none of the proposed contexts; pynetdicom then aborts."""
    return bool(association.rejected_contexts) and not association.accepted_contexts


def _why_not(association: Association, peer: Peer) -> str:
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    if association.is_rejected:
        primitive = association.acceptor.primitive
        reason = primitive.reason_str if primitive is not None else "no reason given"
        return f"{where} rejected the association: {reason}."
    if _accepts_nothing(association):
        return f"{where} accepts none of the proposed SOP classes and transfer syntaxes."
    if association.is_aborted and association.acceptor.primitive is not None:
        return f"{where} accepted the association and aborted it."
    return f"{where} cannot be reached, or closed the connection."
