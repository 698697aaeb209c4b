"""Codes that exist: identifiers with a right check digit, units that are UCUM, one meaning for each code, private
schemes that are identified."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts

from vp_node.results.codes import UNIT_MEANINGS
from vp_node.results.rules.problems import Problem

_UNIT = re.compile(
    r"^(?:1|\[hnsf'U\]|\{[^{}\s]+\}|"
    r"(?:(?:Y|Z|E|P|T|G|M|k|h|da|d|c|m|u|n|p|f|a|z|y)?(?:m|g|s|l|L|Hz|Bq|Gy|Sv|Pa|J|W|V|A|K|mol|cd|rad|sr|N|C|F|T|H|Ohm)"
    r"|%|deg|a|mo|wk|d|h|min|Cel|\[arb'U\]|10\*-?\d+)-?[1-4]?(?:\{[^{}\s]+\})?"
    r"(?:[./](?:\{[^{}\s]+\}|(?:(?:k|h|da|d|c|m|u|n|p)?(?:m|g|s|l|L|mol|Hz|Bq|J|W|V|A|K)|a|mo|wk|d|h|min|%|1|10\*-?\d+)"
    r"-?[1-4]?(?:\{[^{}\s]+\})?))*)$"
)
"""UCUM's terms as images need them: a prefix, a unit, an exponent, products and quotients."""

_MULTIPLY = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTE = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870",
    "4286573901", "2793806415", "7046913258",
)  # fmt: skip
"""Verhoeff's dihedral check (SNOMED CT Release File Specification, 6.2: the last digit of an SCTID)."""


def codes(dataset: Dataset) -> Iterator[Problem]:
    meanings: dict[tuple[str, str], str] = {}
    identified = {
        str(item.get("CodingSchemeDesignator")) for item in dataset.get("CodingSchemeIdentificationSequence") or []
    }
    for item in _coded_items(dataset):
        value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "")
        scheme, meaning = str(item.get("CodingSchemeDesignator") or ""), str(item.get("CodeMeaning") or "")
        if not value or not meaning or (not scheme and "URNCodeValue" not in item):
            yield "code-complete", value or meaning or "an empty one"
            continue
        if "CodeValue" in item and len(value) > 16:
            yield "code-length", value
        if meanings.setdefault((value, scheme), meaning) != meaning:
            yield "code-meaning", f"{value} ({scheme})"
        yield from _exists(value, scheme)
        if scheme.startswith("99") and scheme not in identified:
            yield "code-scheme", scheme


def _coded_items(dataset: Dataset) -> Iterator[Dataset]:
    """Items of the Code Sequence Macro (PS3.3 8.8), however deep."""
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            if (
                "CodeValue" in item
                or "LongCodeValue" in item
                or "URNCodeValue" in item
                or (
                    element.keyword.endswith("CodeSequence")
                    and element.keyword != "MappingResourceIdentificationSequence"
                )
            ):
                yield item
            yield from _coded_items(item)


def _exists(value: str, scheme: str) -> Iterator[Problem]:
    if scheme == "SCT" and not is_snomed_identifier(value):
        yield "code-exists", f"{value} (SCT)"
    elif scheme == "UCUM" and not is_unit(value):
        yield "code-exists", f"{value} (UCUM)"
    elif scheme == "DCM" and value not in _known("DCM"):
        yield "code-unknown", f"{value} (DCM)"


@cache
def _known(scheme: str) -> frozenset[str]:
    """Code values in pydicom's dictionary of PS3.16's context groups."""
    known: Mapping[str, Any] = concepts[scheme]
    return frozenset(value for entry in known.values() for value in entry)


def is_snomed_identifier(value: str) -> bool:
    """Six to eighteen digits, the last of them Verhoeff's check digit."""
    if not (value.isascii() and value.isdigit() and 6 <= len(value) <= 18 and value[0] != "0"):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = int(_MULTIPLY[check][int(_PERMUTE[place % 8][int(digit)])])
    return check == 0


def is_unit(value: str) -> bool:
    return value in UNIT_MEANINGS or value in _known("UCUM") or bool(_UNIT.match(value))
