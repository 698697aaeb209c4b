"""The STOW-RS client (PS3.18 10.5): results to a DICOMweb server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import add_certs_to_session, create_session, create_session_from_user_pass
from pydicom import dcmread
from pydicom.dataset import Dataset

from vp_node.config import WebDestination
from vp_node.dicom.sender import SendOutcome, SendReport

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP statuses worth another try; 409 comes with a reason for each instance."""
_OUT_OF_RESOURCES = 0xA700

logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it tells UIDs and addresses at INFO


def store_by_web(destination: WebDestination, paths: Sequence[Path]) -> list[SendReport]:
    """Stores files one request each, so that one that is refused holds up no other; a report for each path."""
    client = DICOMwebClient(
        destination.url,
        session=_session(destination),
        headers=_headers(destination),
        timeout=destination.timeout_seconds,
    )
    client.set_http_retry_params(retry=False)  # the outbox tries again, and shows that it does
    return [_store(client, destination, path) for path in paths]


def _store(client: DICOMwebClient, destination: WebDestination, path: Path) -> SendReport:
    dataset = dcmread(path)
    uid = str(dataset.SOPInstanceUID)

    def report(outcome: SendOutcome, words: str, status: int | None = None) -> SendReport:
        return SendReport(path, uid, status, outcome, f"{destination.name} {words}")

    try:
        answer = client.store_instances([dataset])
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        return report("retry" if code in _PASSING else "refused", f"answered HTTP {code}.", code)
    except requests.RequestException as error:
        return report("retry", f"cannot be reached ({type(error).__name__}).")
    reason = _failure(answer, uid)
    if reason is None:
        return report("sent", "stored it.", 0)
    return report("retry" if reason & 0xFF00 == _OUT_OF_RESOURCES else "refused", f"answered {reason:04X}.", reason)


def _failure(answer: Dataset, uid: str) -> int | None:
    """Failure Reason (0008,1197) of an instance in the store response (PS3.18 Annex I), or None."""
    for item in answer.get("FailedSOPSequence") or []:
        if str(item.get("ReferencedSOPInstanceUID", uid)) == uid:
            return int(item.get("FailureReason") or 0x0110)
    return None


def _session(destination: WebDestination) -> requests.Session:
    if destination.username and destination.password_file is not None:
        password = destination.password_file.read_text(encoding="utf-8").strip()
        session = create_session_from_user_pass(destination.username, password)
    else:
        session = create_session()
    if destination.ca_file is not None:
        session = add_certs_to_session(session, ca_bundle=str(destination.ca_file))
    return session


def _headers(destination: WebDestination) -> dict[str, str]:
    if destination.token_file is None:
        return {}
    return {"Authorization": f"Bearer {destination.token_file.read_text(encoding='utf-8').strip()}"}
