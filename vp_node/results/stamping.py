"""Dates, character set and file header: what makes an object the same however often it is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian

from vp_node.results.model import PromptProvenance
from vp_node.results.uids import uid_of

IMPLEMENTATION_CLASS_UID = uid_of("implementation", "voxelprompt-node")
IMPLEMENTATION_VERSION_NAME = "VOXELPROMPT"
UTF8 = "ISO_IR 192"


def content_time(provenance: PromptProvenance, headers: Sequence[Dataset]) -> datetime:
    """When the run was asked for, or else the newest date of the source images."""
    if provenance.requested_at is not None:
        return provenance.requested_at.replace(microsecond=0)
    found = [moment for header in headers if (moment := _moment(header)) is not None]
    return max(found, default=datetime(1970, 1, 1))  # noqa: DTZ001 (DICOM dates without an offset are local)


def _moment(header: Dataset) -> datetime | None:
    for kind in ("Acquisition", "Content", "Series", "Study"):
        day = str(header.get(f"{kind}Date", "") or "")
        if not day:
            continue
        clock = str(header.get(f"{kind}Time", "") or "")[:6]
        for text, form in ((day + clock, "%Y%m%d%H%M%S"), (day, "%Y%m%d")):
            try:
                return datetime.strptime(text, form)  # noqa: DTZ007
            except ValueError:
                continue
    return None


def stamp(dataset: Dataset, moment: datetime, transfer_syntax_uid: UID = ExplicitVRLittleEndian) -> None:
    """Sets every date and time that says when the object was made, and its file header."""
    day, clock = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for kind in ("Content", "InstanceCreation", "Series"):
        setattr(dataset, f"{kind}Date", day)
        setattr(dataset, f"{kind}Time", clock)
    offset = moment.strftime("%z")
    if offset:
        dataset.TimezoneOffsetFromUTC = offset[:5]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax_uid
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta


def character_set(header: Dataset, texts: Iterable[str]) -> str | list[str]:
    """The source's Specific Character Set, or UTF-8 where one of the texts cannot be written in it."""
    stated = header.get("SpecificCharacterSet")
    if not stated:
        return UTF8 if any(not text.isascii() for text in texts) else "ISO_IR 100"
    names = [str(name) for name in stated] if isinstance(stated, MultiValue) else [str(stated)]
    if len(names) > 1:
        return UTF8
    encoding = convert_encodings(names)[0]
    try:
        for text in texts:
            text.encode(encoding)
    except UnicodeEncodeError:
        return UTF8
    return names[0]
