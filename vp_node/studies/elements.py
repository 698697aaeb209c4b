"""Values of DICOM data elements as plain Python values, tolerant of what peers get wrong.

Texts and decimal strings are taken from the stored bytes where pydicom has not converted them yet: that is several
times faster than a conversion with validation, and a malformed value (a redacted date, a number that is none) becomes
an absent one instead of an error or of a warning that quotes it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag, Tag

# pydicom warns of malformed values and quotes them; behind a damaged length such a value is the patient's name. What is
# read is checked here; what is written stays checked by pydicom (`writing_validation_mode`).
config.settings.reading_validation_mode = config.IGNORE

# What pydicom raises on damaged headers; sequences are parsed only when they are looked at.
PARSE_ERRORS = (
    BytesLengthException,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    struct.error,
    zlib.error,
)

_BINARY_REPRESENTATIONS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})
_NUMBERS_AS_TEXT = frozenset({"DS", "IS"})


def text(dataset: Dataset, tag: BaseTag) -> str:
    """The element's text without padding; empty where it is absent. Several values stay joined by a backslash."""
    stored = _ascii(dataset, tag)
    if stored is not None:
        return stored
    if tag not in dataset:
        return ""
    value = dataset[tag].value
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "\\".join(str(item) for item in value)
    return str(value).strip(" \0")


def texts(dataset: Dataset, tag: BaseTag) -> tuple[str, ...]:
    """The values of a multi-valued text element; empty where it is absent."""
    value = text(dataset, tag)
    return tuple(part.strip() for part in value.split("\\")) if value else ()


def numbers(dataset: Dataset, tag: BaseTag) -> tuple[float, ...]:
    """The element's values as finite floats; empty where it is absent or where a value is no number."""
    if tag not in dataset:
        return ()
    stored = dataset.get_item(tag)
    value: Any
    if isinstance(stored, RawDataElement) and (stored.VR in _NUMBERS_AS_TEXT or stored.VR is None or stored.VR == "UN"):
        value = _numbers_of_raw(dataset, tag, stored)
    else:
        value = dataset[tag].value
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        value = [value]
    try:
        parsed = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        return ()
    return parsed if all(math.isfinite(item) for item in parsed) else ()


def number(dataset: Dataset, tag: BaseTag) -> float | None:
    """The element's first value, or None."""
    values = numbers(dataset, tag)
    return values[0] if values else None


def integer(dataset: Dataset, tag: BaseTag) -> int | None:
    """The element's first value as an integer, or None."""
    value = number(dataset, tag)
    return None if value is None else int(value)


def item(dataset: Dataset | None, tag: BaseTag) -> Dataset | None:
    """The first item of a sequence, or None."""
    if dataset is None or tag not in dataset:
        return None
    value = dataset[tag].value
    return value[0] if isinstance(value, Sequence) and len(value) and isinstance(value[0], Dataset) else None


def _ascii(dataset: Dataset, tag: BaseTag) -> str | None:
    """The stored bytes as text where they are plain ASCII and not converted yet."""
    if tag not in dataset:
        return ""
    stored = dataset.get_item(tag)
    if not isinstance(stored, RawDataElement) or stored.VR in _BINARY_REPRESENTATIONS:
        return None
    value = stored.value
    if value is None:
        return ""
    # ISO 2022 escapes are ASCII bytes too: such a text needs the character set, which pydicom knows.
    if not isinstance(value, bytes) or not value.isascii() or b"\x1b" in value:
        return None
    return value.decode("ascii").strip(" \0")


def _numbers_of_raw(dataset: Dataset, tag: BaseTag, stored: RawDataElement) -> Any:
    """Decimal and integer strings from their bytes; for implicit VR the dictionary of pydicom decides."""
    if stored.VR in _NUMBERS_AS_TEXT and isinstance(stored.value, bytes):
        parts = stored.value.replace(b"\0", b" ").strip().split(b"\\")
        return [part.decode("ascii", "replace") for part in parts] if parts != [b""] else []
    try:
        return dataset[tag].value
    except (TypeError, ValueError):  # implicit VR: a decimal string that is no number
        return None


def tags_of(keywords: str) -> dict[str, BaseTag]:
    """The tags of keywords of the data dictionary (PS3.6), parted by spaces."""
    return {keyword: Tag(keyword) for keyword in keywords.split()}
