"""Runs a checked syntax tree against the table of operations. Python's own `eval` and `exec` are never called."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vp_model.program.checker import ARITHMETIC, match_arguments
from vp_model.program.effects import combine, describe
from vp_model.program.errors import ProgramError
from vp_model.program.operations import OPERATIONS
from vp_model.program.state import State
from vp_model.program.types import Operation, Parameter, type_of
from vp_model.program.values import Quantity, Value, VolumeReference

_COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
    }
)


@dataclass(eq=False)
class Evaluator:
    """One run of one step: the names that persist, and what operations work on."""

    names: dict[str, Value]
    state: State

    def run(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            try:
                self._statement(statement)
            except ProgramError as error:
                raise error.at(statement.lineno) from None

    def _statement(self, node: ast.stmt) -> None:
        self.state.burn(1)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            self._assign(node.targets[0].id, self._expression(node.value))
        elif isinstance(node, ast.Expr):
            self._expression(node.value)
        elif isinstance(node, ast.If):
            self.run(node.body if self._truth(node.test) else node.orelse)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            items = self._expression(node.iter)
            if not isinstance(items, list):
                raise ProgramError("A loop runs over a list.")
            for item in items:
                self.state.burn(1)
                self._assign(node.target.id, item)
                self.run(node.body)
        elif not isinstance(node, ast.Pass):
            raise ProgramError(f"This statement ({type(node).__name__}) is not part of the language.")

    def _assign(self, name: str, value: Value) -> None:
        if name not in self.names and len(self.names) >= self.state.limits.names:
            raise ProgramError(f"There are more than {self.state.limits.names} names.")
        self.names[name] = value

    def _expression(self, node: ast.expr) -> Value:
        self.state.burn(1)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in self.names:
                raise ProgramError(f"{node.id} is not defined.")
            return self.names[node.id]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(OPERATIONS[node.func.id], node)
        if isinstance(node, ast.Subscript):
            return self._index(node)
        if isinstance(node, ast.JoinedStr):
            return self._text("".join(self._format(part) for part in node.values))
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            value = self._numeric(self._expression(node.operand))
            return combine("*", value, -1) if isinstance(node.op, ast.USub) else value
        return self._truth(node)

    def _call(self, operation: Operation, node: ast.Call) -> Value:
        self.state.burn(operation.cost)
        plain: list[Any] = []
        repeated: list[Any] = []
        for parameter, argument in match_arguments(operation, node.args):
            value = self._argument(operation, parameter, argument)
            (repeated if parameter.repeated else plain).append(value)
        if operation.parameters and operation.parameters[-1].repeated:
            plain.append(repeated)
        result = operation.implementation(self.state, *plain)
        if isinstance(result, list) and len(result) > self.state.limits.items:
            raise ProgramError(f"A list has more than {self.state.limits.items} elements.")
        return result

    def _argument(self, operation: Operation, parameter: Parameter, node: ast.expr) -> Any:
        if parameter.modulated:
            return self._marked(node)
        value = self._expression(node)
        kind = type_of(value)
        if kind not in parameter.types and not (isinstance(value, list) and not value):
            wanted = " or ".join(parameter.types)
            raise ProgramError(f"{operation.name}: {parameter.name} takes a {wanted}, not a {kind}.")
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = parameter.minimum, parameter.maximum
            if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
                raise ProgramError(f"{operation.name}: {parameter.name} lies between {low:g} and {high:g}.")
        return value

    def _marked(self, node: ast.expr) -> tuple[VolumeReference, int]:
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and isinstance(node.right, ast.Constant):
            reference, row = self.names.get(node.left.id), node.right.value
            if isinstance(reference, VolumeReference) and isinstance(row, int):
                if not 0 <= row < len(self.state.modulations):
                    raise ProgramError("A <MOD> has no modulation.")
                return reference, row
        raise ProgramError("segment and encode take volumes, each followed by <MOD>.")

    def _index(self, node: ast.Subscript) -> Value:
        items = self._expression(node.value)
        position = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if not isinstance(items, list) or not isinstance(position, int):
            raise ProgramError("Only a list has an index, and the index is a constant.")
        if not 0 <= position < len(items):
            raise ProgramError(f"The list has {len(items)} elements; there is none with index {position}.")
        item: Value = items[position]
        return item

    def _format(self, part: ast.expr) -> str:
        if isinstance(part, ast.FormattedValue):
            specification = ""
            if isinstance(part.format_spec, ast.JoinedStr) and isinstance(part.format_spec.values[0], ast.Constant):
                specification = str(part.format_spec.values[0].value)
            return describe(self._expression(part.value), self.state.limits.text, specification)
        return str(part.value) if isinstance(part, ast.Constant) else ""

    def _arithmetic(self, node: ast.BinOp) -> Value:
        left, right = self._expression(node.left), self._expression(node.right)
        if isinstance(left, str) and isinstance(right, str):
            if len(left) + len(right) > self.state.limits.text:
                raise ProgramError(f"A text is longer than {self.state.limits.text} characters.")
            return left + right
        result = combine(ARITHMETIC[type(node.op)], self._numeric(left), self._numeric(right))
        number = result.value if isinstance(result, Quantity) else result
        if not (isinstance(result, Quantity) and result.missing) and not abs(number) <= self.state.limits.integer:
            raise ProgramError("A number became too large.")
        return result

    def _numeric(self, value: Value) -> Quantity | float:
        if isinstance(value, Quantity):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        raise ProgramError(f"Arithmetic is for numbers and quantities, not a {type_of(value)}.")

    def _truth(self, node: ast.expr) -> bool:
        self.state.burn(1)
        if isinstance(node, ast.BoolOp):
            values = (self._truth(value) for value in node.values)
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self._truth(node.operand)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        value = self._expression(node)
        if not isinstance(value, bool):
            raise ProgramError("A condition compares two values.")
        return value

    def _compare(self, node: ast.Compare) -> bool:
        """Quantities compare by value, in one unit; one that could not be measured compares to nothing."""
        left, right = self._expression(node.left), self._expression(node.comparators[0])
        if isinstance(left, Quantity) and isinstance(right, Quantity) and left.unit != right.unit:
            raise ProgramError(f"{left.unit} and {right.unit} cannot be compared.")
        sides = [side.value if isinstance(side, Quantity) else side for side in (left, right)]
        return bool(_COMPARISONS[type(node.ops[0])](*sides))

    def _text(self, text: str) -> str:
        if len(text) > self.state.limits.text:
            raise ProgramError(f"A text is longer than {self.state.limits.text} characters.")
        return text
