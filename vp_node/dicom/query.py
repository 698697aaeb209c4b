"""The Query/Retrieve SCU: C-FIND in the Study Root model, then C-GET or C-MOVE to this node's own AE title (PS3.4 C).

C-GET brings the instances over the association that asked, C-MOVE over one that the archive opens to the node's
listener, which knows from the index that they are fetched (`vp_node.database.models.PriorFetch`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from vp_node.config import Peer
from vp_node.dicom.archive import (
    MATCHES_AT_MOST,
    ArchiveError,
    Deadline,
    Receive,
    SeriesMatch,
    StudyMatch,
    series_match,
    series_query,
    study_match,
    study_query,
)
from vp_node.dicom.contexts import COMPRESSED_TRANSFER_SYNTAXES, UNCOMPRESSED_TRANSFER_SYNTAXES
from vp_node.dicom.incoming import Overflow
from vp_node.studies.headers import VOLUME_SOP_CLASSES

LOG = logging.getLogger(__name__)

SUCCESS, PENDING, CANCELLED = 0x0000, (0xFF00, 0xFF01), 0xFE00
OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC000
STILL_PICTURE_SYNTAXES = tuple(syntax for syntax in COMPRESSED_TRANSFER_SYNTAXES if "MPEG" not in syntax.name)


class DimseArchive:
    """An archive that is asked by DIMSE.

    Args:
        peer: the archive.
        calling: the AE title that the node calls it with.
        destination: for C-MOVE, the node's own AE title that the archive sends to; None: C-GET.
    """

    def __init__(self, peer: Peer, calling: str, destination: str | None = None) -> None:
        self._peer = peer
        self._calling = calling
        self._destination = destination

    def find_studies(self, patient_id: str, first: date, last: date, deadline: Deadline) -> list[StudyMatch]:
        found = self._find("STUDY", study_query(patient_id, first, last), deadline)
        return [match for item in found if (match := study_match(item)) is not None]

    def find_series(self, study_instance_uid: str, deadline: Deadline) -> list[SeriesMatch]:
        found = self._find("SERIES", series_query(study_instance_uid), deadline)
        return [match for item in found if (match := series_match(item, study_instance_uid)) is not None]

    def retrieve(self, series: SeriesMatch, receive: Receive, deadline: Deadline) -> int:
        if self._destination is None:
            return self._get(series, receive, deadline)
        return self._move(series, self._destination, deadline)

    def _find(self, level: str, keys: dict[str, str], deadline: Deadline) -> list[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        found: list[Dataset] = []
        with self._associated([build_context(model)], deadline) as association:
            for status, identifier in association.send_c_find(_identifier(level, keys), model):
                code = self._status(status, deadline)
                if code in PENDING and identifier is not None:
                    found.append(identifier)
                    if len(found) > MATCHES_AT_MOST:
                        raise ArchiveError(f"{self._peer.name} found more than {MATCHES_AT_MOST} matches")
                elif code not in (SUCCESS, *PENDING):
                    raise ArchiveError(f"{self._peer.name} answered the query with {code:04X}")
        return found

    def _get(self, series: SeriesMatch, receive: Receive, deadline: Deadline) -> int:
        model = StudyRootQueryRetrieveInformationModelGet
        classes = sorted(VOLUME_SOP_CLASSES)
        # One context for each compressed syntax: in a context with several the archive chooses one for all it has.
        contexts = [build_context(model)]
        contexts += [build_context(sop, list(UNCOMPRESSED_TRANSFER_SYNTAXES)) for sop in classes]
        contexts += [build_context(sop, [syntax]) for sop in classes for syntax in STILL_PICTURE_SYNTAXES]
        came = _Came(receive)
        with self._associated(contexts, deadline, classes, came.store) as association:
            for status, _ in association.send_c_get(_identifier("SERIES", _series_keys(series)), model):
                code = self._status(status, deadline)
                came.check()
                self._check_retrieved(code, status)
        came.check()
        return came.count

    def _move(self, series: SeriesMatch, destination: str, deadline: Deadline) -> int:
        model = StudyRootQueryRetrieveInformationModelMove
        completed = 0
        with self._associated([build_context(model)], deadline) as association:
            identifier = _identifier("SERIES", _series_keys(series))
            for status, _ in association.send_c_move(identifier, destination, model):
                code = self._status(status, deadline)
                completed = int(status.get("NumberOfCompletedSuboperations") or completed)
                if code == 0xA801:
                    raise ArchiveError(
                        f"{self._peer.name} does not know the AE title {destination}: C-MOVE needs this node there"
                    )
                self._check_retrieved(code, status)
        return completed

    def _check_retrieved(self, code: int, status: Dataset) -> None:
        failed = int(status.get("NumberOfFailedSuboperations") or 0)
        if code in PENDING:
            return
        if code == SUCCESS and not failed:
            return
        if failed:
            raise ArchiveError(f"{self._peer.name} could not send {failed} instance(s) of a series")
        raise ArchiveError(f"{self._peer.name} answered the retrieval with {code:04X}")

    def _status(self, status: Dataset, deadline: Deadline) -> int:
        deadline.check()
        if "Status" not in status:
            raise ArchiveError(f"{self._peer.name} did not answer, or closed the connection")
        return int(status.Status)

    @contextmanager
    def _associated(
        self,
        contexts: list[Any],
        deadline: Deadline,
        stored_classes: list[str] | None = None,
        store: Callable[[Any], int] | None = None,
    ) -> Iterator[Association]:
        """An association that is aborted when the deadline passes."""
        deadline.check()
        entity = AE(ae_title=self._calling)
        seconds = max(deadline.seconds_left, 1.0)
        entity.connection_timeout = entity.acse_timeout = min(seconds, 30.0)
        entity.dimse_timeout = entity.network_timeout = seconds
        roles = [build_role(sop, scp_role=True) for sop in stored_classes or ()]
        handlers: list[Any] = [(evt.EVT_C_STORE, store)] if store is not None else []
        association = entity.associate(
            self._peer.host,
            self._peer.port,
            contexts=contexts,
            ae_title=self._peer.ae_title,
            ext_neg=roles,  # type: ignore[arg-type]
            evt_handlers=handlers,
        )
        if not association.is_established:
            raise ArchiveError(f"{self._peer.name} cannot be reached, or does not accept the association")
        if not association.accepted_contexts or contexts[0].abstract_syntax not in {
            context.abstract_syntax for context in association.accepted_contexts
        }:
            association.release()
            raise ArchiveError(f"{self._peer.name} does not offer {UID(str(contexts[0].abstract_syntax)).name}")
        watch = threading.Timer(seconds, association.abort)
        watch.daemon = True
        watch.start()
        try:
            yield association
            if association.is_established:
                association.release()
        finally:
            watch.cancel()
            if association.is_established:
                association.abort()  # in the middle of an answer: a release would wait for its end


class _Came:
    """What C-GET brings."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._error: Exception | None = None
        self.count = 0

    def store(self, event: Any) -> int:
        """Handler of EVT_C_STORE. An error becomes a failure status, and ends the retrieval."""
        if event.request._dataset_file.overflow is Overflow.DISK_FULL:
            self._error = ArchiveError("less disk is free than dicom.minimum_free_disk_gb")
            return OUT_OF_RESOURCES
        if event.request._dataset_file.overflow is Overflow.TOO_LARGE:
            self._error = ArchiveError("an instance is larger than dicom.maximum_instance_gb")
            return CANNOT_UNDERSTAND
        named = (str(event.request.AffectedSOPClassUID), str(event.request.AffectedSOPInstanceUID))
        try:
            self._receive(Path(event.dataset_path), named, UID(event.context.transfer_syntax))
        except Exception as error:  # noqa: BLE001 (pynetdicom would log it with its text; it is raised in `check`)
            self._error = error
            return CANNOT_UNDERSTAND
        self.count += 1
        return SUCCESS

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def _series_keys(series: SeriesMatch) -> dict[str, str]:
    return {"StudyInstanceUID": series.study_instance_uid, "SeriesInstanceUID": series.series_instance_uid}


def _identifier(level: str, keys: dict[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(identifier, keyword, value or None)
    return identifier
