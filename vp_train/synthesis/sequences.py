"""Which images a study holds: sequences with their geometries, and plausible protocols (`sequences.json`)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scan_geometries import ScanGeometry, load_scan_geometries


@dataclass(frozen=True)
class Sequence:
    """One image of a protocol.

    Attributes:
        name: in `sequences.json`; `kind` what α is told of it (`vp_train.tasks.scene.KINDS`).
        orientations: how often its slices are axial, sagittal, coronal.
        same_grid_as: name of the sequence whose grid it shares where both are in a session; empty for none.
    """

    name: str
    kind: str
    geometry: ScanGeometry
    orientations: Mapping[str, float]
    same_grid_as: str = ""

    def draw_orientation(self, chance: Chance) -> str:
        names = list(self.orientations)
        return names[chance.choice([self.orientations[name] for name in names])]


@dataclass(frozen=True)
class Protocol:
    """What is acquired together: each step has a probability and alternatives, an alternative one or more sequences."""

    name: str
    share: float
    steps: tuple[tuple[tuple[tuple[str, ...], ...], float], ...]

    def draw(self, chance: Chance) -> tuple[str, ...]:
        """Names of the sequences, in order, at least one."""
        while True:
            chosen: list[str] = []
            for alternatives, probability in self.steps:
                if chance.happens(probability):
                    chosen += alternatives[chance.integer(len(alternatives))]
            if chosen:
                return tuple(chosen)


@dataclass(frozen=True)
class Tilts:
    """How slices lie to the axes of the head.

    Attributes:
        share: of images that are tilted; `degrees` standard deviation by the axis turned about: `sagittal` (nodding, as
            slices are laid along a line of the base of the skull) or `other`.
        gantry_share: of CT whose slices are sheared, by `gantry_degrees` (low, high).
    """

    share: float
    degrees: Mapping[str, float]
    gantry_share: float
    gantry_degrees: tuple[float, float]


@dataclass(frozen=True)
class SequenceTable:
    sequences: Mapping[str, Sequence]
    protocols: tuple[Protocol, ...]
    tilts: Tilts
    b_values: tuple[float, ...]
    """s/mm², of diffusion weighting; as often as they stand here."""

    def draw_protocol(self, chance: Chance) -> Protocol:
        return self.protocols[chance.choice([protocol.share for protocol in self.protocols])]

    def limited_to(self, names: Collection[str]) -> SequenceTable:
        """With the protocols of these names; all of them where no name is given.

        Raises:
            ValueError: there is none of such a name.
        """
        if not names:
            return self
        chosen = tuple(protocol for protocol in self.protocols if protocol.name in names)
        if len(chosen) < len(set(names)):
            raise ValueError(f"Not all of {sorted(names)} are protocols.")
        return replace(self, protocols=chosen)


@cache
def load_sequences() -> SequenceTable:
    table = json.loads(files("vp_train.synthesis").joinpath("sequences.json").read_text(encoding="utf-8"))
    rows = load_scan_geometries().rows
    sequences = {
        name: Sequence(
            name,
            entry["kind"],
            rows[entry["geometry"]],
            table["orientations"][entry["orientation"]],
            table["same_grid_as"].get(name, ""),
        )
        for name, entry in table["sequences"].items()
    }
    protocols = tuple(
        Protocol(name, float(entry["share"]), tuple(_step(text, odds) for text, odds in entry["steps"].items()))
        for name, entry in table["protocols"].items()
    )
    tilts = table["tilts"]
    gantry = tilts["gantry"]
    return SequenceTable(
        sequences,
        protocols,
        Tilts(tilts["share"], tilts["degrees"], gantry["share"], tuple(gantry["degrees"])),
        tuple(float(value) for value in table["b_values_s_per_mm2"]),
    )


def _step(text: str, probability: float) -> tuple[tuple[tuple[str, ...], ...], float]:
    """`A | B & C`: either A, or B and C."""
    return tuple(tuple(option.split(" & ")) for option in text.split(" | ")), float(probability)
