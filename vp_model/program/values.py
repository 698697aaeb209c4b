"""The values that a program handles. All are immutable; none has an attribute that a program could reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.imaging.region import Region
from vp_model.outcome import InputVolume, Side

Triple = tuple[float, float, float]


@dataclass(frozen=True, order=True)
class Visit:
    """One session of the volume set."""

    session: int
    date: str
    """ISO date, or `""`."""

    def __str__(self) -> str:
        return self.date or f"session {self.session + 1}"


@dataclass(frozen=True)
class VolumeReference:
    """An input volume; its voxels stay in the environment."""

    volume: InputVolume


@dataclass(frozen=True, eq=False)
class Part:
    """One side of a region in one session: the piece that becomes a mask and that measurements point to."""

    side: Side
    visit: Visit
    volumes: tuple[str, ...]
    """Input volumes of that session on which the region was segmented, in the order of the study."""
    region: Region


@dataclass(frozen=True, eq=False)
class Roi:
    """A region of interest: its parts by side and session, and what it is called."""

    structure: str
    """Name in the ontology, without its side."""
    parts: tuple[Part, ...]
    prefix: str = ""
    """What was done to it, for the reader: `hyperintense part of `."""
    suffix: str = ""
    experimental: bool = False

    @property
    def side(self) -> Side:
        return joined_side(tuple(part.side for part in self.parts))

    @property
    def visits(self) -> tuple[Visit, ...]:
        return tuple(sorted({part.visit for part in self.parts}))

    def label(self, side: Side | None = None) -> str:
        shown = self.side if side is None else side
        name = f"{shown} {self.structure}" if shown in ("left", "right") else self.structure
        return f"{self.prefix}{name}{self.suffix}"

    def __str__(self) -> str:
        return self.label()


class RoiList(list[Roi]):
    """Parts of one region. An empty list still knows what it is of: "no lesion" is a finding about lesions."""

    def __init__(self, rois: Sequence[Roi], origin: Roi) -> None:
        super().__init__(rois)
        self.origin = origin


@dataclass(frozen=True)
class Source:
    """What a quantity was measured on."""

    structure: str = ""
    side: Side = ""
    label: str = ""
    visits: tuple[Visit, ...] = ()
    parts: tuple[Part, ...] = ()
    volumes: tuple[str, ...] = ()
    """Input volumes that gave the value (an intensity)."""
    experimental: bool = False

    def joined(self, other: Source) -> Source:
        """The source of a value made from two: of one structure where both agree, of both otherwise."""
        if not other.parts and not other.structure:
            return self
        if not self.parts and not self.structure:
            return other
        same = self.structure == other.structure
        sides: tuple[Side, ...] = (self.side, other.side)
        return Source(
            structure=self.structure,
            side=joined_side(sides) if same else self.side,
            label=_joined_label(self, other, same),
            visits=tuple(sorted({*self.visits, *other.visits})),
            parts=self.parts + tuple(part for part in other.parts if not any(part is own for own in self.parts)),
            volumes=tuple(dict.fromkeys(self.volumes + other.volumes)),
            experimental=self.experimental or other.experimental,
        )


@dataclass(frozen=True)
class Quantity:
    """A number with its UCUM unit and its provenance; or, where it could not be measured, the reason (`missing`)."""

    value: float
    unit: str
    source: Source = Source()
    points: tuple[Triple, ...] = ()
    """RAS mm: the ends of a length, the corners of a box."""
    missing: str = ""

    def __str__(self) -> str:
        return self.text(".2f")

    def text(self, specification: str) -> str:
        if self.missing:
            return self.missing
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{format(self.value, specification)}{unit}"


@dataclass(frozen=True)
class Point:
    """A position in RAS mm."""

    position: Triple
    source: Source = Source()
    missing: str = ""

    def __str__(self) -> str:
        x, y, z = self.position
        return self.missing or f"({x:.1f}, {y:.1f}, {z:.1f}) mm"


@dataclass(frozen=True, eq=False)
class DerivedImage:
    """An image made from a volume: cropped, with tissue removed, on another grid."""

    operation: str
    source: InputVolume
    image: Image
    roi: Roi | None
    """What it was made around or without; None where no region had a say."""
    missing: str = ""
    """Why there is no image; `image` is then the source."""

    def __str__(self) -> str:
        about = f" {self.roi.label()}" if self.roi is not None else ""
        return self.missing or f"image of {self.source.name}: {self.operation}{about}"


@dataclass(frozen=True, eq=False)
class Encoding:
    """ε: one embedding for each volume encoded, (n, b)."""

    values: NDArray[np.float32]

    def __str__(self) -> str:
        return f"encoding of {len(self.values)} volumes"


Value = (
    Roi
    | VolumeReference
    | Visit
    | Quantity
    | Point
    | DerivedImage
    | Encoding
    | bool
    | int
    | float
    | str
    | Sequence["Value"]
    | None
)


def missing_quantity(reason: str, unit: str, source: Source) -> Quantity:
    return Quantity(math.nan, unit, source, missing=reason)


def joined_side(sides: tuple[Side, ...]) -> Side:
    """`both` where left and right occur, the one side where only one does."""
    found = set(sides)
    if len(found) == 1:
        return next(iter(found))
    if "both" in found or {"left", "right"} <= found:
        return "both"
    return ""


def _joined_label(first: Source, second: Source, same: bool) -> str:
    if first.label == second.label:
        return first.label
    if same and joined_side((first.side, second.side)) == "both":
        return first.structure
    return f"{first.label} and {second.label}"
