"""The closed word lists of the language: task categories, reasons to refuse, measurement names, limits of size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from vp_model.ontology import load_ontology

TASKS = (
    "segmentation",
    "volume analysis",
    "volume change",
    "volume comparison",
    "relative volume analysis",
    "extent analysis",
    "extent change",
    "center of mass",
    "intensity analysis",
    "intensity comparison",
    "intensity change",
    "location",
    "enhancement",
    "diffusion restriction",
    "signal intensity",
    "image cropping",
    "tissue removal",
)
"""The task categories of Table 1 of the paper, in its order."""

ANSWER_TOPICS = ("location", "enhancement", "diffusion restriction", "signal intensity")
"""Tasks whose answer is words (`Text.topic`)."""

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "unknown structure": "The prompt names a structure that this model has not learned to find.",
        "not a brain question": "The prompt does not ask for something that can be measured or shown on a brain image.",
        "missing session": "The prompt compares sessions, but the study does not hold the sessions that it needs.",
        "missing image": "The prompt needs a kind of image that is not among the volumes given.",
        "not understood": "The prompt was not understood.",
    }
)
"""Reasons to refuse, and what is told to the person who asked."""

AXES = ("left-right", "anterior-posterior", "superior-inferior")
PLANES = ("axial", "coronal", "sagittal")
DIRECTIONS = ("left", "right", "anterior", "posterior", "superior", "inferior")
ORIENTATIONS = ("RAS", "LPS", "LAS", "RPS", "LPI", "RAI", "RSA", "ASR", "PSR", "LIP")
"""The orders of axes that programs ask for; the library turns to all 48."""
UNIT_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "ml": "volume",
        "mm3": "volume",
        "cm3": "volume",
        "l": "volume",
        "mm": "length",
        "cm": "length",
        "mm2": "area",
        "cm2": "area",
    }
)
"""UCUM units that `in_unit` converts between, and what they measure."""
UNITS = tuple(UNIT_KINDS)
FORMATS = (".0f", ".1f", ".2f", ".3f")
"""Format specifications that an f-string may use."""


@dataclass(frozen=True)
class MeasurementName:
    """One name that `report` takes."""

    name: str
    meaning: str
    units: tuple[str, ...]
    """UCUM units that a quantity of this name may have; empty: any (intensities)."""
    kind: str
    """`quantity`, `point`, or `box` (three quantities)."""
    parts: tuple[str, ...]
    """For a point or a box: the names under which its three numbers are written."""
    sessions: int
    """How many sessions it takes: 2 for a change over time."""
    code: tuple[str, str, str] | None
    """DICOM code hint: value, scheme, meaning. Where None the results choose a private code."""


@cache
def measurement_names() -> Mapping[str, MeasurementName]:
    """`measurements.json` by name, in the file's order."""
    text = (Path(__file__).parent / "measurements.json").read_text(encoding="utf-8")
    names = {}
    for name, entry in json.loads(text).items():
        names[name] = MeasurementName(
            name=name,
            meaning=entry["meaning"],
            units=tuple(entry["units"]),
            kind=entry["kind"],
            parts=tuple(entry.get("parts", ())),
            sessions=entry.get("sessions", 1),
            code=tuple(entry["code"]) if entry["code"] else None,
        )
    return MappingProxyType(names)


def reportable_names() -> dict[str, str]:
    """The names that a program may give to `report`, with their kind."""
    return {name: entry.kind for name, entry in measurement_names().items() if entry.kind != "part"}


@cache
def assembled_names() -> tuple[str, ...]:
    """Structures that are put together from their parts."""
    return tuple(sorted(structure.name for structure in load_ontology().structures.values() if structure.parts))
