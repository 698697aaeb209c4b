"""The persistent environment of a prompt: volumes, names, the vision network, and what the program found so far.

α writes a step, `ProgramEnvironment.step` runs it, and what it printed (z) and encoded (ε) goes back to α (paper,
section 3.1 and A.2). `build_outcome` in `vp_model.program.results` makes the outcome of what was found.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.outcome import InputVolume, Side
from vp_model.program.checker import Known, check
from vp_model.program.effects import Refused
from vp_model.program.errors import ProgramError
from vp_model.program.evaluator import Evaluator
from vp_model.program.parser import marker_count, parse
from vp_model.program.state import (
    MODULATION_SIZE,
    Findings,
    Limits,
    RegionOntology,
    State,
    Target,
    Vision,
    region_targets,
)
from vp_model.program.types import Type, type_of
from vp_model.program.units import unit_of_value
from vp_model.program.values import Value, VolumeReference

__all__ = [
    "MODULATION_SIZE",
    "Limits",
    "ProgramEnvironment",
    "RegionOntology",
    "StepResult",
    "Target",
    "Vision",
    "initial_known",
    "region_targets",
]


@dataclass(frozen=True, eq=False)
class StepResult:
    """What running one step gave."""

    output: str
    """Printed text, a line for each `print`."""
    error: str
    """Why the step stopped, with its line; `""` where it ran to its end."""
    encodings: tuple[NDArray[np.float32], ...] = field(default=())
    """ε of each `encode`, (n, b), in order."""
    refused: bool = False
    """The step refused: nothing more is to be run."""


def initial_known(volumes: Sequence[InputVolume], targets: Collection[str]) -> Known:
    """What a program may refer to before its first step. Needs no images: a plan is checked with it."""
    dates = {volume.visit for volume in volumes if volume.visit}
    sessions = len({volume.session for volume in volumes})
    names = {volume.name: Type.VOLUME for volume in volumes}
    return Known(names, frozenset(targets), tuple(sorted(dates)), sessions=sessions)


class ProgramEnvironment:
    """Variables that persist across the steps of one prompt."""

    def __init__(
        self,
        volumes: Sequence[InputVolume],
        images: Mapping[str, Image],
        vision: Vision,
        targets: Mapping[str, Target],
        experimental: Collection[tuple[str, Side]] = (),
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            volumes: the inputs, in the order in which the study gave them; each becomes a variable of its name.
            images: voxels (w, h, d) in stored units and world matrix of each volume, by name.
            vision: the network.
            targets: what each name that `segment` may take stands for (see `region_targets`).
            experimental: structures with their side that the model card offers with a warning only.
            limits: bounds of the run.
        """
        missing = [volume.name for volume in volumes if volume.name not in images]
        if missing:
            raise ValueError(f"There are no voxels for {', '.join(missing)}.")
        self.state = State(
            volumes={volume.name: volume for volume in volumes},
            images=images,
            targets=targets,
            vision=vision,
            limits=limits or Limits(),
            experimental=frozenset(experimental),
        )
        self.state.fuel = self.state.limits.fuel
        self.types: dict[str, Type] = {volume.name: Type.VOLUME for volume in volumes}
        self.values: dict[str, Value] = {volume.name: VolumeReference(volume) for volume in volumes}

    @property
    def findings(self) -> Findings:
        return self.state.findings

    @property
    def known(self) -> Known:
        """Names defined so far, with their types, the regions that can be segmented and the dates of the volumes."""
        found = initial_known(list(self.state.volumes.values()), self.state.targets)
        units = {name: unit for name, value in self.values.items() if (unit := unit_of_value(value)) is not None}
        return replace(found, names=dict(self.types), units=units)

    def check(self, code: str) -> dict[str, Type]:
        """The names that a step would define. ProgramError where it cannot run; nothing is run."""
        return check(parse(code, self.state.limits), self.known)

    def step(self, code: str, modulations: NDArray[np.float32] | None = None) -> StepResult:
        """Runs one step.

        Args:
            code: what α wrote, with its `<MOD>` markers.
            modulations: (k, 32), φ of the k-th marker in row k. None: zeros.

        Returns:
            What it printed and encoded. A program's mistake is in `error`; names that it had defined before remain.
            Failures of the vision network are not the program's and are raised as they are.
        """
        state = self.state
        state.printed, state.encodings = [], []
        count = marker_count(code)
        state.modulations = np.zeros((count, MODULATION_SIZE), np.float32) if modulations is None else modulations
        error, refused = "", False
        if state.findings.refusal:
            return StepResult("", "The program has refused: nothing more is run.", refused=True)
        try:
            if len(state.modulations) != count:
                raise ProgramError(f"The step has {count} <MOD>, but {len(state.modulations)} modulations were given.")
            statements = parse(code, state.limits)
            new = check(statements, self.known)
            self._run(statements, new)
        except Refused:
            refused = True
        except ProgramError as problem:
            error = str(problem)
        return StepResult("\n".join(state.printed), error, tuple(state.encodings), refused)

    def _run(self, statements: list[ast.stmt], new: Mapping[str, Type]) -> None:
        evaluator = Evaluator(self.values, self.state)
        try:
            evaluator.run(statements)
        finally:
            self._settle(new)

    def _settle(self, new: Mapping[str, Type]) -> None:
        """Types of the names after a step, also after one that stopped half-way.

        What a block defined ends with the step: the checker knows it nowhere else.
        """
        for name in list(self.values):
            expected = [kinds[name] for kinds in (new, self.types) if name in kinds]
            value = self.values[name]
            fitting = [kind for kind in expected if type_of(value) is kind or (value == [] and kind.element)]
            if fitting:
                self.types[name] = fitting[0]
            else:
                del self.values[name]
                self.types.pop(name, None)
