"""The grammar that decoding is constrained to, in llguidance's Lark syntax, made from the table of operations.

A program is written a line at a time: after each line the names that it defined are known with their types, and the
grammar of the next line is made anew. What the grammar accepts, the parser and the type checker accept; a run can
then only stop at what the images decide (an empty region to crop to, a date that is the same twice) or at units that
do not fit.

Special tokens: `<MOD>` stands in the grammar as itself and must be a special token of the tokenizer (its hidden state
gives φ). The tokens in `endings` (the end of a step, the end of the program) may stand in place of a line; they too
must be special tokens of the tokenizer. Each line ends in a newline, which belongs to it.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vp_model.program.checker import KEYWORDS, Known, literal_choices
from vp_model.program.operations import OPERATIONS
from vp_model.program.parser import MARKER
from vp_model.program.types import LISTS, Operation, Parameter, Type
from vp_model.program.vocabulary import FORMATS

NESTING = 4
"""Calls within calls in one line."""
INDENT = "    "

_NUMBER = r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,3})?"
_NAME = r"[a-z][a-z0-9]{0,15}(_[a-z0-9]{1,15}){0,3}"
_TEXT = r"[ !#-;=?A-Z\[\]\^_`a-z|~]"
"""Printable ASCII without what has a meaning in texts: quotes, braces, backslash, and `<`, `>`, `@` for markers."""
_KEYS = {
    Type.ROI: "roi",
    Type.VISIT: "visit",
    Type.QUANTITY: "quantity",
    Type.POINT: "point",
    Type.IMAGE: "image",
    Type.ENCODING: "encoding",
    Type.NUMBER: "number",
    Type.TEXT: "text",
    Type.BOOLEAN: "boolean",
    Type.ROIS: "rois",
    Type.VISITS: "visits",
    Type.QUANTITIES: "quantities",
}


@dataclass(frozen=True)
class Place:
    """Where the next line may stand: an indentation, the names known there, and what may begin it."""

    indent: int
    known: Known
    otherwise: bool = False
    """`else:` may stand here."""
    blocks: bool = True
    """A block may begin here."""


def grammar(known: Known, endings: Sequence[str] = ()) -> str:
    """The grammar of the next line outside all blocks, for the names defined so far."""
    return line_grammar([Place(0, known)], endings)


def line_grammar(places: Sequence[Place], endings: Sequence[str] = ()) -> str:
    """The grammar of one line that may stand at any of the places.

    Args:
        places: one for each indentation that is possible.
        endings: special tokens, written as in the tokenizer (`</s>`), one of which may stand instead of a line.
    """
    rules: list[str] = []
    starts: list[str] = []
    for place in places:
        writer = _Rules(place)
        rules += writer.rules
        starts.append(f"line_{place.indent}")
    rules.insert(0, f"start: {' | '.join([*starts, *endings])}")
    rules.append(f"NUMBER: /{_NUMBER}/")
    rules.append(f"WORDS: /{_TEXT}{{1,120}}/")
    rules.append(f'STRING: "\\"" /{_TEXT}{{0,200}}/ "\\""')
    return "\n".join(rules) + "\n"


class _Rules:
    """The rules of the lines at one place. Rule `roi_1_3`: a Roi, at indentation 1, with up to 3 nested calls."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.known = place.known
        self.rules: list[str] = []
        self.exists: set[tuple[Type, int]] = set()
        self.names: dict[Type, list[str]] = {}
        for name, kind in self.known.names.items():
            self.names.setdefault(kind, []).append(name)
        self.marked = self._volumes()
        for depth in range(NESTING + 1):
            for kind in _KEYS:
                self._expression(kind, depth)
        self._statements()

    def _rule(self, name: str, alternatives: Iterable[str]) -> bool:
        found = list(alternatives)
        if found:
            self.rules.append(f"{name}: {' | '.join(found)}")
        return bool(found)

    def _reference(self, kind: Type, depth: int) -> str | None:
        """The rule of a type with up to `depth` nested calls; None where nothing of that type can be written."""
        for lower in range(depth, -1, -1):
            if (kind, lower) in self.exists:
                return f"{_KEYS[kind]}_{self.place.indent}_{lower}"
        return None

    def _expression(self, kind: Type, depth: int) -> None:
        """Names, literals, calls and elements of a type; and arithmetic on top for quantities."""
        found = [_quoted(name) for name in self.names.get(kind, ())]
        if kind is Type.NUMBER:
            found.append("NUMBER")
        elif kind is Type.TEXT:
            found += ["STRING", *self._formatted()] if depth == 0 else []
        elif kind is Type.BOOLEAN:
            found += ['"True"', '"False"']
        if depth:
            found += [self._call(op, depth) or "" for op in OPERATIONS.values() if op.result is kind]
            for container in LISTS:
                inner = self._reference(container, depth - 1)
                if container.element is kind and inner:
                    found.append(f'{inner} "[" /[0-9]/ "]"')
            if kind in (Type.TEXT, Type.NUMBER, Type.BOOLEAN):
                return  # no operation returns these: one level is all there is
        name = f"{_KEYS[kind]}_{self.place.indent}_{depth}"
        if kind is not Type.QUANTITY:
            if self._rule(name, filter(None, found)):
                self.exists.add((kind, depth))
            return
        single = f"single_{name}"
        if self._rule(single, filter(None, found)):
            self.exists.add((kind, depth))
            operator = '(" + " | " - ")'
            factor = '(" * " | " / ")'
            self._rule(name, [single, f"{single} {operator} {single}", f"{single} {factor} NUMBER"])

    def _formatted(self) -> list[str]:
        """f-strings over names: quantities and numbers with a format, others without."""
        numeric = [*self.names.get(Type.QUANTITY, ()), *self.names.get(Type.NUMBER, ())]
        plain = [*numeric, *(name for kind in (Type.VISIT, Type.POINT, Type.TEXT) for name in self.names.get(kind, ()))]
        holes = []
        if numeric:
            formats = " | ".join(_quoted(":" + text) for text in FORMATS)
            holes.append(f'"{{" ({_either(numeric)}) ({formats}) "}}"')
        if plain:
            holes.append(f'"{{" ({_either(plain)}) "}}"')
        if not holes:
            return []
        hole = f"hole_{self.place.indent}"
        self._rule(hole, holes)
        return [f'"f\\"" WORDS? ({hole} WORDS?){{1,8}} "\\""']

    def _volumes(self) -> str | None:
        """Rules for volumes with their markers, each at most once, in the order of the inputs."""
        volumes = self.names.get(Type.VOLUME, [])
        name = f"marked_{self.place.indent}"
        for position, volume in enumerate(volumes):
            later = [f"{name}_{other}" for other in range(position + 1, len(volumes))]
            tail = f' (", " ({" | ".join(later)}))?' if later else ""
            self.rules.append(f"{name}_{position}: {_quoted(volume)} {MARKER}{tail}")
        self._rule(name, [f"{name}_{position}" for position in range(len(volumes))])
        return name if volumes else None

    def _call(self, operation: Operation, depth: int) -> str | None:
        """A call of an operation, its arguments nested less deeply. None where an argument cannot be written."""
        first = operation.parameters[0] if operation.parameters else None
        if first is not None and first.selects is not None:
            variants: list[str] = []
            for kind in dict.fromkeys(first.selects.values()):
                inner = self._reference(kind, depth - 1)
                choices = [choice for choice, selected in first.selects.items() if selected is kind]
                if inner:
                    variants.append(f'({_either(json.dumps(choice) for choice in choices)}) ", " {inner}')
            return f'"{operation.name}(" ({" | ".join(variants)}) ")"' if variants else None
        written = f'"{operation.name}("'
        for position, parameter in enumerate(operation.parameters):
            argument = self._argument(parameter, depth - 1)
            comma = '", " ' if position else ""
            if argument is None:
                if parameter.optional:
                    continue
                return None
            written += f" ({comma}{argument})?" if parameter.optional else f" {comma}{argument}"
        return f'{written} ")"'

    def _argument(self, parameter: Parameter, depth: int) -> str | None:
        if parameter.modulated:
            return self.marked
        if parameter.literal:
            choices = literal_choices(parameter, self.known)
            return f"({_either(json.dumps(choice) for choice in choices)})" if choices else None
        if parameter.types == (Type.VOLUME,):
            volumes = self.names.get(Type.VOLUME, [])
            return f"({_either(volumes)})" if volumes else None
        if parameter.pattern:
            return f"/{parameter.pattern}/"
        found = [self._reference(kind, depth) for kind in parameter.types]
        if Type.NUMBER in parameter.types:
            found.append('"-" NUMBER')
        alternatives = [rule for rule in found if rule]
        return f"({' | '.join(alternatives)})" if alternatives else None

    def _statements(self) -> None:
        """Assignments, calls, headers of blocks; `else:` where it may stand."""
        level = self.place.indent
        found = [self._call(op, NESTING + 1) for op in OPERATIONS.values() if op.result is Type.NOTHING]
        found += self._assignments()
        lists = [self._reference(kind, 2) for kind in LISTS]
        if any(lists) and self.place.blocks:
            self._new_name("ITEM", self.known.names)
            found.append(f'"for " ITEM_{level} " in " ({" | ".join(filter(None, lists))}) ":"')
        condition = self._condition()
        if condition and self.place.blocks:
            found.append(f'"if " {condition} ":"')
        if self.place.otherwise:
            found.append('"else:"')
        prefix = f'"{INDENT * level}" ' if level else ""
        self._rule(f"statement_{level}", filter(None, found))
        self.rules.append(f'line_{level}: {prefix}statement_{level} "\\n"')

    def _assignments(self) -> list[str]:
        """A new name takes any value; inside a block a known name keeps its type."""
        level = self.place.indent
        values = {kind: self._reference(kind, NESTING) for kind in _KEYS}
        fixed = [name for name, kind in self.known.names.items() if level or kind is Type.VOLUME]
        self._new_name("NAME", fixed)
        any_value = " | ".join(rule for rule in values.values() if rule)
        found = [f'NAME_{level} " = " ({any_value})']
        for kind, names in self.names.items():
            if level and values.get(kind):
                found.append(f'({_either(names)}) " = " {values[kind]}')
        return found

    def _condition(self) -> str | None:
        """One or two comparisons."""
        level = self.place.indent
        quantity, visit = self._reference(Type.QUANTITY, 3), self._reference(Type.VISIT, 2)
        order = '(" < " | " <= " | " > " | " >= " | " == " | " != ")'
        found = []
        if quantity:
            found += [f'{quantity} {order} "-"? NUMBER', f"{quantity} {order} {quantity}"]
        if visit:
            found.append(f"{visit} {order} {visit}")
        for kind, value in ((Type.TEXT, "STRING"), (Type.NUMBER, "NUMBER")):
            if self.names.get(kind):
                found.append(f'({_either(self.names[kind])}) (" == " | " != ") {value}')
        if self.names.get(Type.BOOLEAN):
            found.append(f'"not "? ({_either(self.names[Type.BOOLEAN])})')
        name = f"test_{level}"
        if not self._rule(name, found):
            return None
        return f'{name} ((" and " | " or ") {name})?'

    def _new_name(self, terminal: str, taken: Iterable[str]) -> None:
        """A terminal for a name that is neither reserved nor taken."""
        reserved = {*OPERATIONS, *KEYWORDS, *keyword.kwlist, *taken}
        volumes = self.names.get(Type.VOLUME, ())
        words = "|".join(sorted({*reserved, *volumes}))
        self.rules.append(
            f"{terminal}_{self.place.indent}: /[a-z][a-z0-9]{{0,15}}(_[a-z0-9]{{1,15}}){{0,3}}/ & ~/({words})/"
        )


def _quoted(text: str) -> str:
    return json.dumps(text)


def _either(texts: Iterable[str]) -> str:
    return " | ".join(_quoted(text) for text in texts)


def names_by_type(names: Mapping[str, Type]) -> dict[Type, tuple[str, ...]]:
    """The names of each type, in the order of their definition."""
    found: dict[Type, tuple[str, ...]] = {}
    for name, kind in names.items():
        found[kind] = (*found.get(kind, ()), name)
    return found
