"""Required and conditional attributes (`attributes.json`), values that fit their representation, character sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from vp_node.results.patient import COPIED
from vp_node.results.rules.problems import Problem, items_at

LARGEST_ELEMENT = 0xFFFFFFFE
"""PS3.5 7.1: length of a native element."""
_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})
_CHECKED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR"})
_NUMBER = frozenset({"DS", "IS"})


@cache
def tables() -> dict[str, Any]:
    """`attributes.json`."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent.parent / "attributes.json").read_text(encoding="utf-8"))
    return loaded


def attributes(dataset: Dataset, kind: str) -> Iterator[Problem]:
    """All of this module's rules.

    Args:
        kind: of object, as `attributes.json` names it.
    """
    yield from _file_meta(dataset)
    for table in (tables()["common"], tables()[kind]):
        for path in table["1"]:
            yield from (("present", path) for _ in _without(dataset, path, empty_too=True))
        for path in table["2"]:
            yield from (("type2", path) for _ in _without(dataset, path, empty_too=False))
    yield from _conditions(dataset)
    yield from _values(dataset)


def house_attributes(dataset: Dataset) -> Iterator[Problem]:
    """What every object of this node has, beyond what the standard asks for."""
    for keyword in tables()["house"]["1"]:
        if dataset.get(keyword) in (None, ""):
            yield "house-present", keyword
    equipment = dataset.get("ContributingEquipmentSequence") or []
    if not any(item.get("DeviceUID") and item.get("ManufacturerModelName") for item in equipment):
        yield "equipment", "it is not"


def _file_meta(dataset: Dataset) -> Iterator[Problem]:
    meta = dataset.file_meta
    named = (meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID"))
    if named != (dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID")):
        yield "meta", "they differ"


def _without(dataset: Dataset, path: str, *, empty_too: bool) -> Iterator[Dataset]:
    """Items that lack the last attribute of a path; none where the sequences before it are not there."""
    parents, _, keyword = path.rpartition(".")
    for item in items_at(dataset, parents):
        if keyword not in item or (empty_too and item[keyword].is_empty):
            yield item


def _conditions(dataset: Dataset) -> Iterator[Problem]:
    for condition in tables()["conditions"]:
        for item in items_at(dataset, condition.get("in", "")):
            holds = all(
                item.get(keyword) not in (None, "") and (values is None or item.get(keyword) in values)
                for keyword, values in condition["when"].items()
            )
            if holds:
                yield from (
                    ("conditional", keyword) for keyword in condition["then"] if item.get(keyword) in (None, "")
                )


def _values(dataset: Dataset) -> Iterator[Problem]:
    encodings = _encodings(dataset)
    if encodings is None:
        yield "character-set", "it is not one of PS3.3 C.12.1.1.2"
    for element in _elements(dataset):
        copied = element.keyword in COPIED
        if element.VR == "UI" and not all(UID(value).is_valid for value in _values_of(element)):
            yield "uid", element.keyword
        elif element.VR in _CHECKED and not element.is_empty and not _fits(element):
            yield "copied-value" if copied else "value", element.keyword
        is_text = element.VR in _TEXT and not element.is_empty and encodings is not None
        if is_text and ("\ufffd" in str(element.value) or not _can_be_written(element, encodings or [])):
            yield "text", element.keyword
        if isinstance(element.value, bytes) and len(element.value) > LARGEST_ELEMENT:
            yield "size", element.keyword


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """Every element, also nested; of items that recur by the thousand (frames) too."""
    return (element for element in dataset.iterall() if element.VR != "SQ")


def _values_of(element: DataElement) -> list[str]:
    if element.is_empty:
        return []
    return [str(value) for value in (element.value if element.VM > 1 else [element.value])]


def _fits(element: DataElement) -> bool:
    """Whether length and characters are those of the value representation (PS3.5 6.2)."""
    for value in _values_of(element):
        if not value:
            continue
        try:
            validate_value("DS" if element.VR == "DS" else element.VR, value, config.RAISE)
        except (ValueError, OverflowError):
            return False
    return True


def _encodings(dataset: Dataset) -> list[str] | None:
    """Python's names of the Specific Character Set; None where it is unknown."""
    stated = dataset.get("SpecificCharacterSet")
    names = [str(name) for name in stated] if isinstance(stated, MultiValue) else [str(stated or "")]
    known = {"", "ISO_IR 192", "GB18030", "GBK"}
    for name in names:
        plain = name.replace("ISO 2022 IR", "ISO_IR")
        if name not in known and not (plain.startswith("ISO_IR ") and plain.removeprefix("ISO_IR ").isdigit()):
            return None
    try:
        return [str(encoding) for encoding in convert_encodings(names)]
    except (LookupError, ValueError):
        return None


def _can_be_written(element: DataElement, encodings: list[str]) -> bool:
    """Whether each character is in one of the sets: with code extensions a text may need several."""
    text = "\\".join(_values_of(element))
    return text.isascii() or all(any(_has(encoding, character) for encoding in encodings) for character in set(text))


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
