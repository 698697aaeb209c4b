"""What arrives before it is known to be whole: bounded files for data sets, and what pynetdicom holds in memory.

pynetdicom writes a data set to a file for as long as its sender goes on, keeps the file when the connection is lost in
the middle, and collects every other message in memory without limit.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import tempfile
import weakref
from enum import StrEnum
from pathlib import Path
from typing import Any

import pynetdicom.dimse_messages
from pynetdicom import _config

from vp_node.config import DicomSection

LOG = logging.getLogger(__name__)

CHECK_DISK_EVERY_BYTES = 16 << 20
GIGABYTE = 1e9


class Overflow(StrEnum):
    TOO_LARGE = "too large"
    DISK_FULL = "disk full"


class IncomingFile:
    """A file for one data set, with the few methods of `tempfile.NamedTemporaryFile` that pynetdicom uses.

    Beyond a limit the rest of the data set is read and dropped, and the disk given back at once: the sender then hears
    why, in the answer to its C-STORE, instead of losing the connection and trying again. What is not moved elsewhere
    is removed with the object.

    Args:
        folder: on the same disk as the place where instances are kept, so that a rename moves it there.
        maximum_bytes: of the file.
        minimum_free_bytes: of the disk.
    """

    def __init__(self, folder: Path, maximum_bytes: float, minimum_free_bytes: float, **_like_tempfile: Any) -> None:
        descriptor, self.name = tempfile.mkstemp(suffix=".dcm", dir=folder)
        self.file = os.fdopen(descriptor, "wb", buffering=0)
        self.overflow: Overflow | None = None
        self._folder = folder
        self._maximum = maximum_bytes
        self._minimum_free = minimum_free_bytes
        self._size = 0
        self._check_disk_at = 0
        self._remove = weakref.finalize(self, Path(self.name).unlink, missing_ok=True)

    def write(self, data: bytes) -> int:
        self._size += len(data)
        if self.overflow is None:
            self.overflow = self._why_no_more()
            if self.overflow is None:
                try:
                    self._write_all(data)
                except OSError as error:
                    LOG.error("A data set could not be written: %s.", error.strerror)
                    self.overflow = Overflow.DISK_FULL
            if self.overflow is not None:
                self.file.truncate(0)
        return len(data)

    def close(self) -> None:
        self.file.close()

    def remove(self) -> None:
        """Closes and removes the file, if it still lies where it was made."""
        self.close()
        self._remove()

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self.file.write(left) :]

    def _why_no_more(self) -> Overflow | None:
        if self._size > self._maximum:
            return Overflow.TOO_LARGE
        if self._size >= self._check_disk_at:
            self._check_disk_at = self._size + CHECK_DISK_EVERY_BYTES
            if shutil.disk_usage(self._folder).free < self._minimum_free:
                return Overflow.DISK_FULL
        return None


def bytes_in_memory(association: Any) -> int:
    """What a message that is not whole yet holds in memory: its command set, and a data set that goes to no file.

    To be called in the thread that receives, between two PDUs.
    """
    message = association.dimse.message
    if message is None:
        return 0
    return int(message.encoded_command_set.tell() + message.data_set.tell())


def remove_unfinished(association: Any) -> None:
    """Removes the file of a data set whose connection ended before its last fragment came."""
    message = association.dimse.message
    file = getattr(message, "_data_set_file", None)
    if isinstance(file, IncomingFile):
        file.remove()


def stream_data_sets_into(folder: Path, settings: DicomSection) -> None:
    """Makes pynetdicom write data sets to bounded files in `folder` as they arrive, instead of holding them in memory.

    pynetdicom has one switch for the whole process, and no argument for the folder: files in the system's temporary
    folder could not be renamed into the node's if that lies on another disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _config.STORE_RECV_CHUNKED_DATASET = True
    pynetdicom.dimse_messages.NamedTemporaryFile = functools.partial(  # type: ignore[assignment]
        IncomingFile, folder, settings.maximum_instance_gb * GIGABYTE, settings.minimum_free_disk_gb * GIGABYTE
    )
