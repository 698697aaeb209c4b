"""What the node remembers of an instance without its pixels: enough to group it, nothing that names the patient."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
)

from vp_node.studies.elements import PARSE_ERRORS, integer, number, tags_of, text, texts
from vp_node.studies.frames import FRAME_TAGS, FrameHeader, frame_headers
from vp_node.studies.model import StoredLayout
from vp_node.studies.padding import padding_range
from vp_node.studies.private import has_private_scaling, has_uih_frame_grid, mosaic_tiles, private_tags
from vp_node.studies.tiles import Tiles, tiles_of

VOLUME_SOP_CLASSES = frozenset(
    {
        str(uid)
        for uid in (
            MRImageStorage,
            CTImageStorage,
            EnhancedMRImageStorage,
            EnhancedCTImageStorage,
            LegacyConvertedEnhancedMRImageStorage,
            LegacyConvertedEnhancedCTImageStorage,
        )
    }
)
"""The storage classes that may become volumes (PS3.4 B.5)."""

_NATIVE = frozenset({str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian), str(ExplicitVRBigEndian)})
_UNPARSABLE = "The DICOM file's header cannot be parsed. Send it again, or check its origin."
_FRAMES_AT_MOST = 100_000
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_REDACTED = re.compile(r"[*xX#?]+")


class HeaderError(ValueError):
    """A file that is no usable DICOM instance. Its text names no patient and quotes no value."""


@dataclass(frozen=True)
class InstanceHeader:
    """An instance as grouping sees it. Dates and times as stored (PS3.5 6.2); times of sequences in ms."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    patient_key: str
    """See `patient_key`."""
    order_key: str = ""
    """The Accession Number, hashed: what was ordered together has one. Empty where there is none."""
    frames: tuple[FrameHeader, ...] = ()
    """One for each stored frame; empty for objects that are no images."""
    digest: str = ""
    """Of the data set where the caller knows it: it tells a resend from other content under the same UID."""
    frame_of_reference_uid: str = ""
    modality: str = ""
    manufacturer: str = ""
    model_name: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    study_date: str = ""
    series_date: str = ""
    acquisition_date: str = ""
    content_date: str = ""
    study_time: str = ""
    acquisition_time: str = ""
    content_time: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol_name: str = ""
    body_part: str = ""
    station_name: str = ""
    station_ae_title: str = ""
    institution_name: str = ""
    source_ae_title: str = ""
    """Source Application Entity Title of the file's meta information."""
    patient_sex: str = ""
    patient_age: str = ""
    rows: int = 0
    columns: int = 0
    samples_per_pixel: int = 1
    photometric_interpretation: str = ""
    bits_allocated: int = 0
    bits_stored: int = 0
    pixel_representation: int = 0
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    sequence_name: str = ""
    acquisition_type: str = ""
    """`2D` or `3D`, for MR."""
    echo_train_length: int | None = None
    contrast_agent: str = ""
    spacing_between_slices: float | None = None
    burned_in_annotation: str = ""
    conversion_type: str = ""
    lossy: bool = False
    private_scaling: bool = False
    """Philips: values of its own scale could be had from private elements; they are left alone."""
    mosaic_tiles: int | None = None
    """Siemens: slices in the one frame."""
    frame_grid: bool = False
    """UIH VFRAME: slices in the one frame."""
    tiles: Tiles | None = None
    """How these slices lie in the frame, where the header says it."""
    layout: StoredLayout | None = None
    """None where pixels are stored in a way that only a parser of DICOM can follow."""
    pixel_offset: int = 0
    """Of the first frame's first pixel, in bytes from the beginning of the file; 0 where there is no layout."""
    file_state: tuple[int, int] = (0, 0)
    """Size in bytes and time of modification in ns, when the file was indexed."""

    @property
    def number_of_frames(self) -> int:
        return len(self.frames)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON column; what is at its default is left out, what all frames share stands once."""
        data = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("path", "frames") and getattr(self, field.name) != field.default
        }
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
        if self.tiles is not None:
            data["tiles"] = asdict(self.tiles)
        if self.layout is not None:
            data["layout"] = asdict(self.layout)
        return {"path": str(self.path), **data, "frames": _frames_to_json(self.frames)}

    @classmethod
    def from_json(cls, data: dict[str, Any], path: Path | None = None) -> InstanceHeader:
        """The inverse of `to_json`.

        Args:
            path: where the file lies now, if elsewhere than when the header was written down.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        values["path"] = Path(data["path"]) if path is None else path
        values["frames"] = _frames_from_json(data["frames"])
        if "tiles" in data:
            values["tiles"] = Tiles(**{**data["tiles"], "positions": tuple(map(tuple, data["tiles"]["positions"]))})
        if "layout" in data:
            padding = data["layout"]["padding"]
            values["layout"] = StoredLayout(**{**data["layout"], "padding": tuple(padding) if padding else None})
        return cls(**values)


def patient_key(issuer: str, patient_id: str, study_instance_uid: str) -> str:
    """SHA-256 of issuer and Patient ID, in hexadecimal digits.

    Where the id is absent or redacted, the study stands for the patient: two patients without an id are not one.
    """
    if not patient_id or _REDACTED.fullmatch(patient_id):
        return hashlib.sha256(f"study\0{study_instance_uid}".encode()).hexdigest()
    return hashlib.sha256(f"{issuer}\0{patient_id}".encode()).hexdigest()


def order_key(accession_number: str) -> str:
    """SHA-256 of an Accession Number; empty where it is absent, redacted or nothing but zeros."""
    if not accession_number.strip("0 ") or _REDACTED.fullmatch(accession_number):
        return ""
    return hashlib.sha256(f"order\0{accession_number}".encode()).hexdigest()


_TAGS = tags_of(
    "SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID PatientID "
    "AccessionNumber "
    "IssuerOfPatientID Modality Manufacturer ManufacturerModelName SeriesNumber InstanceNumber StudyDate SeriesDate "
    "AcquisitionDate AcquisitionDateTime ContentDate StudyTime AcquisitionTime ContentTime StudyDescription "
    "SeriesDescription ProtocolName BodyPartExamined StationName PerformedStationAETitle InstitutionName PatientSex "
    "PatientAge Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored PixelRepresentation "
    "NumberOfFrames ImageType ScanningSequence SequenceVariant ScanOptions SequenceName PulseSequenceName "
    "MRAcquisitionType EchoTrainLength ContrastBolusAgent ContrastBolusAgentSequence SpacingBetweenSlices "
    "BurnedInAnnotation ConversionType LossyImageCompression EchoPulseSequence EchoPlanarPulseSequence HighBit "
    "PixelPaddingValue PixelPaddingRangeLimit ModalityLUTSequence"
)
_WANTED = [*_TAGS.values(), *FRAME_TAGS.values(), *private_tags()]


def read_header(path: Path) -> InstanceHeader:
    """The header of a DICOM file, without reading its pixels.

    Raises:
        HeaderError: the file is no DICOM file, is truncated, lacks an identifier, or is an image without a size.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(_WANTED))
            state = os.fstat(file.fileno())
            header = header_of(dataset, dataset.file_meta, path, state.st_size)
            return _with_pixels(header, dataset, file, (state.st_size, state.st_mtime_ns))
    except HeaderError:
        raise
    except InvalidDicomError as error:
        raise HeaderError("The file is no DICOM file: the prefix DICM after 128 bytes is missing.") from error
    except EOFError as error:
        raise HeaderError("The DICOM file is truncated: it ends inside its header. Send it again.") from error
    except PARSE_ERRORS as error:
        raise HeaderError(_UNPARSABLE) from error


_DIRECT = {str(ImplicitVRLittleEndian): 8, str(ExplicitVRLittleEndian): 12}
"""Bytes from the beginning of Pixel Data to its value, for the syntaxes whose pixels need no decoder (PS3.5 7.1); the
others have an explicit VR, and 12."""
_ENCAPSULATED = frozenset(
    {JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, RLELossless}
)
"""Whose one frame can be handed to a decoder as it is."""
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


def _with_pixels(header: InstanceHeader, dataset: Dataset, file: BinaryIO, state: tuple[int, int]) -> InstanceHeader:
    """The header with the place of its pixels, where they can be read as they are; `file` stands at Pixel Data."""
    layout = _layout(header, dataset)
    if layout is None:
        return header
    size = _DIRECT.get(header.transfer_syntax_uid, 12)
    element = file.read(size)
    if len(element) < size or element[:4] != _PIXEL_DATA:
        return header
    (length,) = struct.unpack("<I", element[-4:])
    if layout.transfer_syntax_uid:
        fits = length == _UNDEFINED_LENGTH
    else:
        fits = layout.frame_bytes * header.number_of_frames <= length <= state[0] - file.tell()
    if not fits:
        return header
    return replace(header, layout=layout, pixel_offset=file.tell(), file_state=state)


def _layout(header: InstanceHeader, dataset: Dataset) -> StoredLayout | None:
    compressed = header.transfer_syntax_uid in _ENCAPSULATED and header.number_of_frames == 1
    usual = (
        (header.transfer_syntax_uid in _DIRECT or compressed)
        and header.sop_class_uid in VOLUME_SOP_CLASSES
        and header.samples_per_pixel == 1
        and header.bits_allocated in (8, 16)
        and 0 < header.bits_stored <= header.bits_allocated
        and (integer(dataset, _TAGS["HighBit"]) or 0) == header.bits_stored - 1
        and _TAGS["ModalityLUTSequence"] not in dataset
    )
    padding = padding_range(dataset) if usual else None
    if not usual or (padding is None and _TAGS["PixelPaddingValue"] in dataset):
        return None
    return StoredLayout(
        columns=header.columns,
        rows=header.rows,
        bits_allocated=header.bits_allocated,
        bits_stored=header.bits_stored,
        signed=header.pixel_representation == 1,
        inverted=header.photometric_interpretation == "MONOCHROME1",
        padding=padding,
        transfer_syntax_uid=header.transfer_syntax_uid if compressed else "",
    )


def header_of(dataset: Dataset, meta: FileMetaDataset, path: Path, size: int) -> InstanceHeader:
    """The header of a data set that was read without its pixels.

    Args:
        meta: its file meta information.
        path: where it lies.
        size: of the file in bytes: a native image that is larger than its file is truncated.

    Raises:
        HeaderError: an identifier is missing, or the image has no size, or its pixels cannot all be there.
    """
    try:
        header = _header(dataset, meta, path, size)
    except HeaderError:
        raise
    except PARSE_ERRORS as error:  # sequences are parsed only when they are looked at
        raise HeaderError(_UNPARSABLE) from error
    _check_size(header, size)
    return header


def _header(dataset: Dataset, meta: FileMetaDataset, path: Path, size: int) -> InstanceHeader:
    def say(keyword: str) -> str:
        return text(dataset, _TAGS[keyword])

    sop_class = say("SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", ""))
    if sop_class == MediaStorageDirectoryStorage:
        raise HeaderError("The file is a DICOMDIR: a table of contents, no instance.")
    study = _required(say("StudyInstanceUID"), "StudyInstanceUID")
    frames = _number_of_frames(dataset, sop_class, size)
    samples = integer(dataset, _TAGS["SamplesPerPixel"])
    return InstanceHeader(
        path=path,
        sop_class_uid=_required(sop_class, "SOPClassUID"),
        sop_instance_uid=_required(say("SOPInstanceUID"), "SOPInstanceUID"),
        study_instance_uid=study,
        series_instance_uid=_required(say("SeriesInstanceUID"), "SeriesInstanceUID"),
        transfer_syntax_uid=str(meta.get("TransferSyntaxUID", "")),
        patient_key=patient_key(say("IssuerOfPatientID"), say("PatientID"), study),
        order_key=order_key(say("AccessionNumber")),
        frames=_frames(dataset, frames, sop_class),
        frame_of_reference_uid=say("FrameOfReferenceUID"),
        modality=say("Modality"),
        manufacturer=say("Manufacturer"),
        model_name=say("ManufacturerModelName"),
        series_number=integer(dataset, _TAGS["SeriesNumber"]),
        instance_number=integer(dataset, _TAGS["InstanceNumber"]),
        study_date=say("StudyDate"),
        series_date=say("SeriesDate"),
        acquisition_date=say("AcquisitionDate") or say("AcquisitionDateTime")[:8],
        content_date=say("ContentDate"),
        study_time=say("StudyTime"),
        acquisition_time=say("AcquisitionTime") or say("AcquisitionDateTime")[8:],
        content_time=say("ContentTime"),
        study_description=say("StudyDescription"),
        series_description=say("SeriesDescription"),
        protocol_name=say("ProtocolName"),
        body_part=say("BodyPartExamined"),
        station_name=say("StationName"),
        station_ae_title=say("PerformedStationAETitle"),
        institution_name=say("InstitutionName"),
        source_ae_title=str(meta.get("SourceApplicationEntityTitle", "")).strip(),
        patient_sex=say("PatientSex"),
        patient_age=say("PatientAge"),
        rows=integer(dataset, _TAGS["Rows"]) or 0,
        columns=integer(dataset, _TAGS["Columns"]) or 0,
        samples_per_pixel=1 if samples is None else samples,
        photometric_interpretation=say("PhotometricInterpretation"),
        bits_allocated=integer(dataset, _TAGS["BitsAllocated"]) or 0,
        bits_stored=integer(dataset, _TAGS["BitsStored"]) or 0,
        pixel_representation=integer(dataset, _TAGS["PixelRepresentation"]) or 0,
        image_type=texts(dataset, _TAGS["ImageType"]),
        scanning_sequence=_scanning_sequence(dataset),
        sequence_variant=texts(dataset, _TAGS["SequenceVariant"]),
        scan_options=texts(dataset, _TAGS["ScanOptions"]),
        sequence_name=say("SequenceName") or say("PulseSequenceName"),
        acquisition_type=say("MRAcquisitionType"),
        echo_train_length=integer(dataset, _TAGS["EchoTrainLength"]),
        contrast_agent=_contrast_agent(dataset),
        spacing_between_slices=number(dataset, _TAGS["SpacingBetweenSlices"]),
        burned_in_annotation=say("BurnedInAnnotation"),
        conversion_type=say("ConversionType"),
        lossy=say("LossyImageCompression") == "01",
        private_scaling=has_private_scaling(dataset),
        mosaic_tiles=mosaic_tiles(dataset),
        frame_grid=has_uih_frame_grid(dataset),
        tiles=tiles_of(dataset, integer(dataset, _TAGS["Columns"]) or 0, integer(dataset, _TAGS["Rows"]) or 0)
        if sop_class == MRImageStorage and frames == 1
        else None,
    )


def _required(value: str, keyword: str) -> str:
    """A UID (PS3.5 9.1). Leading zeros of a component are wrong too, but common, and do no harm."""
    if not value:
        raise HeaderError(f"The instance has no {keyword}: it cannot be stored or referred to.")
    if len(value) > _UID_LENGTH or not _UID.fullmatch(value):
        raise HeaderError(f"The instance's {keyword} is no UID: only digits and periods, at most {_UID_LENGTH}.")
    return value


def _frames(dataset: Dataset, frames: int, sop_class: str) -> tuple[FrameHeader, ...]:
    """What is said of each frame, for the classes that may become volumes; others are only counted."""
    if sop_class in VOLUME_SOP_CLASSES:
        return frame_headers(dataset, frames) if frames else ()
    return (FrameHeader(),) * frames


def _number_of_frames(dataset: Dataset, sop_class: str, size: int) -> int:
    """0 for objects that are no images.

    Raises:
        HeaderError: the image has no rows, no columns or no frames, or more frames than bits.
    """
    image = _TAGS["Rows"] in dataset or _TAGS["Columns"] in dataset or sop_class in VOLUME_SOP_CLASSES
    if not image:
        return 0
    if not integer(dataset, _TAGS["Rows"]) or not integer(dataset, _TAGS["Columns"]):
        raise HeaderError("The image has no size: Rows or Columns is zero or missing.")
    if _TAGS["NumberOfFrames"] not in dataset or not text(dataset, _TAGS["NumberOfFrames"]):
        return 1
    frames = integer(dataset, _TAGS["NumberOfFrames"])
    if frames is None or frames < 1:
        raise HeaderError("The image has no size: NumberOfFrames is less than one or no number.")
    if frames > min(size * 8, _FRAMES_AT_MOST):
        raise HeaderError("The image declares more frames than its file can hold, or than the node takes.")
    return frames


def _check_size(header: InstanceHeader, size: int) -> None:
    if header.transfer_syntax_uid not in _NATIVE or header.samples_per_pixel != 1 or not header.frames:
        return
    bits = header.rows * header.columns * header.number_of_frames * header.bits_allocated
    if size * 8 < bits:
        raise HeaderError("The DICOM file is truncated: it is smaller than the pixels that its header declares.")


_ECHO_PULSE_SEQUENCES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}


def _scanning_sequence(dataset: Dataset) -> tuple[str, ...]:
    """Scanning Sequence (0018,0020), or its terms for what an enhanced object says (PS3.3 C.8.13.4)."""
    said = texts(dataset, _TAGS["ScanningSequence"])
    if said:
        return said
    echo_planar = ("EP",) if text(dataset, _TAGS["EchoPlanarPulseSequence"]) == "YES" else ()
    return (*_ECHO_PULSE_SEQUENCES.get(text(dataset, _TAGS["EchoPulseSequence"]), ()), *echo_planar)


def _contrast_agent(dataset: Dataset) -> str:
    """The agent's name, or `yes` where only the sequence of an enhanced object says that there was one."""
    agent = text(dataset, _TAGS["ContrastBolusAgent"])
    if agent:
        return agent
    tag = _TAGS["ContrastBolusAgentSequence"]
    return "yes" if tag in dataset and dataset[tag].value else ""


def _frames_to_json(frames: tuple[FrameHeader, ...]) -> dict[str, Any]:
    each = [frame.to_json() for frame in frames]
    shared = {
        name: value
        for name, value in (each[0].items() if each else ())
        if all(name in other and other[name] == value for other in each)
    }
    return {
        "shared": shared,
        "each": [{name: value for name, value in frame.items() if name not in shared} for frame in each],
    }


def _frames_from_json(data: dict[str, Any]) -> tuple[FrameHeader, ...]:
    return tuple(FrameHeader.from_json({**data["shared"], **frame}) for frame in data["each"])


def is_enhanced(sop_class_uid: str) -> bool:
    """Whether the class keeps its geometry in functional groups, frame by frame."""
    return sop_class_uid in VOLUME_SOP_CLASSES and UID(sop_class_uid) not in (MRImageStorage, CTImageStorage)
