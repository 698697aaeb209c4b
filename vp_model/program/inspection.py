"""What a program would do, read from its text: for plans and dry runs, without images."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from vp_model.ontology import load_ontology
from vp_model.outcome import Side
from vp_model.program.checker import Known, check
from vp_model.program.parser import parse
from vp_model.program.places import all_places
from vp_model.program.state import Target, with_assembled

SAY_WHERE = frozenset({"lobe_of", "territory_of"})


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
    shown: tuple[frozenset[str], ...] = ()
    """Of each region that it shows, the structures that it was made of; those of earlier steps are not known."""
    lobes: frozenset[str] = frozenset()
    """Places, without sides, by which it chooses; of a program that says where something lies, all of them."""


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
    chosen: set[str] = set()
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
        elif name == "in_lobe":
            chosen.update(ast.unparse(argument)[1:-1] for argument in call.args[1:])
        elif name in SAY_WHERE:
            chosen.update(all_places())
        for argument in call.args:
            if isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.MatMult):
                volumes[ast.unparse(argument.left)] = None
    places = frozenset(place.removeprefix("left ").removeprefix("right ") for place in chosen)
    return Inspection(task, refusal, tuple(structures), tuple(volumes), tuple(_shown(statements, targets)), places)


def _shown(statements: list[ast.stmt], targets: Mapping[str, Target]) -> list[frozenset[str]]:
    """What the arguments of `show` were made of, by following the names of regions from line to line."""
    made: dict[str, frozenset[str]] = {}
    shown: list[frozenset[str]] = []
    nodes = [node for statement in statements for node in ast.walk(statement)]
    lines = sorted((node for node in nodes if isinstance(node, ast.Assign | ast.Expr)), key=lambda node: node.lineno)
    for node in lines:
        value = node.value
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            made[node.targets[0].id] = _made_of(value, made, targets)
        elif isinstance(value, ast.Call) and ast.unparse(value.func) == "show":
            shown.append(_made_of(value.args[0], made, targets))
    return shown


def _made_of(node: ast.expr, made: Mapping[str, frozenset[str]], targets: Mapping[str, Target]) -> frozenset[str]:
    if isinstance(node, ast.Name):
        return made.get(node.id, frozenset())
    if not isinstance(node, ast.Call):
        return frozenset()
    name, first = ast.unparse(node.func), node.args[0] if node.args else None
    if name in ("segment", "assemble") and isinstance(first, ast.Constant):
        return frozenset({targets[str(first.value)].structure if name == "segment" else str(first.value)})
    return frozenset().union(*(_made_of(argument, made, targets) for argument in node.args))


def _calls(statements: list[ast.stmt]) -> list[ast.Call]:
    """All calls, in the order of the text."""
    found = [node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))
