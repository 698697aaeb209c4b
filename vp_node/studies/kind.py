"""What kind of image a volume is, whether contrast agent was given and whether it shows the head, with the evidence.

What the scanner wrote comes before what people wrote. The rules and thresholds are data: `data/kinds.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vp_node.studies.body import Head, head_of
from vp_node.studies.grouping import Record

UNKNOWN = "unknown"
_DIFFUSION_B_VALUE = 50.0
_LIMITS = {"te": "echo_time", "tr": "repetition_time", "ti": "inversion_time"}


@dataclass(frozen=True)
class Kind:
    """The verdict on a volume."""

    kind: str
    contrast: str
    """`pre`, `post` or `unknown`."""
    evidence: tuple[str, ...]
    head: Head = "unknown"
    """Whether the head is shown."""


def kind_of(record: Record, b_values: Sequence[float]) -> Kind:
    """The kind of the volume that a frame belongs to.

    Args:
        record: any of its frames.
        b_values: all that its series holds.
    """
    rules = _rules()
    diffusion = any(value > _DIFFUSION_B_VALUE for value in b_values)
    evidence: list[str] = []
    kind = UNKNOWN
    for rule in rules["header"]:
        if _holds(rule, record, diffusion):
            kind = rule["kind"]
            evidence.append(f"{kind}: {rule['because']}{_timing(record)}")
            break
    words = f"{record.header.series_description} {record.header.protocol_name}"
    for rule in rules["description"]:
        match = re.search(rule["pattern"], _spaced(words), re.IGNORECASE)
        if match is None or rule["kind"] == kind:
            continue
        if kind == UNKNOWN or kind in rule["refines"]:
            kind = rule["kind"]
            evidence.append(f"{kind}: the description says {match.group(0).lower()!r}")
            break
    if kind == UNKNOWN:
        evidence.append("unknown: neither the header nor the description fits a rule")
    contrast, why = _contrast(record, words, rules["contrast"])
    head, because = head_of(record.header.body_part, record.header.series_description, record.header.protocol_name)
    return Kind(kind, contrast, (*evidence, why, because), head)


@cache
def known_kinds() -> tuple[str, ...]:
    """Every kind that a volume may be, in alphabetical order, and `unknown`."""
    rules = _rules()
    return (*sorted({rule["kind"] for part in ("header", "description") for rule in rules[part]}), UNKNOWN)


@cache
def _rules() -> Mapping[str, Any]:
    return tomllib.loads((resources.files("vp_node.studies") / "data" / "kinds.toml").read_text(encoding="utf-8"))


def _holds(rule: Mapping[str, Any], record: Record, diffusion: bool) -> bool:
    header, frame = record.header, record.frame
    image_types = {*header.image_type, *frame.image_type}
    sequences = set(header.scanning_sequence)
    checks: dict[str, Callable[[Any], bool]] = {
        "modality": lambda wanted: header.modality == wanted,
        "component": lambda wanted: frame.component == wanted,
        "image_type": lambda wanted: not image_types.isdisjoint(wanted),
        "sequence": lambda wanted: not sequences.isdisjoint(wanted),
        "sequence_all": lambda wanted: sequences.issuperset(wanted),
        "sequence_none": lambda wanted: sequences.isdisjoint(wanted),
        "variant": lambda wanted: not set(header.sequence_variant).isdisjoint(wanted),
        "acquisition_contrast": lambda wanted: frame.acquisition_contrast in wanted,
        "sequence_name": lambda wanted: re.search(wanted, header.sequence_name, re.IGNORECASE) is not None,
        "diffusion": lambda wanted: diffusion == wanted,
    }
    for condition, wanted in rule.items():
        if condition in ("kind", "because"):
            continue
        if condition in checks:
            if not checks[condition](wanted):
                return False
        elif not _within(frame, condition, wanted):
            return False
    return True


def _within(frame: Any, condition: str, limit: float) -> bool:
    name, _, end = condition.partition("_")
    value = getattr(frame, _LIMITS[name])
    if value is None or value <= 0:
        return False
    return bool(value >= limit if end == "min" else value <= limit)


def _timing(record: Record) -> str:
    if record.header.modality != "MR":
        return ""
    said = [
        f"{name.upper()} {getattr(record.frame, field):g} ms"
        for name, field in _LIMITS.items()
        if getattr(record.frame, field)
    ]
    return f" ({', '.join(said)})" if said else ""


def _spaced(words: str) -> str:
    """Underscores part words, as people mean them."""
    return words.replace("_", " ")


def _contrast(record: Record, words: str, rules: Mapping[str, Any]) -> tuple[str, str]:
    agent = record.header.contrast_agent.strip().lower()
    if agent and agent not in rules["no_agent"]:
        return "post", "contrast post: Contrast/Bolus Agent is given"
    if agent:
        return "pre", "contrast pre: Contrast/Bolus Agent says that there was none"
    for verdict in ("pre", "post"):
        match = re.search(rules[verdict], _spaced(words), re.IGNORECASE)
        if match is not None:
            return verdict, f"contrast {verdict}: the description says {match.group(0).lower()!r}"
    return "unknown", "contrast unknown: neither an agent nor a word for it"
