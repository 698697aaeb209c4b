"""What a target program asks of m: its calls of `segment` and `encode`, read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vp_model.program.parser import marker_count, parse


@dataclass(frozen=True)
class Call:
    """A call of m in one step of a program.

    Attributes:
        region: what is segmented; empty where volumes are encoded.
        volumes: their names.
        markers: number of the `<MOD>` behind each volume, counted in the step from 0.
    """

    operation: Literal["segment", "encode"]
    region: str
    volumes: tuple[str, ...]
    markers: tuple[int, ...]


def vision_calls(code: str) -> list[Call]:
    """The calls of a step, in the order in which they are written.

    Raises:
        ProgramError: the text is no program of the language.
        ValueError: a marker stands elsewhere than in a call of `segment` or `encode`.
    """
    statements = parse(code)
    calls = sorted(
        (call for statement in statements for node in ast.walk(statement) for call in _call(node)),
        key=lambda call: call.markers,
    )
    if sum(len(call.markers) for call in calls) != marker_count(code):
        raise ValueError("A <MOD> of the program belongs to no call of segment or encode.")
    return calls


def _call(node: ast.AST) -> Iterator[Call]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return
    marked = [(arg.left, arg.right) for arg in node.args if isinstance(arg, ast.BinOp)]
    volumes = tuple(name.id for name, _ in marked if isinstance(name, ast.Name))
    markers = tuple(int(number.value) for _, number in marked if isinstance(number, ast.Constant))  # type: ignore[arg-type]
    if node.func.id == "encode":
        yield Call("encode", "", volumes, markers)
    elif node.func.id == "segment" and isinstance(node.args[0], ast.Constant):
        yield Call("segment", str(node.args[0].value), volumes, markers)
