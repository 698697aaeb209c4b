"""What operations work on: the input volumes, the vision network behind its protocol, budgets, and what was found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.imaging.landmarks import Landmarks
from vp_model.ontology import Structure
from vp_model.outcome import InputVolume, Side, Text
from vp_model.program.errors import ProgramError
from vp_model.program.values import DerivedImage, Part, Quantity, Roi, Visit, joined_side

MODULATION_SIZE = 32
"""Length of φ for one volume (paper, A.1)."""


BYTES_PER_FUEL = 16 * 1024**2
"""Bytes worked on for one unit of fuel."""


class Vision(Protocol):
    """The vision network m, as programs see it."""

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Probability (w, h, d) of the named region in each input volume, on that volume's own grid.

        Args:
            name: a region with its side where it has two: `left hippocampus`, `brainstem`.
            volumes: names of input volumes, seen together in one pass.
            modulations: (n, 32), φ of each volume.
        """

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        """ε (n, b): one embedding for each volume."""

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        """Which of some regions fills each voxel of an input volume, on any grid; those that cannot be found are left
        out.
        """


@dataclass(frozen=True)
class Target:
    """What a region's name in a program stands for."""

    structure: str
    """Name in the ontology, without its side."""
    sides: tuple[Side, ...]
    """`("left", "right")` where the name has no side but the structure has two; else one side, or `("",)`."""

    def calls(self) -> tuple[tuple[Side, str], ...]:
        """Each side with the name under which `Vision.segment` is called for it."""
        return tuple(
            (side, f"{side} {self.structure}" if side in ("left", "right") else self.structure) for side in self.sides
        )


@dataclass(frozen=True)
class Limits:
    """Bounds of one run of an environment. All are checked before the work is done."""

    code_length: int = 8_000
    """Characters in one step."""
    depth: int = 16
    """Nesting of expressions and blocks."""
    fuel: int = 20_000
    """Statements, operators and operations, weighted by their cost."""
    integer: int = 10**12
    """Largest magnitude of a number."""
    text: int = 4_000
    """Characters in one text."""
    output: int = 16_000
    """Characters printed in one step."""
    items: int = 2_000
    """Elements in one list."""
    names: int = 256
    """Variables in the environment."""
    result_bytes: int = 4 * 1024**3
    """Bytes that one operation may hold while it works."""
    total_bytes: int = 8 * 1024**3
    """Bytes of voxels that the results of all operations together may keep."""
    given_bytes: int = 2 * 1024**3
    """Bytes of voxels of the masks and images given out."""
    results: int = 1_000
    """Masks, measurements, texts and derived volumes together."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A part of a region that becomes a mask on each of its volumes."""

    roi: Roi
    part: Part


@dataclass(frozen=True)
class Reported:
    """A quantity with the name under which it is reported."""

    name: str
    quantity: Quantity


@dataclass(eq=False)
class Findings:
    """Everything that a program gave out, in the order in which it did."""

    task: str = ""
    refusal: str = ""
    segmented: list[tuple[str, Side]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    texts: list[tuple[Text, tuple[Part, ...]]] = field(default_factory=list)
    saved: list[DerivedImage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.shown) + len(self.reported) + len(self.texts) + len(self.saved)


def with_assembled(segmented: Sequence[tuple[str, Side]], whole: Structure) -> list[tuple[str, Side]]:
    """What was segmented, with a structure in place of the parts that it was put together from."""
    sides = tuple(side for name, side in segmented if name in whole.parts)
    others = [entry for entry in segmented if entry[0] not in whole.parts]
    entry: tuple[str, Side] = (whole.name, joined_side(sides) if whole.paired else "")
    return others if entry in others else [*others, entry]


@dataclass(eq=False)
class State:
    """The part of an environment that operations may read and change."""

    volumes: Mapping[str, InputVolume]
    images: Mapping[str, Image]
    targets: Mapping[str, Target]
    vision: Vision
    limits: Limits
    experimental: Collection[tuple[str, Side]] = ()
    findings: Findings = field(default_factory=Findings)
    encodings: list[NDArray[np.float32]] = field(default_factory=list)
    """ε of this step, for the feedback z."""
    printed: list[str] = field(default_factory=list)
    modulations: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, MODULATION_SIZE), np.float32))
    """φ of this step, (k, 32): row k belongs to the k-th `<MOD>` of its code."""
    transforms: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)
    """Registrations made so far, (fixed, moving) volume → 4×4 RAS mm of moving → fixed."""
    fuel: int = 0
    held: int = 0
    given: int = 0

    def visit(self, volume: InputVolume) -> Visit:
        return Visit(volume.session, volume.visit)

    def burn(self, amount: int) -> None:
        self.fuel -= amount
        if self.fuel < 0:
            raise ProgramError(f"The program does too much: more than {self.limits.fuel} units of work.")

    def reserve(self, size: int, kept: int) -> None:
        """Called before an operation works on `size` bytes, of which at most `kept` stay in its result."""
        if size > self.limits.result_bytes or self.held + kept > self.limits.total_bytes:
            raise ProgramError("The operation would hold too much memory: use a smaller region or margin.")
        self.held += kept
        self.burn(size // BYTES_PER_FUEL)

    def give(self, size: int) -> None:
        """Called before masks or an image of `size` bytes are given out."""
        if self.given + size > self.limits.given_bytes:
            raise ProgramError("The masks and images given out would be too large together: show fewer.")
        self.given += size

    def room(self) -> None:
        """Called before something is given out."""
        if len(self.findings) >= self.limits.results:
            raise ProgramError(f"The program gives out more than {self.limits.results} results.")

    def print(self, text: str) -> None:
        if sum(map(len, self.printed)) + len(text) > self.limits.output:
            raise ProgramError(f"The step prints more than {self.limits.output} characters.")
        self.printed.append(text)


class _Structure(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def paired(self) -> bool: ...


class RegionOntology(Protocol):
    """The part of `vp_model.ontology.Ontology` that is needed here."""

    def resolve(self, term: str, /) -> tuple[Any, Any] | None:
        """`"left hippocampus"` → (structure, side)."""


def region_targets(ontology: RegionOntology, names: Collection[str]) -> dict[str, Target]:
    """The targets of the names that a checkpoint can segment, such as `left hippocampus` and `brainstem`.

    A paired structure of which both sides are among the names can also be asked for without its side.
    ValueError where the ontology does not know a name.
    """
    targets: dict[str, Target] = {}
    sides: dict[str, set[str]] = {}
    for name in names:
        resolved = ontology.resolve(name)
        if resolved is None:
            raise ValueError(f"The ontology does not know the structure {name!r} of this checkpoint.")
        structure, side = resolved
        if structure.paired and side not in ("left", "right"):
            sides.setdefault(structure.name, set()).update(("left", "right"))
        elif structure.paired:
            targets[f"{side} {structure.name}"] = Target(structure.name, (_side(side),))
            sides.setdefault(structure.name, set()).add(side)
        else:
            targets[structure.name] = Target(structure.name, ("",))
    for structure_name, found in sides.items():
        if found == {"left", "right"}:
            targets[structure_name] = Target(structure_name, ("left", "right"))
            targets.setdefault(f"left {structure_name}", Target(structure_name, ("left",)))
            targets.setdefault(f"right {structure_name}", Target(structure_name, ("right",)))
    return targets


def _side(side: str) -> Literal["left", "right"]:
    return "left" if side == "left" else "right"
