"""From a file that came over the network to an arrival: checked to be whole, and to be what its sender said."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from vp_node.config import DicomSection
from vp_node.dicom.incoming import GIGABYTE
from vp_node.intake.digest import dataset_digest, inflated_size
from vp_node.intake.own import has_marks_of_a_result
from vp_node.intake.store import Arrival, patient_identity
from vp_node.studies.headers import HeaderError, InstanceHeader, read_header

MAXIMUM_INFLATED_BYTES = 256 << 20
"""Of a deflated data set, which pydicom inflates in memory."""


class Mismatch(Exception):
    """The data set is another instance than the command that brought it named."""


@dataclass(frozen=True)
class Sender:
    """Who brought an instance."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    association_id: int | None = None
    move_originator: str = ""
    """Move Originator Application Entity Title (0000,1030): who asked for it by C-MOVE."""
    prior: bool = False
    """It was fetched for a run."""


def read_arrival(path: Path, named: tuple[str, str], syntax: UID, settings: DicomSection, sender: Sender) -> Arrival:
    """What the index needs to know of a received file.

    Args:
        named: SOP Class UID and SOP Instance UID that the command named.
        syntax: the transfer syntax that it came in.

    Raises:
        HeaderError: it is no usable instance, too large, or truncated.
        Mismatch
    """
    most = min(settings.maximum_instance_gb * GIGABYTE, MAXIMUM_INFLATED_BYTES)
    if syntax.is_deflated and inflated_size(path, int(most)) > most:
        raise HeaderError("The data set is larger than this node accepts once it is inflated.")
    header, dataset = _read(path)
    if (header.sop_class_uid, header.sop_instance_uid) != named:
        raise Mismatch
    patient_id, issuer = patient_identity(dataset)
    return Arrival(
        path=path,
        header=header,
        digest=dataset_digest(path),
        patient_id=patient_id,
        issuer=issuer,
        calling_ae_title=sender.calling_ae_title,
        called_ae_title=sender.called_ae_title,
        address=sender.address,
        association_id=sender.association_id,
        own_result=has_marks_of_a_result(dataset),
        move_originator=sender.move_originator,
        prior=sender.prior,
    )


def _read(path: Path) -> tuple[InstanceHeader, Dataset]:
    """The header, and the data set without its pixels for the patient's identity.

    Encapsulated pixels are parsed to their end, because only there a truncated object shows; of native ones the
    length of the element is compared with what the header declares and the file holds.

    Raises:
        HeaderError
    """
    header = read_header(path)
    with path.open("rb") as file:
        dataset = dcmread(file, stop_before_pixels=True)
        syntax = UID(header.transfer_syntax_uid)
        if not header.frames or syntax.is_deflated:
            return header, dataset
        if syntax.is_compressed:
            _check_encapsulated(path)
        else:
            _check_native(file, header, syntax, path.stat().st_size)
    return header, dataset


def _check_encapsulated(path: Path) -> None:
    try:
        dataset = dcmread(path, defer_size="64 KB")
    except (EOFError, ValueError, OSError) as error:
        raise HeaderError("The data set is truncated: its compressed pixels have no end. Send it again.") from error
    if "PixelData" not in dataset:
        raise HeaderError("The data set is truncated: it has no pixels. Send it again.")


def _check_native(file: BinaryIO, header: InstanceHeader, syntax: UID, size: int) -> None:
    """`file` stands at the pixel data element, whose length follows its tag (and, if explicit, its VR; PS3.5 7.1)."""
    element = file.read(8 if syntax.is_implicit_VR else 12)
    order = "<" if syntax.is_little_endian else ">"
    if len(element) < 8:
        raise HeaderError("The data set is truncated: it has no pixels. Send it again.")
    (length,) = struct.unpack(f"{order}I", element[-4:])
    bits = header.rows * header.columns * header.number_of_frames * header.samples_per_pixel * header.bits_allocated
    if header.photometric_interpretation.endswith("_422"):
        bits = bits * 2 // 3
    if file.tell() + length > size or length * 8 < bits:
        raise HeaderError("The data set is truncated: it has fewer pixels than it declares. Send it again.")
