"""Types of a program, before it runs: which names it defines, and that it calls only what exists as it must be."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from vp_model.program.errors import ProgramError
from vp_model.program.operations import OPERATIONS
from vp_model.program.types import Operation, Parameter, Type

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


def check(statements: list[ast.stmt], known: Known) -> dict[str, Type]:
    """The names that the statements define, with their types, in addition to those known.

    Raises:
        ProgramError: something is called, or named, that does not exist or does not fit.
    """
    names = dict(known.names)
    for statement in statements:
        _statement(statement, names, known, nested=False)
    return {name: kind for name, kind in names.items() if known.names.get(name) is not kind}


def expression_type(node: ast.expr, known: Known) -> Type:
    """The type of an expression."""
    return _expression(node, known.names, known)


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
            _condition(node.test, names, known)
            inside, otherwise = dict(names), dict(names)
            for child in node.body:
                _statement(child, inside, known, nested=True)
            for child in node.orelse:
                _statement(child, otherwise, known, nested=True)
            if node.orelse:  # a name that both branches define exists after them
                names.update({name: kind for name, kind in inside.items() if otherwise.get(name) is kind})
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            element = _expression(node.iter, names, known).element
            if element is None:
                raise ProgramError("A loop runs over a list.")
            inside = dict(names)
            _define(node.target.id, element, inside, nested)
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
    for parameter, argument in pairs:
        _argument(operation, parameter, argument, names, known)
    marked = [argument.left.id for _, argument in pairs if _is_marked(argument)]  # type: ignore[attr-defined]
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


def _argument(
    operation: Operation, parameter: Parameter, node: ast.expr, names: Mapping[str, Type], known: Known
) -> None:
    where = f"{operation.name}: {parameter.name}"
    if parameter.modulated:
        if not _is_marked(node):
            raise ProgramError(f"{where} is written as the name of a volume followed by <MOD>.")
        node = node.left  # type: ignore[attr-defined]
    if parameter.literal:
        value = node.value if isinstance(node, ast.Constant) else None
        choices = tuple(sorted(known.regions)) if parameter.regions else parameter.choices
        if not isinstance(value, str) or ((choices or parameter.regions) and value not in choices):
            raise ProgramError(f"{where} is one of {', '.join(map(repr, choices)) or 'the quoted texts'}.")
        return
    kind = _expression(node, names, known)
    if kind not in parameter.types:
        wanted = " or ".join(parameter.types)
        raise ProgramError(f"{where} takes a {wanted}, not a {kind}.")


def _is_marked(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
