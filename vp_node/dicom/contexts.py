"""Which SOP classes and transfer syntaxes the Storage SCP takes."""

from __future__ import annotations

from pydicom import uid
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts

LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Newer than pynetdicom's table."""

STORAGE_CLASSES: tuple[UID, ...] = tuple(
    dict.fromkeys(
        [UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts]
        + [LABEL_MAP_SEGMENTATION_STORAGE]
    )
)
"""Everything a brain study may hold, and what a PACS sends with it: taken, and set aside later if it is no volume."""

UNCOMPRESSED_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)

COMPRESSED_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    uid.RLELossless,
    uid.JPEGLSLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.JPEGLSNearLossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEG2000,
    uid.HTJ2K,
    uid.MPEG2MPML,
    uid.MPEG2MPHL,
    uid.MPEG4HP41,
    uid.MPEG4HP41BD,
    uid.HEVCMP51,
)
"""Stored as they are; whether one can be decoded is the compute process's matter."""

TRANSFER_SYNTAXES = UNCOMPRESSED_TRANSFER_SYNTAXES + COMPRESSED_TRANSFER_SYNTAXES
