"""A program in words, line by line, for those who read the transcript beside the images.

    roi = segment("left hippocampus", v1<MOD>)      Finds the left hippocampus on v1 (T1, 2024-03-01): roi.
    report("volume", volume(roi))                   Reports the volume of the left hippocampus as volume.

The words are those of `phrases.json`, one for each operation; nothing is guessed: a line that is no program is given
back as it stands.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

from vp_model.outcome import InputVolume, Transcript
from vp_model.program.errors import ProgramError
from vp_model.program.operations import OPERATIONS
from vp_model.program.parser import parse
from vp_model.program.types import Type

LONGEST = 60
"""Characters of a description that still stands for a name where the name is used."""
_OPERATORS = MappingProxyType(
    {
        ast.Add: "plus",
        ast.Sub: "minus",
        ast.Mult: "times",
        ast.Div: "divided by",
        ast.Eq: "is",
        ast.NotEq: "is not",
        ast.Lt: "is below",
        ast.LtE: "is at most",
        ast.Gt: "is above",
        ast.GtE: "is at least",
        ast.And: "and",
        ast.Or: "or",
    }
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@cache
def phrases() -> Mapping[str, str]:
    """`phrases.json`: the words of each operation; {0}, {1} are its arguments, {rest} those that may be many."""
    text = (Path(__file__).parent / "phrases.json").read_text(encoding="utf-8")
    return MappingProxyType(json.loads(text))


def narrate(code: str, volumes: Sequence[InputVolume]) -> list[str]:
    """A sentence for each statement of a program, indented as its blocks are.

    Args:
        code: one step or several; a text that is no program comes back as one line.
        volumes: what the names v1, v2, … stand for.
    """
    try:
        statements = parse(code)
    except ProgramError:
        return [code.strip()]
    known = {volume.name: f"{volume.name} ({_about(volume)})" for volume in volumes}
    lines: list[str] = []
    for statement in statements:
        _statement(statement, known, "", lines)
    return lines


def readable(transcript: Transcript) -> str:
    """A whole transcript in words: the prompt, what each step does, what it printed, what went wrong."""
    lines = [f"Asked: {transcript.prompt}"]
    if transcript.volumes:
        lines.append("Given: " + ", ".join(f"{volume.name} ({_about(volume)})" for volume in transcript.volumes))
    before = ""
    for number, step in enumerate(transcript.steps, start=1):
        lines.append(f"Step {number}")
        written = narrate(before + step.code, transcript.volumes)[len(narrate(before, transcript.volumes)) :]
        lines += [f"  {line}" for line in written or [step.code.strip()]]
        if step.output:
            lines += ["  It saw:", *(f"    {line}" for line in step.output.splitlines())]
        if step.error:
            lines.append(f"  It stopped: {step.error}")
        before += step.code.rstrip() + "\n"
    return "\n".join(lines)


def _about(volume: InputVolume) -> str:
    return ", ".join(part for part in (volume.given, volume.kind, volume.visit) if part)


def _statement(node: ast.stmt, known: dict[str, str], indent: str, lines: list[str]) -> None:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name, text = node.targets[0].id, _phrase(node.value, known)
        verb = "Finds" if isinstance(node.value, ast.Call) and _gives(node.value, Type.ROI) else "Takes"
        lines.append(f"{indent}{verb} {text}: {name}.")
        short = _short(node.value) or text
        known[name] = short if len(short) <= LONGEST else name
    elif isinstance(node, ast.Expr):
        text = _phrase(node.value, known)
        lines.append(indent + text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
    elif isinstance(node, ast.If):
        lines.append(f"{indent}If {_phrase(node.test, known)}:")
        for child in node.body:
            _statement(child, known, indent + "  ", lines)
        if node.orelse:
            lines.append(f"{indent}Otherwise:")
            for child in node.orelse:
                _statement(child, known, indent + "  ", lines)
    elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
        lines.append(f"{indent}For {_phrase(node.iter, known)} ({node.target.id}):")
        known.pop(node.target.id, None)
        for child in node.body:
            _statement(child, known, indent + "  ", lines)


def _short(node: ast.expr) -> str:
    """A region by the name of its structure alone: on which images it was found has been said."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "segment" and isinstance(node.args[0], ast.Constant):
        return f"the {node.args[0].value!s}"
    return ""


def _own_session(node: ast.expr, region: ast.expr) -> str:
    """`its first session` for `earliest(roi)` beside `roi`; empty for any other session."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and ast.dump(node.args[0]) == ast.dump(region):
        return {"earliest": "its first session", "latest": "its last session"}.get(ast.unparse(node.func), "")
    return ""


def _gives(node: ast.Call, kind: Type) -> bool:
    operation = OPERATIONS.get(node.func.id) if isinstance(node.func, ast.Name) else None
    return operation is not None and operation.result is kind


def _phrase(node: ast.expr, known: Mapping[str, str]) -> str:
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, node.args, known)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        place = int(node.slice.value) if isinstance(node.slice.value, int) else 0
        ordinal = _ORDINALS[place] if place < len(_ORDINALS) else f"{place + 1}th"
        return f"the {ordinal} of {_phrase(node.value, known)}"
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.MatMult):
            return _phrase(node.left, known)
        return f"{_phrase(node.left, known)} {_OPERATORS[type(node.op)]} {_phrase(node.right, known)}"
    if isinstance(node, ast.Compare):
        sides = _phrase(node.left, known), _phrase(node.comparators[0], known)
        return f"{sides[0]} {_OPERATORS[type(node.ops[0])]} {sides[1]}"
    if isinstance(node, ast.BoolOp):
        return f" {_OPERATORS[type(node.op)]} ".join(_phrase(value, known) for value in node.values)
    if isinstance(node, ast.UnaryOp):
        word = "not: " if isinstance(node.op, ast.Not) else "-" if isinstance(node.op, ast.USub) else ""
        return word + _phrase(node.operand, known)
    if isinstance(node, ast.JoinedStr):
        return "".join(_phrase(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"[{_phrase(node.value, known)}]"
    return ast.unparse(node)


def _call(name: str, arguments: Sequence[ast.expr], known: Mapping[str, str]) -> str:
    operation, words = OPERATIONS.get(name), phrases().get(name)
    texts = [_phrase(argument, known) for argument in arguments]
    if name == "at" and len(arguments) == 2:
        texts[1] = _own_session(arguments[1], arguments[0]) or texts[1]
    if operation is None or words is None:
        return f"{name}({', '.join(texts)})"
    fixed = [parameter for parameter in operation.parameters if not parameter.repeated]
    rest = " and ".join(texts[len(fixed) :]) if len(fixed) < len(operation.parameters) else ""
    if len(texts) < sum(not parameter.optional for parameter in fixed):
        return f"{name}({', '.join(texts)})"
    return words.format(*texts, rest=rest)
