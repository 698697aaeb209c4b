"""Storage commitment (PS3.4 J): a destination is asked to promise that it keeps what it was sent.

The request (N-ACTION) names a transaction; the answer (N-EVENT-REPORT) names it again, and comes on the same
association, on a new one that the peer opens to the node's listener, also after days and restarts: what a transaction
was about is therefore in the database (`Delivery.transaction_uid`), not in memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from vp_node.config import Peer, TlsSection
from vp_node.dicom.sender import NO_CERTIFICATES, associate

LOG = logging.getLogger(__name__)

REQUEST = 1
"""Action Type ID of a request (PS3.4 J.3.2)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type IDs of an answer (PS3.4 J.3.3)."""
SAME_ASSOCIATION_SECONDS = 2.0
"""How long the answer is waited for before the association is released; later it comes on one of the peer's."""
SUCCESS, PROCESSING_FAILURE, INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115


@dataclass(frozen=True)
class Instance:
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class CommitmentReport:
    """What a peer answered about one transaction."""

    transaction_uid: str
    committed: tuple[str, ...]
    """SOP Instance UIDs."""
    failed: tuple[tuple[str, int], ...]
    """SOP Instance UIDs with their Failure Reasons (0008,1197)."""


Answered = Callable[[CommitmentReport], bool]
"""Keeps an answer durably; False where its transaction is unknown."""


def ask_for_commitment(
    peer: Peer,
    transaction_uid: str,
    instances: Sequence[Instance],
    calling_ae_title: str,
    answered: Answered,
    tls: TlsSection = NO_CERTIFICATES,
    timeout_seconds: float = 30.0,
) -> str:
    """Sends the request; an answer on the same association is given to `answered` meanwhile.

    Returns:
        Why it failed, in words; empty where the peer took the request.
    """
    entity = AE(ae_title=calling_ae_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_seconds
    handlers = [(evt.EVT_N_EVENT_REPORT, answering(answered))]
    contexts = [build_context(StorageCommitmentPushModel)]
    association = associate(peer, entity, contexts, tls, evt_handlers=handlers)
    if not association.is_established:
        refused = association.is_rejected or bool(association.rejected_contexts)
        return f"{peer.name} does not offer storage commitment." if refused else f"{peer.name} cannot be reached."
    heard: list[bool] = []
    association.bind(evt.EVT_DIMSE_SENT, lambda event: heard.append(True))
    try:
        status, _ = association.send_n_action(
            _request(transaction_uid, instances),
            REQUEST,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        if "Status" not in status:
            return f"{peer.name} did not answer the request for storage commitment."
        if status.Status != SUCCESS:
            return f"{peer.name} answered the request for storage commitment with {int(status.Status):04X}."
        end = time.monotonic() + SAME_ASSOCIATION_SECONDS
        # The request is the first message sent, the response to the peer's report the second.
        while time.monotonic() < end and association.is_established and len(heard) < 2:
            time.sleep(0.05)
        return ""
    finally:
        if association.is_established:
            association.release()


def serve_commitment(entity: AE, answered: Answered) -> list[Any]:
    """Makes a listener take answers on associations that peers open; returns the handlers to bind.

    The peer, which opens the association, stays the SCP of the service (PS3.4 J.3.3): both roles are accepted.
    """
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    return [(evt.EVT_N_EVENT_REPORT, answering(answered))]


def answering(answered: Answered) -> Callable[[Any], tuple[int, Dataset | None]]:
    """The handler of N-EVENT-REPORT."""

    def handle(event: Any) -> tuple[int, Dataset | None]:
        try:
            report = read_report(event.event_information)
        except (AttributeError, ValueError, TypeError):
            LOG.warning("An answer about storage commitment could not be understood.")
            return INVALID_ARGUMENT, None
        try:
            known = answered(report)
        except Exception as error:  # noqa: BLE001 (the boundary of a handler: the peer is told, and may report again)
            LOG.error("An answer about storage commitment could not be kept: %s.", type(error).__name__)
            return PROCESSING_FAILURE, None
        if not known:
            LOG.warning("An answer about storage commitment names a transaction that is not known here.")
        return SUCCESS if known else INVALID_ARGUMENT, None

    return handle


def read_report(information: Dataset) -> CommitmentReport:
    """Event Information of N-EVENT-REPORT (PS3.4 J.3.3.1.2)."""
    return CommitmentReport(
        transaction_uid=str(information.TransactionUID),
        committed=tuple(str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence") or []),
        failed=tuple(
            (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or PROCESSING_FAILURE))
            for item in information.get("FailedSOPSequence") or []
        ),
    )


def _request(transaction_uid: str, instances: Sequence[Instance]) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class_uid
        item.ReferencedSOPInstanceUID = instance.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = items
    return request
