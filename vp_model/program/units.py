"""Units of a program before it runs: what each quantity will be in, and what cannot be added, compared or reported.

The unit of a quantity follows from the operation that measures it. Intensities have the unit of their image, which is
told only when the program runs: they are a class of their own here (`INTENSITY`). Where a name may have several units
(two branches) nothing is known, and the run decides.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from vp_model.program.errors import ProgramError
from vp_model.program.operations import OPERATIONS
from vp_model.program.types import Operation, Type
from vp_model.program.values import Quantity, Value
from vp_model.program.vocabulary import UNIT_KINDS, measurement_names

INTENSITY = "intensity"
NO_UNIT = "1"
HOUNSFIELD = "[hnsf'U]"
PAIRED = ("asymmetry", "percent_change", "percent_of", "ratio")
"""Operations on two quantities of one unit."""
OF_CHANGE = "change"

Units = Mapping[str, str]
"""Unit of each name that holds a quantity, or a list of them, where it is known."""


def operation_unit(operation: Operation) -> str | None:
    """Unit of an operation's result where it is always the same; None for per_year and in_unit."""
    if operation.unit:
        return operation.unit
    if operation.result is Type.QUANTITY and any(p.types == (Type.VOLUME,) for p in operation.parameters):
        return INTENSITY
    return None


def yearly(unit: str) -> str:
    return f"{unit}/a" if unit != NO_UNIT else "/a"


def report_units(name: str) -> tuple[str, ...]:
    """The units in which a measurement is reported; empty: any."""
    return measurement_names()[name].units


def unit_of_value(value: Value) -> str | None:
    """The unit of a value after a step. A plain number measured on an image may be an intensity or a ratio."""
    if isinstance(value, list):
        return unit_of_value(value[0]) if value else None
    if not isinstance(value, Quantity):
        return None
    if value.unit == HOUNSFIELD:
        return INTENSITY
    return None if value.unit == NO_UNIT and value.source.volumes else value.unit


def units_after(statements: Sequence[ast.stmt], units: Units, sessions: int = 0) -> dict[str, str]:
    """The units of names after statements that pass the type check.

    Args:
        units: of the names before.
        sessions: how many sessions the volumes are of; 0: not known.

    Raises:
        ProgramError: two units that do not fit, or a change over time where there is one session.
    """
    found = dict(units)
    for statement in statements:
        try:
            _statement(statement, found, sessions)
        except ProgramError as error:
            raise error.at(statement.lineno) from None
    return found


def units_inside(node: ast.If | ast.For, units: Units) -> dict[str, str]:
    """The units of names where a block begins: a loop's own name has that of its list.

    What a later line of a loop changes is not known yet when its first is written: the whole is checked again.
    """
    found = dict(units)
    if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
        _set(found, node.target.id, _unit(node.iter, units, 0))
    return found


def _statement(node: ast.stmt, units: dict[str, str], sessions: int) -> None:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        _set(units, node.targets[0].id, _unit(node.value, units, sessions))
    elif isinstance(node, ast.Expr):
        _unit(node.value, units, sessions)
    elif isinstance(node, ast.If):
        _unit(node.test, units, sessions)
        ends = [units_after(branch, units, sessions) for branch in (node.body, node.orelse)]
        units.clear()
        units.update({name: unit for name, unit in ends[0].items() if ends[1].get(name) == unit})
    elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
        inside = dict(units)
        _set(inside, node.target.id, _unit(node.iter, units, sessions))
        for _ in range(2):  # a second round meets what the first has changed
            after = units_after(node.body, inside, sessions)
            inside = {name: unit for name, unit in inside.items() if after.get(name) == unit}
        for name in list(units):
            if inside.get(name) != units[name]:
                del units[name]


def _set(units: dict[str, str], name: str, unit: str | None) -> None:
    if unit is None:
        units.pop(name, None)
    else:
        units[name] = unit


def _unit(node: ast.expr, units: Units, sessions: int) -> str | None:
    """The unit of an expression; None where it has none or is not known."""
    if isinstance(node, ast.Name):
        return units.get(node.id)
    if isinstance(node, ast.Constant):
        return NO_UNIT if isinstance(node.value, int | float) and not isinstance(node.value, bool) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OPERATIONS:
        return _call(OPERATIONS[node.func.id], node.args, units, sessions)
    if isinstance(node, ast.Subscript):
        return _unit(node.value, units, sessions)
    if isinstance(node, ast.UnaryOp):
        return _unit(node.operand, units, sessions)
    if isinstance(node, ast.BinOp):
        return _arithmetic(node, units, sessions)
    if isinstance(node, ast.Compare):
        sides = [(side, _unit(side, units, sessions)) for side in (node.left, node.comparators[0])]
        numbers = any(isinstance(side, ast.Constant) for side, _ in sides)
        if not numbers:
            _same(sides[0][1], sides[1][1], "compared")
        return None
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _unit(child, units, sessions)
    return None


def _arithmetic(node: ast.BinOp, units: Units, sessions: int) -> str | None:
    if isinstance(node.op, ast.MatMult):
        return None
    left, right = _unit(node.left, units, sessions), _unit(node.right, units, sessions)
    if isinstance(node.op, ast.Add | ast.Sub):
        _same(left, right, "added or subtracted")
        return left if left == right else None
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Mult):
        if NO_UNIT not in (left, right) and INTENSITY not in (left, right):
            raise ProgramError(f"{left} and {right} cannot be multiplied.")
        return right if left == NO_UNIT else left
    if left == right:
        return NO_UNIT
    if right not in (NO_UNIT, INTENSITY) and left != INTENSITY:
        raise ProgramError(f"{left} cannot be divided by {right}.")
    return left if right == NO_UNIT else None


def _same(left: str | None, right: str | None, done: str) -> None:
    """An intensity of MR has no unit: against a plain number only the run can tell."""
    if left is None or right is None or left == right or {left, right} == {INTENSITY, NO_UNIT}:
        return
    raise ProgramError(f"{_spoken(left)} and {_spoken(right)} cannot be {done}.")


def _spoken(unit: str) -> str:
    if unit == NO_UNIT:
        return "A number without a unit"
    return "An intensity" if unit == INTENSITY else f"A quantity in {unit}"


def _call(operation: Operation, arguments: Sequence[ast.expr], units: Units, sessions: int) -> str | None:
    name = operation.name
    found = [_unit(argument, units, sessions) for argument in arguments]
    literals = [argument.value if isinstance(argument, ast.Constant) else None for argument in arguments]
    if name in PAIRED:
        _same(found[0], found[1], "compared")
        return operation.unit
    if name == "per_year":
        return None if found[0] is None else yearly(found[0])
    if name == "in_unit":
        target = str(literals[1])
        if found[0] is not None and UNIT_KINDS.get(found[0]) != UNIT_KINDS[target]:
            raise ProgramError(f"{_spoken(found[0])} cannot be written in {target}.")
        return target
    if name == "report":
        _report(str(literals[0]), found[1], sessions)
        return None
    for parameter, unit in zip(operation.parameters, found, strict=False):
        if parameter.name == "threshold" and unit not in (None, INTENSITY, NO_UNIT):
            raise ProgramError(f"{name}: the threshold is an intensity, not a quantity in {unit}.")
    return operation_unit(operation)


def _report(name: str, unit: str | None, sessions: int) -> None:
    entry = measurement_names()[name]
    if entry.sessions > 1 and sessions == 1:
        raise ProgramError(f'report("{name}") compares sessions, but all volumes are of one session.')
    if not entry.units or unit is None or unit in entry.units:
        return
    if unit == INTENSITY and NO_UNIT in entry.units:
        return
    wanted = " or ".join(entry.units)
    raise ProgramError(f'report("{name}") takes a quantity in {wanted}, not {_spoken(unit).lower()}.')
