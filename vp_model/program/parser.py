"""From the text of a step to a checked syntax tree. Nothing outside the whitelist gets through."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections import Counter

from vp_model.program.errors import ProgramError
from vp_model.program.state import Limits
from vp_model.program.vocabulary import FORMATS

MARKER = "<MOD>"
"""The token after which α's hidden state gives φ for the volume before it (paper, A.1)."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z", re.ASCII)
_MARKED_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*<MOD>", re.ASCII)
_QUOTED = re.compile(r""" "[^"\n]*" | '[^'\n]*' """, re.VERBOSE)
_STATEMENTS = (ast.Assign, ast.Expr, ast.If, ast.For, ast.Pass)
_EXPRESSIONS = (
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.FormattedValue,
    ast.JoinedStr,
    ast.Name,
    ast.Subscript,
    ast.UnaryOp,
)
_OPERATORS = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.MatMult,  # stands for <MOD>; the text itself may not hold "@"
    ast.And,
    ast.Or,
    ast.Not,
    ast.USub,
    ast.UAdd,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Load,
    ast.Store,
)
_MEANINGS = {
    "Attribute": "Attributes do not exist here",
    "Import": "Imports do not exist here",
    "ImportFrom": "Imports do not exist here",
    "FunctionDef": "Functions cannot be defined",
    "AsyncFunctionDef": "Functions cannot be defined",
    "ClassDef": "Classes cannot be defined",
    "Lambda": "Functions cannot be defined",
    "While": "There is no while: loop over what an operation returned",
    "Pow": "There is no power",
    "Mod": "There is no remainder",
    "FloorDiv": "There is no integer division",
    "LShift": "There are no shifts",
    "RShift": "There are no shifts",
    "List": "Lists come from operations only",
    "Dict": "There are no dictionaries",
    "Tuple": "There are no tuples",
    "Starred": "Arguments cannot be starred",
    "NamedExpr": "Assign on a line of its own",
    "AugAssign": "Write the assignment out: a = a + b",
    "Slice": "Lists have a constant index only",
}


def parse(code: str, limits: Limits | None = None) -> list[ast.stmt]:
    """The statements of one step.

    Each `name<MOD>` becomes `name @ k`, with k the number of the marker in the step, from 0.

    Raises:
        ProgramError: the text is no program of the language; the message says which line and why.
    """
    bounds = limits or Limits()
    if len(code) > bounds.code_length:
        raise ProgramError(f"The step is longer than {bounds.code_length} characters.")
    _check_characters(code)
    text = _number_markers(code)
    _check_nesting(text, bounds.depth)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" and the like: the tree is checked below
            # At a syntax error CPython opens the file of the code's name, to quote the line: give it the null device.
            tree = ast.parse(text, filename=os.devnull, mode="exec")
    except SyntaxError as error:
        raise ProgramError(f"Not a program: {error.msg}.", error.lineno or 0) from None
    except (ValueError, RecursionError, MemoryError):
        raise ProgramError("Not a program: it cannot be read.") from None
    _check_look_alikes(code, tree)
    if sum(isinstance(node, ast.MatMult) for node in ast.walk(tree)) != marker_count(code):
        raise ProgramError(f"{MARKER} stands directly after the name of a volume only.")
    for statement in tree.body:
        _check_statement(statement, bounds, 1)
    return tree.body


def marker_count(code: str) -> int:
    """Number of `<MOD>` in a step: rows of φ that it takes."""
    return code.count(MARKER)


def _check_characters(code: str) -> None:
    for number, line in enumerate(code.split("\n"), start=1):
        for character in line:
            if character in "@\\" or not character.isprintable():
                shown = repr(character) if character.isascii() and character.isprintable() else _code_point(character)
                raise ProgramError(f"The character {shown} is not part of the language.", number)


def _check_look_alikes(code: str, tree: ast.Module) -> None:
    """Characters beyond ASCII stand in texts only: CPython normalises identifiers (NFKC), so `ｖolume` is `volume`.

    There are no escapes, so what the texts of the tree hold is what the code holds, or some of it stands elsewhere.
    """
    beyond = Counter(character for character in code if not character.isascii())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            beyond.subtract(character for character in node.value if not character.isascii())
    for character, count in beyond.items():
        if count:
            raise ProgramError(f"The character {_code_point(character)} can stand in a quoted text only.")


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def _number_markers(code: str) -> str:
    if len(_MARKED_NAME.findall(code)) != code.count(MARKER):
        raise ProgramError(f"{MARKER} stands directly after the name of a volume only.")
    pieces = code.split(MARKER)
    text = pieces[0]
    for number, piece in enumerate(pieces[1:]):
        text += f" @ {number}{piece}"
    return text


def _check_nesting(text: str, depth: int) -> None:
    """Brackets, indentation and chains of prefixes, counted before CPython's own parser recurses over them."""
    text = _QUOTED.sub('""', text)
    open_brackets = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) - len(line.lstrip(" ")) > 8 * depth:
            raise ProgramError("Blocks are nested too deeply.", number)
        for character in line:
            if character in "([{":
                open_brackets += 1
                if open_brackets > 2 * depth:
                    raise ProgramError("Expressions are nested too deeply.", number)
            elif character in ")]}":
                open_brackets -= 1
    if re.search(rf"(?:[-+~]\s*|not\s+){{{4 * depth},}}", text):
        raise ProgramError("Expressions are nested too deeply.")


def _check_statement(node: ast.stmt, limits: Limits, depth: int) -> None:
    if depth > limits.depth:
        raise ProgramError("Blocks are nested too deeply.", node.lineno)
    if not isinstance(node, _STATEMENTS):
        raise ProgramError(_refusal(node, "statement"), node.lineno)
    if isinstance(node, ast.Assign):
        if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            raise ProgramError("An assignment has one name on its left.", node.lineno)
        _check_name(node.targets[0].id, node.lineno)
        _check_expression(node.value, limits, 1)
    elif isinstance(node, ast.Expr):
        if not isinstance(node.value, ast.Call):
            raise ProgramError("A statement is an assignment, a call, an if or a for.", node.lineno)
        _check_expression(node.value, limits, 1)
    elif isinstance(node, ast.If):
        _check_expression(node.test, limits, 1)
        for child in (*node.body, *node.orelse):
            _check_statement(child, limits, depth + 1)
    elif isinstance(node, ast.For):
        if node.orelse or not isinstance(node.target, ast.Name):
            raise ProgramError("A loop reads: for name in operation(...):", node.lineno)
        _check_name(node.target.id, node.lineno)
        if not isinstance(node.iter, ast.Call | ast.Name):
            raise ProgramError("A loop runs over what an operation returned.", node.lineno)
        _check_expression(node.iter, limits, 1)
        for child in node.body:
            _check_statement(child, limits, depth + 1)


def _check_expression(node: ast.expr, limits: Limits, depth: int) -> None:
    line = node.lineno
    if depth > limits.depth:
        raise ProgramError("Expressions are nested too deeply.", line)
    if not isinstance(node, _EXPRESSIONS):
        raise ProgramError(_refusal(node, "expression"), line)
    if isinstance(node, ast.Name):
        _check_name(node.id, line)
    elif isinstance(node, ast.Constant):
        _check_constant(node, limits)
    elif isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            raise ProgramError("Only named operations can be called.", line)
        _check_name(node.func.id, line)
        if node.keywords:
            raise ProgramError("Arguments are given by position, without names.", line)
    elif isinstance(node, ast.Subscript):
        if not isinstance(node.slice, ast.Constant) or type(node.slice.value) is not int or node.slice.value < 0:
            raise ProgramError("An index is a constant: 0, 1, 2, …", line)
    elif isinstance(node, ast.FormattedValue):
        _check_format(node)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and not isinstance(node.left, ast.Name):
        raise ProgramError(f"{MARKER} stands directly after the name of a volume only.", line)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and not (isinstance(node, ast.FormattedValue) and child is node.format_spec):
            _check_expression(child, limits, depth + 1)
        elif not isinstance(child, ast.expr) and not isinstance(child, _OPERATORS):
            raise ProgramError(_refusal(child, "operator"), line)


def _check_constant(node: ast.Constant, limits: Limits) -> None:
    value = node.value
    if isinstance(value, bool):
        return
    if isinstance(value, str) and node.kind is None:
        if len(value) > limits.text:
            raise ProgramError(f"A text is longer than {limits.text} characters.", node.lineno)
    elif isinstance(value, int | float):
        if not abs(value) <= limits.integer:
            raise ProgramError("A number is too large.", node.lineno)
    else:
        raise ProgramError("Constants are texts, numbers, True and False.", node.lineno)


def _check_format(node: ast.FormattedValue) -> None:
    if node.conversion != -1:
        raise ProgramError("An f-string takes no conversion.", node.lineno)
    if node.format_spec is None:
        return
    parts = node.format_spec.values if isinstance(node.format_spec, ast.JoinedStr) else []
    if len(parts) != 1 or not isinstance(parts[0], ast.Constant) or parts[0].value not in FORMATS:
        raise ProgramError(f"These formats are available: {', '.join(FORMATS)}.", node.lineno)


def _check_name(name: str, line: int) -> None:
    if not _NAME.match(name) or "__" in name:
        raise ProgramError(f"{name[:64]!a} is not a name: letters, digits and single underscores.", line)


def _refusal(node: ast.AST, what: str) -> str:
    kind = type(node).__name__
    return f"{_MEANINGS.get(kind, f'This {what} ({kind}) is not part of the language')}."
