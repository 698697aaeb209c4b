"""Corrections by rule: what a site knows of its scanners that their headers say wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vp_node.studies.headers import InstanceHeader
from vp_node.studies.kind import Kind, known_kinds

PATTERNS = ("series_description", "protocol", "manufacturer", "model", "station", "sequence_name")
"""Conditions that are patterns with `*`, `?` and `[…]`, whatever the case."""
BY_RULE = "by the rule"
"""In the words of every correction."""
_HEADER_FIELDS = {"protocol": "protocol_name", "model": "model_name", "station": "station_name"}


class VolumeRule(BaseModel):
    """All conditions that are given must hold; then what is given is corrected. Kept as JSON in the database."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._\-]*$")
    series_description: str = ""
    protocol: str = ""
    manufacturer: str = ""
    model: str = ""
    station: str = ""
    sequence_name: str = ""
    modality: Literal["", "MR", "CT"] = ""
    is_kind: str = ""
    """Only volumes that were taken for this kind."""
    kind: str = ""
    """What such a volume is: one of `known_kinds`."""
    contrast: Literal["", "pre", "post", "unknown"] = ""
    head: Literal["", "yes", "no"] = ""
    """Whether such a volume shows the head."""
    set_aside: str = Field(default="", max_length=200)
    """Why such a volume is not to be used."""

    @field_validator("is_kind", "kind")
    @classmethod
    def _is_known(cls, value: str) -> str:
        names = {name.casefold(): name for name in known_kinds()}
        if value and value.casefold() not in names:
            raise ValueError(f"{value!r} is no kind of volume; the kinds are {', '.join(known_kinds())}")
        return names.get(value.casefold(), value)

    @model_validator(mode="after")
    def _says_something(self) -> VolumeRule:
        if not (self.modality or self.is_kind or any(getattr(self, name) for name in PATTERNS)):
            raise ValueError("a rule needs a condition: without one it would correct every volume")
        if not (self.kind or self.contrast or self.head or self.set_aside):
            raise ValueError("a rule needs a correction: kind, contrast, head or set_aside")
        return self

    def fits(self, header: InstanceHeader, kind: str) -> bool:
        """Whether a volume with this header, taken for this kind, is meant."""
        if self.modality and header.modality != self.modality:
            return False
        if self.is_kind and self.is_kind != kind:
            return False
        return all(
            fnmatchcase(str(getattr(header, _HEADER_FIELDS.get(name, name))).casefold(), pattern.casefold())
            for name in PATTERNS
            if (pattern := getattr(self, name))
        )


def corrected(found: Kind, header: InstanceHeader, rules: Sequence[VolumeRule]) -> tuple[Kind, str]:
    """The kind after the first rule that fits, and why the volume is set aside by it, or an empty text."""
    for rule in rules:
        if not rule.fits(header, found.kind):
            continue
        evidence = list(found.evidence)
        if rule.kind and rule.kind != found.kind:
            evidence.append(f"{rule.kind}: corrected from {found.kind} {BY_RULE} {rule.name!r}")
        if rule.contrast and rule.contrast != found.contrast:
            evidence.append(f"contrast {rule.contrast}: corrected from {found.contrast} {BY_RULE} {rule.name!r}")
        if rule.head and rule.head != found.head:
            evidence.append(f"head {rule.head}: corrected from {found.head} {BY_RULE} {rule.name!r}")
        kind = Kind(rule.kind or found.kind, rule.contrast or found.contrast, tuple(evidence), rule.head or found.head)
        return kind, f"set aside {BY_RULE} {rule.name!r}: {rule.set_aside}" if rule.set_aside else ""
    return found, ""
