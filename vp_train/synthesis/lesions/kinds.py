"""Kinds of lesions as data (`kinds.json`): where they grow, how large, of which tissues, with which signal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Range = tuple[float, float]
EVERYWHERE: Range = (0.0, 255.0)


@dataclass(frozen=True)
class Material:
    """A tissue.

    Attributes:
        signal: by sequence type, range of the signal relative to the brain around, minus 1.
        enhancement: range of the share by which contrast agent brightens it.
        restricted: bright on DWI and dark on ADC; None where diffusion says nothing (blood, iron).
        kept: share of the underlying variation seen through it.
        grain: range of the texture's amplitude.
    """

    signal: Mapping[str, Range]
    enhancement: Range
    restricted: bool | None
    kept: float
    grain: Range


@dataclass(frozen=True)
class PartKind:
    """A component, present with probability `chance`.

    Attributes:
        mode: `body`; `core`, `rim` or `patch` inside it; `around` it, which does not belong to the lesion's own mask.
        share: range of its volume relative to the lesion's own.
        texture: what the lesion is called where it is present; empty for no change.
    """

    name: str
    mode: str
    material: Material
    share: Range
    chance: float
    texture: str


@dataclass(frozen=True)
class Ground:
    """A part of the anatomy.

    Attributes:
        compartments: of `Place`; `lobes`, `sides`: all where empty.
        dura_mm: depth below the dura; `ventricle_mm`: distance to the lateral ventricles.
        confined: aspects (`territory`) in which a lesion stays where its centre is.
        crosses: it may cross the midline.
    """

    compartments: tuple[str, ...]
    lobes: tuple[str, ...]
    sides: tuple[str, ...]
    dura_mm: Range
    ventricle_mm: Range
    confined: tuple[str, ...]
    crosses: bool


@dataclass(frozen=True)
class Kind:
    """One kind of lesion.

    Attributes:
        structure: name in the ontology.
        later: the kind that it becomes; its own name where it stays.
        compartment: `parenchymal`, `ventricular` or `extra-axial`.
        seed: where its centre lies; `within`: where it grows.
        volume_mm3: of one focus; `foci`: of one lesion; `count`: lesions of this kind in a subject.
        replaces: no healthy tissue is left under it.
        territory: facts name its vascular territory.
    """

    name: str
    structure: str
    weight: float
    stage: str
    later: str
    texture: str
    compartment: str
    seed: Ground
    within: Ground
    volume_mm3: Range
    roughness: Range
    foci: tuple[int, int]
    count: tuple[int, int]
    replaces: bool
    territory: bool
    parts: tuple[PartKind, ...]


@cache
def load_kinds() -> Mapping[str, Kind]:
    """Kinds by name."""
    table = json.loads(files("vp_train.synthesis.lesions").joinpath("kinds.json").read_text(encoding="utf-8"))
    materials = {name: _material(row) for name, row in table["materials"].items()}
    return {name: _kind(name, row, materials) for name, row in table["kinds"].items()}


def _pair(values: Any) -> Range:
    low, high = values
    return float(low), float(high)


def _material(row: Mapping[str, Any]) -> Material:
    signal = {kind: _pair(values) for kind, values in row["signal"].items()}
    restricted = row.get("restricted", False)
    return Material(signal, _pair(row.get("enhancement", (0, 0))), restricted, float(row["kept"]), _pair(row["grain"]))


def _ground(row: Mapping[str, Any]) -> Ground:
    return Ground(
        tuple(row["compartments"]),
        tuple(row.get("lobes", ())),
        tuple(row.get("sides", ())),
        _pair(row.get("dura_mm", EVERYWHERE)),
        _pair(row.get("ventricle_mm", EVERYWHERE)),
        tuple(row.get("confined", ())),
        bool(row.get("crosses", False)),
    )


def _kind(name: str, row: Mapping[str, Any], materials: Mapping[str, Material]) -> Kind:
    parts = tuple(
        PartKind(
            part.get("name", ""),
            part.get("mode", "body"),
            materials[part["material"]],
            _pair(part.get("share", (1, 1))),
            float(part.get("chance", 1)),
            part.get("texture", ""),
        )
        for part in row["parts"]
    )
    foci, count = row.get("foci", (1, 1)), row.get("count", (1, 1))
    return Kind(
        name=name,
        structure=row.get("structure", name),
        weight=float(row["weight"]),
        stage=row.get("stage", ""),
        later=row.get("later", name),
        texture=row.get("texture", ""),
        compartment=row["compartment"],
        seed=_ground(row["seed"]),
        within=_ground(row["within"]),
        volume_mm3=_pair(row["volume_mm3"]),
        roughness=_pair(row["roughness"]),
        foci=(int(foci[0]), int(foci[1])),
        count=(int(count[0]), int(count[1])),
        replaces=bool(row.get("replaces", False)),
        territory=bool(row.get("territory", False)),
        parts=parts,
    )
