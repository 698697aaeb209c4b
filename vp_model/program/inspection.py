"""What a program would do, read from its text: for plans and dry runs, without images."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from vp_model.ontology import load_ontology
from vp_model.outcome import Side
from vp_model.program.checker import Known, check
from vp_model.program.parser import parse
from vp_model.program.state import Target, with_assembled


@dataclass(frozen=True)
class Inspection:
    """The parts of a program that a person asks about first."""

    task: str
    refusal: str
    """Reason of the first `refuse`, wherever it stands; `""` where there is none."""
    structures: tuple[tuple[str, Side], ...]
    """Structures that it segments, or puts together, with their side, in order, each once."""
    volumes: tuple[str, ...]
    """Volumes that it gives to the vision network, in order, each once."""


def inspect_program(code: str, known: Known, targets: Mapping[str, Target]) -> Inspection:
    """Checks a whole program and says what it would do.

    Args:
        code: all steps as one text.
        known: what it may refer to (`vp_model.program.environment.initial_known`).
        targets: what each name that `segment` takes stands for.

    Raises:
        ProgramError: it does not parse, or calls what does not exist.
    """
    statements = parse(code)
    check(statements, known)
    task, refusal = "", ""
    structures: dict[tuple[str, Side], None] = {}
    volumes: dict[str, None] = {}
    for call in _calls(statements):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        first = call.args[0] if call.args else None
        text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
        if name == "task":
            task = task or text
        elif name == "refuse":
            refusal = refusal or text
        elif name == "segment":
            target = targets[text]
            structures[target.structure, target.sides[0] if len(target.sides) == 1 else "both"] = None
        elif name == "assemble":
            structures = dict.fromkeys(with_assembled(list(structures), load_ontology().structures[text]))
        for argument in call.args:
            if isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.MatMult):
                volumes[ast.unparse(argument.left)] = None
    return Inspection(task, refusal, tuple(structures), tuple(volumes))


def _calls(statements: list[ast.stmt]) -> list[ast.Call]:
    """All calls, in the order of the text."""
    found = [node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))
