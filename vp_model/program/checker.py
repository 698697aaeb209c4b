"""Types of a program, before it runs: which names it defines, and that it calls only what exists as it must be."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vp_model.program.errors import ProgramError
from vp_model.program.operations import OPERATIONS
from vp_model.program.types import Operation, Parameter, Type
from vp_model.program.units import units_after

KEYWORDS = ("if", "else", "for", "in", "and", "or", "not", "True", "False", "pass", "elif")
ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_NUMERIC = (Type.NUMBER, Type.QUANTITY)
_COMPARABLE = (Type.TEXT, Type.VISIT, Type.BOOLEAN)


@dataclass(frozen=True)
class Known:
    """What a program may refer to."""

    names: Mapping[str, Type]
    regions: frozenset[str]
    """Names that `segment` takes."""
    dates: tuple[str, ...] = ()
    """Dates that `visit` takes."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of the names that hold quantities, where it is known (`vp_model.program.units`)."""
    sessions: int = 0
    """Sessions that the volumes are of; 0: not known."""
    together: tuple[str, ...] = ()
    """The volumes that are written wherever m is called, while a program is written; empty: any of them."""


def check(statements: list[ast.stmt], known: Known) -> dict[str, Type]:
    """The names that the statements define, with their types, in addition to those known.

    Raises:
        ProgramError: something is called, or named, that does not exist or does not fit.
    """
    names = dict(known.names)
    for statement in statements:
        _statement(statement, names, known, nested=False)
    units_after(statements, known.units, known.sessions)
    return {name: kind for name, kind in names.items() if known.names.get(name) is not kind}


def check_block(statements: list[ast.stmt], known: Known) -> dict[str, Type]:
    """As `check`, for statements inside a block, where a name keeps its type."""
    names = dict(known.names)
    for statement in statements:
        _statement(statement, names, known, nested=True)
    units_after(statements, known.units, known.sessions)
    return {name: kind for name, kind in names.items() if known.names.get(name) is not kind}


def check_header(statement: ast.If | ast.For, known: Known) -> dict[str, Type]:
    """Checks the first line of a block, and gives the names that exist inside it beyond those known: a loop's own.

    A loop's name that was known before keeps its type: after the loop it still has it.
    """
    try:
        if isinstance(statement, ast.If):
            _condition(statement.test, known.names, known)
            return {}
        element = _expression(statement.iter, known.names, known).element
        if element is None or not isinstance(statement.target, ast.Name):
            raise ProgramError("A loop runs over a list.")
        names = dict(known.names)
        _define(statement.target.id, element, names, nested=True)
        return {statement.target.id: element}
    except ProgramError as error:
        raise error.at(statement.lineno) from None


def _statement(node: ast.stmt, names: dict[str, Type], known: Known, nested: bool) -> None:
    try:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            kind = _expression(node.value, names, known)
            if kind is Type.NOTHING:
                raise ProgramError("This operation returns nothing to assign.")
            _define(node.targets[0].id, kind, names, nested)
        elif isinstance(node, ast.Expr):
            _expression(node.value, names, known)
        elif isinstance(node, ast.If):
            check_header(node, replace(known, names=names))
            inside, otherwise = dict(names), dict(names)
            for child in node.body:
                _statement(child, inside, known, nested=True)
            for child in node.orelse:
                _statement(child, otherwise, known, nested=True)
            if node.orelse:  # a name that both branches define exists after them
                names.update({name: kind for name, kind in inside.items() if otherwise.get(name) is kind})
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            inside = {**names, **check_header(node, replace(known, names=names))}
            for child in node.body:
                _statement(child, inside, known, nested=True)
    except ProgramError as error:
        raise error.at(node.lineno) from None


def _define(name: str, kind: Type, names: dict[str, Type], nested: bool) -> None:
    if name in OPERATIONS:
        raise ProgramError(f"{name} is an operation: choose another name.")
    if names.get(name) is Type.VOLUME:
        raise ProgramError(f"{name} is a volume: choose another name.")
    if nested and names.get(name, kind) is not kind:
        raise ProgramError(f"{name} is a {names[name]}: inside a block it cannot become a {kind}.")
    names[name] = kind


def _expression(node: ast.expr, names: Mapping[str, Type], known: Known) -> Type:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            return Type.BOOLEAN
        return Type.TEXT if isinstance(node.value, str) else Type.NUMBER
    if isinstance(node, ast.Name):
        return _name(node.id, names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id, names, known)
    if isinstance(node, ast.Subscript):
        element = _expression(node.value, names, known).element
        if element is None:
            raise ProgramError("Only a list has an index.")
        return element
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                _formatted(part, names, known)
        return Type.TEXT
    if isinstance(node, ast.BinOp):
        return _arithmetic(node, names, known)
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
        kind = _expression(node.operand, names, known)
        if kind not in _NUMERIC:
            raise ProgramError(f"A sign stands before a number or quantity, not a {kind}.")
        return kind
    _condition(node, names, known)
    return Type.BOOLEAN


def _name(name: str, names: Mapping[str, Type]) -> Type:
    if name in names:
        return names[name]
    if name in OPERATIONS:
        raise ProgramError(f"{name} is an operation and must be called: {name}(...).")
    raise ProgramError(f"{name} is not defined. These names are: {', '.join(sorted(names)) or 'none'}.")


def _formatted(node: ast.FormattedValue, names: Mapping[str, Type], known: Known) -> None:
    kind = _expression(node.value, names, known)
    if kind is Type.NOTHING:
        raise ProgramError("This operation returns nothing to write.")
    if node.format_spec is not None and kind not in (*_NUMERIC, Type.QUANTITIES):
        raise ProgramError(f"Only numbers and quantities take a format, not a {kind}.")


def _arithmetic(node: ast.BinOp, names: Mapping[str, Type], known: Known) -> Type:
    if isinstance(node.op, ast.MatMult):
        raise ProgramError("<MOD> is only for the volumes of segment and encode.")
    left, right = _expression(node.left, names, known), _expression(node.right, names, known)
    if left is Type.TEXT and right is Type.TEXT and isinstance(node.op, ast.Add):
        return Type.TEXT
    if left not in _NUMERIC or right not in _NUMERIC:
        raise ProgramError(f"{ARITHMETIC[type(node.op)]} is for numbers and quantities, not {left} and {right}.")
    return Type.NUMBER if left is right is Type.NUMBER else Type.QUANTITY


def _condition(node: ast.expr, names: Mapping[str, Type], known: Known) -> None:
    """A truth value: a comparison, a combination of truth values, or a boolean."""
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _condition(value, names, known)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _condition(node.operand, names, known)
    elif isinstance(node, ast.Compare):
        if len(node.ops) != 1:
            raise ProgramError("Compare two values at a time.")
        kinds = [_expression(side, names, known) for side in (node.left, node.comparators[0])]
        if not all(kind in _NUMERIC for kind in kinds):
            ordered = not isinstance(node.ops[0], ast.Eq | ast.NotEq)
            if kinds[0] is not kinds[1] or kinds[0] not in _COMPARABLE or (ordered and kinds[0] is not Type.VISIT):
                raise ProgramError(f"A {kinds[0]} and a {kinds[1]} cannot be compared like this.")
    elif _expression(node, names, known) is not Type.BOOLEAN:
        raise ProgramError("A condition compares two values.")


def _call(node: ast.Call, name: str, names: Mapping[str, Type], known: Known) -> Type:
    operation = OPERATIONS.get(name)
    if operation is None:
        raise ProgramError(f"There is no operation {name}. These are: {', '.join(OPERATIONS)}.")
    pairs = match_arguments(operation, node.args)
    selected: Type | None = None
    for parameter, argument in pairs:
        kind = _argument(operation, parameter, argument, names, known)
        if selected is not None and kind is not selected:
            raise ProgramError(f"{name} takes a {selected} after this name, not a {kind}.")
        selected = None
        if parameter.selects is not None and isinstance(argument, ast.Constant):
            selected = parameter.selects[str(argument.value)]
    marked = [
        ast.dump(argument.left) for _, argument in pairs if isinstance(argument, ast.BinOp) and _is_marked(argument)
    ]
    if len(set(marked)) != len(marked):
        raise ProgramError(f"{name} takes each volume once.")
    return operation.result


def match_arguments(operation: Operation, arguments: list[ast.expr]) -> list[tuple[Parameter, ast.expr]]:
    """Each argument with its parameter; an error where there are too few or too many."""
    parameters = list(operation.parameters)
    least = sum(not parameter.optional for parameter in parameters)
    if parameters and parameters[-1].repeated:
        parameters += [parameters[-1]] * max(0, len(arguments) - len(parameters))
    if not least <= len(arguments) <= len(parameters):
        raise ProgramError(f"{operation.name} takes {signature(operation)}.")
    return list(zip(parameters, arguments, strict=False))


def signature(operation: Operation) -> str:
    """How an operation is called: `segment(name, volumes<MOD>, …)`."""
    written = []
    for parameter in operation.parameters:
        text = parameter.name + ("<MOD>" if parameter.modulated else "") + (", …" if parameter.repeated else "")
        written.append(f"[{text}]" if parameter.optional else text)
    return f"{operation.name}({', '.join(written)})"


def literal_choices(parameter: Parameter, known: Known) -> tuple[str, ...]:
    """The quoted texts that a parameter takes."""
    if parameter.regions:
        return tuple(sorted(known.regions))
    return known.dates if parameter.dates else parameter.choices


def _argument(
    operation: Operation, parameter: Parameter, node: ast.expr, names: Mapping[str, Type], known: Known
) -> Type:
    where = f"{operation.name}: {parameter.name}"
    if parameter.modulated:
        if not isinstance(node, ast.BinOp) or not _is_marked(node):
            raise ProgramError(f"{where} is written as the name of a volume followed by <MOD>.")
        node = node.left
    if parameter.literal:
        choices = literal_choices(parameter, known)
        if not isinstance(node, ast.Constant) or node.value not in choices:
            raise ProgramError(f"{where} is one of {', '.join(map(repr, choices)) or 'none: there is nothing here'}.")
        return Type.TEXT
    kind = _expression(node, names, known)
    if kind not in parameter.types:
        wanted = " or ".join(parameter.types)
        raise ProgramError(f"{where} takes a {wanted}, not a {kind}.")
    return kind


def _is_marked(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
