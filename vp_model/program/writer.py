"""Follows a program while it is written, a line at a time, so that the grammar of the next line is always known.

    writer = ProgramWriter(environment.known)
    while not done:
        matcher = compile(writer.grammar(endings=("</s>",)))   # llguidance
        line = decode(matcher)                                 # one line with its newline, or an ending
        writer.accept(line)
    environment.step(writer.text, modulations)

Blocks: after a header (`for …:`, `if …:`, `else:`) the next line stands one indentation deeper; afterwards it may
stand at any indentation that is open. Names that a block defines are known inside it; after an `if` with an `else`
those that both define with one type are known.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vp_model.program.checker import Known, check, check_block, check_header
from vp_model.program.errors import ProgramError
from vp_model.program.grammar import line_grammar
from vp_model.program.parser import parse
from vp_model.program.rules import INDENT, Place
from vp_model.program.types import Type
from vp_model.program.units import units_after, units_inside

MAXIMUM_INDENT = 3
"""Blocks within blocks that the grammar offers."""


@dataclass(eq=False)
class _Block:
    """An open block, or the top level."""

    kind: str
    """`program`, `if`, `else` or `for`."""
    names: dict[str, Type]
    units: dict[str, str]
    lines: int = 0
    first: tuple[dict[str, Type], dict[str, str]] | None = None
    """For an `else`: the names that the `if` had at its end, and their units."""


class ProgramWriter:
    """The lines written so far, the open blocks and the names known in each."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._blocks = [_Block("program", dict(known.names), dict(known.units))]
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        """The program so far."""
        return "".join(line + "\n" for line in self._lines)

    @property
    def complete(self) -> bool:
        """Whether the program may end here: no block waits for its first line."""
        return self._blocks[-1].kind == "program" or self._blocks[-1].lines > 0

    @property
    def names(self) -> dict[str, Type]:
        """Names known where the innermost open block stands."""
        return dict(self._blocks[-1].names)

    def places(self) -> list[Place]:
        """Where the next line may stand."""
        if not self.complete:
            return [self._place(len(self._blocks) - 1)]
        return [self._place(level) for level in range(len(self._blocks))]

    def grammar(self, endings: Sequence[str] = ()) -> str:
        """Grammar of the next line (llguidance's Lark); `endings` only where the program may end."""
        return line_grammar(self.places(), endings if self.complete else ())

    def accept(self, line: str) -> None:
        """Takes the next line, with or without its newline.

        Raises:
            ProgramError: it does not fit; nothing was taken.
        """
        body = line.rstrip("\n")
        statement = body.lstrip(" ")
        level, rest = divmod(len(body) - len(statement), len(INDENT))
        number = len(self._lines) + 1
        try:
            if rest or level not in {place.indent for place in self.places()}:
                raise ProgramError("The line does not stand at an indentation that is open here.")
            self._take(statement, level)
        except ProgramError as error:
            raise ProgramError(error.message, number) from None
        self._lines.append(body)

    def narrow(self, regions: frozenset[str], together: tuple[str, ...]) -> None:
        """From the next line on, only these regions can be segmented, in these volumes (any where empty)."""
        self._known = replace(self._known, regions=self._known.regions & regions, together=together)

    def _place(self, level: int) -> Place:
        names, units, otherwise = self._at(level)
        return Place(level, replace(self._known, names=names, units=units), otherwise, level < MAXIMUM_INDENT)

    def _at(self, level: int) -> tuple[dict[str, Type], dict[str, str], bool]:
        """Names and units known at a level once the blocks inside it are closed, and whether `else:` may follow."""
        block = self._blocks[level]
        if level == len(self._blocks) - 1:
            return dict(block.names), dict(block.units), False
        inner = self._blocks[level + 1]
        names = dict(block.names)
        end_names, end_units, _ = self._at(level + 1)
        first_names, first_units = inner.first or (end_names, end_units)
        if inner.kind == "else" and inner.first is not None:
            names.update({name: kind for name, kind in first_names.items() if end_names.get(name) is kind})
            before = [end_units, first_units]
        else:
            before = [block.units, end_units]
        units = {name: unit for name, unit in before[0].items() if before[1].get(name) == unit and name in names}
        return names, units, inner.kind == "if"

    def _take(self, statement: str, level: int) -> None:
        names, units, otherwise = self._at(level)
        if statement == "else:":
            if not otherwise:
                raise ProgramError("else: follows the lines of an if.")
            first = self._at(level + 1)[:2]
            outside = dict(self._blocks[level].units)
            self._close(level, names, outside)
            self._blocks.append(_Block("else", dict(names), outside, first=first))
            return
        known = replace(self._known, names=names, units=units)
        header = statement.endswith(":")
        tree = parse(statement + (" pass" if header else ""))
        if len(tree) != 1:
            raise ProgramError("A line holds one statement.")
        node = tree[0]
        if header and isinstance(node, ast.If | ast.For):
            inside = {**names, **check_header(node, known)}
            units_after([node], units, known.sessions)
            self._close(level, names, units)
            kind = "if" if isinstance(node, ast.If) else "for"
            self._blocks.append(_Block(kind, inside, units_inside(node, units)))
            return
        if header or isinstance(node, ast.If | ast.For):
            raise ProgramError("A block begins on the line after its header.")
        new = (check_block if level else check)([node], known)
        self._close(level, {**names, **new}, units_after([node], units, known.sessions))

    def _close(self, level: int, names: dict[str, Type], units: dict[str, str]) -> None:
        """Ends the blocks inside a level, which now holds one line more and these names."""
        del self._blocks[level + 1 :]
        self._blocks[level].names = names
        self._blocks[level].units = units
        self._blocks[level].lines += 1


def type_of_statement(line: str, known: Known) -> dict[str, Type]:
    """The names that one line outside all blocks defines: an assignment's, or a loop's variable.

    Raises:
        ProgramError: the line is no statement, or does not fit what is known.
    """
    writer = ProgramWriter(known)
    writer.accept(line)
    return {name: kind for name, kind in writer.names.items() if known.names.get(name) is not kind}
