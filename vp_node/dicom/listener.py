"""The Storage and Verification SCP.

A data set is streamed to a file, checked, synced, renamed and indexed before it is answered with 0x0000: what was
acknowledged survives a crash at any moment. Whatever cannot be kept is answered with a failure that says why, so that
the sender keeps it.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from vp_node.config import Config
from vp_node.database.models import Association, now
from vp_node.dicom.access import refusal
from vp_node.dicom.arrivals import Mismatch, Sender, read_arrival
from vp_node.dicom.commitment import Answered, serve_commitment
from vp_node.dicom.contexts import STORAGE_CLASSES, TRANSFER_SYNTAXES
from vp_node.dicom.guard import ConnectionGuard
from vp_node.dicom.incoming import Overflow, remove_unfinished, stream_data_sets_into
from vp_node.intake.recovery import recover
from vp_node.intake.store import INCOMING_FOLDER, Arrival, Stored, store
from vp_node.operations.audit import record
from vp_node.studies.headers import HeaderError

LOG = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""Statuses of the Storage Service (PS3.4 B.2.3)."""

REJECTED_PERMANENT, SERVICE_USER, NO_REASON = 1, 1, 1
ERROR_COMMENT_LENGTH = 64


class ListenerError(RuntimeError):
    """The listener cannot start; the message says why."""


class Listener:
    """Answers C-ECHO and C-STORE on one port, for all AE titles of the node; and hears of storage commitment."""

    def __init__(self, config: Config, sessions: sessionmaker[Session], answered: Answered | None = None) -> None:
        """
        Args:
            answered: keeps answers about storage commitment, which most archives send on an association of their own.
        """
        self._config = config
        self._answered = answered
        self._sessions = sessions
        self._incoming = config.node.data_folder / INCOMING_FOLDER
        self._server: Any = None
        dicom = config.dicom
        self._guard = ConnectionGuard(
            dicom.maximum_pdu_bytes, dicom.network_timeout_seconds, dicom.maximum_associations_per_address
        )

    @property
    def port(self) -> int:
        """The port that is listened on; with `dicom.port = 0` the system chose it."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Clears up after a crash, then begins to listen, in threads of its own.

        Raises:
            ListenerError: the port cannot be had.
        """
        recover(self._sessions, self._config.node.data_folder)
        self._incoming.mkdir(parents=True, exist_ok=True)
        dicom = self._config.dicom
        stream_data_sets_into(self._incoming, dicom)
        entity = AE(ae_title=dicom.ae_titles[0])
        entity.maximum_associations = dicom.maximum_associations
        # A margin for the headers of PDVs: the guard counts whole PDUs.
        entity.maximum_pdu_size = dicom.maximum_pdu_bytes - 1024
        entity.network_timeout = dicom.network_timeout_seconds
        entity.acse_timeout = entity.dimse_timeout = dicom.network_timeout_seconds
        entity.add_supported_context(Verification)
        for sop_class in STORAGE_CLASSES:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._guard.opened),
            (evt.EVT_CONN_CLOSE, self._connection_closed),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_RELEASED, functools.partial(self._ended, how="released")),
            (evt.EVT_ABORTED, functools.partial(self._ended, how="aborted")),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
        ]
        if self._answered is not None:
            handlers += serve_commitment(entity, self._answered)
        try:
            self._server = entity.start_server((dicom.host, dicom.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ListenerError(
                f"Port {dicom.port} on {dicom.host} cannot be listened on: {error.strerror}. Is another node running, "
                "or is the port below 1024 without the privilege for it?"
            ) from error

    def stop(self) -> None:
        """Aborts what is open and closes the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _requested(self, event: Any) -> None:
        requestor = event.assoc.requestor
        primitive = requestor.primitive
        calling, called = primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()
        try:
            reason = refusal(self._config, calling, called, requestor.address or "")
        except Exception:
            # pynetdicom logs what a handler raises, and goes on to accept.
            event.assoc.acse.send_reject(REJECTED_PERMANENT, SERVICE_USER, NO_REASON)
            raise
        if reason is None:
            return
        LOG.warning("An association of %r to %r was refused: %s.", calling, called, reason.reason)
        try:
            with self._sessions.begin() as session:
                record(
                    session,
                    calling,
                    "association refused",
                    called,
                    reason=reason.reason,
                    address=requestor.address or "",
                )
        finally:
            event.assoc.acse.send_reject(REJECTED_PERMANENT, SERVICE_USER, reason.diagnostic)
        event.assoc.kill()

    def _rejected(self, event: Any) -> None:
        LOG.warning("An association was rejected: more than %d are open.", self._config.dicom.maximum_associations)

    def _established(self, event: Any) -> None:
        requestor = event.assoc.requestor
        row = Association(
            calling_ae_title=requestor.ae_title.strip(),
            called_ae_title=requestor.primitive.called_ae_title.strip(),
            address=requestor.address or "",
        )
        with self._sessions.begin() as session:
            session.add(row)
        event.assoc.vp_association_id = row.id

    def _ended(self, event: Any, how: str) -> None:
        identifier = getattr(event.assoc, "vp_association_id", None)
        if identifier is None:
            return
        event.assoc.vp_association_id = None
        with self._sessions.begin() as session:
            row = session.get(Association, identifier)
            if row is not None:
                row.closed_at, row.ended_by = now(), how

    def _connection_closed(self, event: Any) -> None:
        self._guard.closed(event)
        remove_unfinished(event.assoc)
        # Neither released nor aborted: the network went away.
        self._ended(event, "aborted")

    def _store(self, event: Any) -> int | Dataset:
        path = Path(event.dataset_path)
        overflow = event.request._dataset_file.overflow
        if overflow is Overflow.DISK_FULL:
            LOG.error("An instance was refused: less disk is free than dicom.minimum_free_disk_gb.")
            return _failure(OUT_OF_RESOURCES, "The node's disk is nearly full; try again later")
        if overflow is Overflow.TOO_LARGE:
            LOG.warning("An instance was refused: it is larger than dicom.maximum_instance_gb.")
            return _failure(CANNOT_UNDERSTAND, "The instance is larger than this node accepts")
        try:
            arrival = self._arrival(event, path)
        except Mismatch:
            return _failure(DOES_NOT_MATCH_SOP_CLASS, "Data set and command name different instances")
        except HeaderError as error:
            LOG.warning("An instance was refused: %s", error)
            return _failure(CANNOT_UNDERSTAND, str(error))
        try:
            outcome = store(self._sessions, self._config.node.data_folder, arrival)
        except OSError as error:
            LOG.error("An instance could not be written: %s.", error.strerror)
            return _failure(OUT_OF_RESOURCES, "The node could not write the instance; try again later")
        except DataError:
            LOG.warning("An instance was refused: the database cannot hold one of its values.")
            return _failure(CANNOT_UNDERSTAND, "A value is too long, too large or holds a NUL character")
        except SQLAlchemyError as error:
            LOG.error("An instance could not be indexed: %s.", type(error).__name__)
            return _failure(OUT_OF_RESOURCES, "The node could not index the instance; try again later")
        if outcome is Stored.IDENTICAL:
            LOG.debug("SOP Instance %s was here already.", arrival.header.sop_instance_uid)
        return SUCCESS

    def _arrival(self, event: Any, path: Path) -> Arrival:
        requestor = event.assoc.requestor
        request = event.request
        return read_arrival(
            path,
            (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)),
            UID(event.context.transfer_syntax),
            self._config.dicom,
            Sender(
                calling_ae_title=requestor.ae_title.strip(),
                called_ae_title=requestor.primitive.called_ae_title.strip(),
                address=requestor.address or "",
                association_id=getattr(event.assoc, "vp_association_id", None),
                move_originator=str(request.MoveOriginatorApplicationEntityTitle or "").strip(),
            ),
        )


def _failure(status: int, comment: str) -> Dataset:
    """A C-STORE response with an Error Comment (PS3.7 C.4.2), which the sender's log shows."""
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment[:ERROR_COMMENT_LENGTH]
    return response
