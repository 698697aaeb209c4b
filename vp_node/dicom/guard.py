"""The guard of the listener: bounds what a connection may claim before and after negotiation.

pynetdicom reads as many bytes as the header of a PDU claims (up to 4 GiB), waits without limit for the rest of one, and
counts associations only once A-ASSOCIATE-RQ came. `ConnectionGuard` wraps each connection's reading when it opens: a
PDU that claims more than the limit, or that does not arrive in time, closes the connection; so does a message that
collects more in memory than any command set needs, and the connection that exceeds what one address may hold.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from vp_node.dicom.incoming import bytes_in_memory

LOG = logging.getLogger(__name__)

READ_SIZE = 1 << 16
MAXIMUM_MESSAGE_BYTES = 1 << 20
"""In memory: the node offers no service that takes a data set there, and a command set is a few hundred bytes."""


class ConnectionGuard:
    """Limits of the connections of one listener.

    Args:
        maximum_pdu_bytes: largest PDU that is read.
        pdu_seconds: time in which a PDU must arrive once its reading began.
        per_address: connections that one address may hold open.
    """

    def __init__(self, maximum_pdu_bytes: int, pdu_seconds: float, per_address: int) -> None:
        self._maximum = maximum_pdu_bytes
        self._seconds = pdu_seconds
        self._per_address = per_address
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def opened(self, event: Any) -> None:
        """Handler of EVT_CONN_OPEN: wraps the connection, or closes it if its address holds too many."""
        address = str(event.address[0])
        wrapped = event.assoc.dul.socket
        connection = wrapped.socket
        with self._lock:
            self._open[address] += 1
            too_many = self._open[address] > self._per_address
        event.assoc.vp_guarded_address = address
        wrapped.recv = self._bounded(connection, event.assoc)
        if too_many:
            LOG.warning("A connection was closed: its address holds more than %d.", self._per_address)
            wrapped.close()

    def closed(self, event: Any) -> None:
        """Handler of EVT_CONN_CLOSE."""
        address = getattr(event.assoc, "vp_guarded_address", None)
        if address is None:
            return
        event.assoc.vp_guarded_address = None
        with self._lock:
            self._open[address] -= 1
            if self._open[address] <= 0:
                del self._open[address]

    def _bounded(self, connection: Any, association: Any) -> Callable[[int], bytearray]:
        def recv(count: int) -> bytearray:
            """Reads `count` bytes, as `AssociationSocket.recv` does; its caller expects OSError of a failure."""
            if count > self._maximum:
                LOG.warning("A connection was closed: a PDU claimed %d bytes, more than %d.", count, self._maximum)
                raise OSError("the PDU claims more than the limit")
            if bytes_in_memory(association) > MAXIMUM_MESSAGE_BYTES:
                LOG.warning("A connection was closed: a message took more than %d bytes.", MAXIMUM_MESSAGE_BYTES)
                raise OSError("the message takes more memory than the limit")
            data = bytearray()
            deadline = time.monotonic() + self._seconds
            try:
                while len(data) < count:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        LOG.warning("A connection was closed: a PDU did not arrive within %g s.", self._seconds)
                        raise TimeoutError("the PDU did not arrive in time")
                    connection.settimeout(left)
                    part = connection.recv(min(count - len(data), READ_SIZE))
                    if not part:
                        return data
                    data += part
            finally:
                connection.settimeout(self._seconds)
            return data

        return recv
