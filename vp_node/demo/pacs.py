"""The small PACS of the demonstration: answers C-ECHO and keeps what is stored to it in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    Comprehensive3DSRStorage,
    CTImageStorage,
    MRImageStorage,
    SegmentationStorage,
    Verification,
)

STORED_CLASSES = (MRImageStorage, CTImageStorage, SegmentationStorage, Comprehensive3DSRStorage)


@contextmanager
def receiving_pacs(folder: Path, ae_title: str) -> Iterator[int]:
    """Runs while the context is open, on a free loopback port, which it yields."""
    folder.mkdir(parents=True, exist_ok=True)

    def store(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        path = folder / f"{dataset.Modality}-{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path.with_suffix(".part"), enforce_file_format=True)
        path.with_suffix(".part").rename(path)
        return 0x0000

    entity = AE(ae_title=ae_title)
    entity.add_supported_context(Verification)
    for sop_class in STORED_CLASSES:
        entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    handlers: list[Any] = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    if server is None:
        raise RuntimeError("The demonstration's PACS did not start.")
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def received(folder: Path) -> dict[str, list[Path]]:
    """Paths of what the PACS holds, by modality."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.dcm")):
        modality = str(dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).Modality)
        found.setdefault(modality, []).append(path)
    return found
