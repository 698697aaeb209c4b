"""The rules of the lines that may stand at one place of a program: what may be written there, type by type.

Quantities have a rule for each unit, so that millilitres are never added to millimetres nor reported as a length.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from vp_model.program.checker import KEYWORDS, Known, literal_choices
from vp_model.program.operations import OPERATIONS
from vp_model.program.parser import MARKER
from vp_model.program.types import LISTS, Operation, Parameter, Type
from vp_model.program.units import INTENSITY, NO_UNIT, PAIRED, operation_unit, report_units, yearly
from vp_model.program.vocabulary import FORMATS, UNIT_KINDS

NESTING = 3
"""Calls within calls in one line."""
PLACES = 11
"""Regions that an operation on any number of them takes beyond the first."""
UNKNOWN = "?"
"""Class of the quantities whose unit depends on a branch."""
INDENT = "    "

NUMBER = r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,3})?"
_NAME = r"[a-z][a-z0-9]{0,15}(_[a-z0-9]{1,15}){0,3}"
TEXT = r"[ !#-;=?A-Z\[\]\^_`a-z|~]"
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

_MEASURED = (Type.QUANTITY, Type.QUANTITIES)
_YEARLY = ("ml", "mm", "mm2", "%", NO_UNIT)
"""Units that per_year takes in the grammar."""
_UNITS = tuple(
    sorted({unit for op in OPERATIONS.values() if op.result in _MEASURED and (unit := operation_unit(op)) is not None})
)
"""Units of what operations give, without those that conversions and years make."""


@dataclass(frozen=True)
class Place:
    """Where the next line may stand: an indentation, the names known there, and what may begin it."""

    indent: int
    known: Known
    otherwise: bool = False
    """`else:` may stand here."""
    blocks: bool = True
    """A block may begin here."""


class Rules:
    """The rules of the lines at one place. Rule `roi_1_3`: a Roi, at indentation 1, with up to 3 nested calls.

    Quantities and lists of them have a rule for each unit besides: `quantity_ml_1_3`.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.known = place.known
        self.rules: list[str] = []
        self.exists: set[tuple[str, int]] = set()
        self.names: dict[Type, list[str]] = {}
        self.by_unit: dict[tuple[Type, str], list[str]] = {}
        for name, kind in self.known.names.items():
            self.names.setdefault(kind, []).append(name)
            if kind in _MEASURED:
                self.by_unit.setdefault((kind, self.known.units.get(name, UNKNOWN)), []).append(name)
        named = {unit for _, unit in self.by_unit}
        units = {*_UNITS, *named, *UNIT_KINDS}
        self.units = sorted({*units, *(yearly(unit) for unit in units if unit in _YEARLY)})
        self.marked = self._volumes()
        self.texts = self._texts()
        for depth in range(NESTING + 1):
            for kind in _KEYS:
                if kind in _MEASURED:
                    self._measured(kind, depth)
                else:
                    self._expression(kind, depth)
        self._statements()

    def _rule(self, name: str, alternatives: Iterable[str | None]) -> bool:
        found = [text for text in alternatives if text]
        if found:
            self.rules.append(f"{name}: {' | '.join(found)}")
        return bool(found)

    def _name_of(self, key: str, depth: int) -> str:
        return f"{key}_{self.place.indent}_{depth}"

    def _reference(self, kind: Type, depth: int, unit: str = "") -> str | None:
        """The rule of a type (and unit) with up to `depth` nested calls; None where nothing of it can be written."""
        key = _KEYS[kind] + (f"_{_safe(unit)}" if unit else "")
        for lower in range(depth, -1, -1):
            if (key, lower) in self.exists:
                return self._name_of(key, lower)
        return None

    def _expression(self, kind: Type, depth: int) -> None:
        """Names, literals, calls and elements of a type."""
        found: list[str | None] = [_either(self.names.get(kind, ()))]
        if kind is Type.NUMBER:
            found.append("NUMBER")
        elif kind is Type.TEXT:
            found += self.texts
        elif kind is Type.BOOLEAN:
            found += ['"True"', '"False"']
        if depth:
            operations = [op for op in OPERATIONS.values() if op.result is kind]
            if not operations:
                return  # no operation returns these: one level is all there is
            found += self._calls((op.name, self._arguments(op, depth)) for op in operations)
            for container in LISTS:
                inner = self._reference(container, depth - 1)
                if container.element is kind and inner:
                    found.append(f'{inner} "[" /[0-9]/ "]"')
        if self._rule(self._name_of(_KEYS[kind], depth), found):
            self.exists.add((_KEYS[kind], depth))

    def _measured(self, kind: Type, depth: int) -> None:
        """A rule for each unit: names, calls, elements of lists, and arithmetic on top; and one for them all."""
        every = []
        for unit in self.units:
            found: list[str | None] = [_either(self.by_unit.get((kind, unit), ()))]
            if depth:
                found += self._calls((op.name, self._arguments_in(op, unit, depth)) for op in _in_unit(kind, unit))
                inner = self._reference(Type.QUANTITIES, depth - 1, unit)
                if kind is Type.QUANTITY and inner:
                    found.append(f'{inner} "[" /[0-9]/ "]"')
            key = f"{_KEYS[kind]}_{_safe(unit)}"
            name = self._name_of(key, depth)
            if kind is Type.QUANTITIES:
                exists = self._rule(name, found)
            else:
                exists = self._rule(f"single_{name}", found)
                if exists:
                    term = f"single_{name}"
                    sums, products = r"/ [+\-] /", r"/ [*\/] /"
                    self._rule(name, [term, f"{term} {sums} {term}", f"{term} {products} NUMBER"])
            if exists:
                self.exists.add((key, depth))
                every.append(name)
        if self._rule(self._name_of(_KEYS[kind], depth), every):
            self.exists.add((_KEYS[kind], depth))

    def _calls(self, written: Iterable[tuple[str, str | None]]) -> list[str]:
        """Calls of operations with their arguments; those with the same arguments share an alternative.

        The fewer alternatives and literals, the faster llguidance compiles the grammar, which is done for each line.
        """
        groups: dict[str, list[str]] = {}
        for name, arguments in written:
            if arguments is not None:
                groups.setdefault(arguments, []).append(name)
        return [f'{_either(names, "(")} {arguments} ")"' for arguments, names in groups.items()]

    def _arguments_in(self, operation: Operation, unit: str, depth: int) -> str | None:
        """The arguments of a call whose result has the unit; None where it cannot."""
        if operation.name == "per_year":
            given = next((own for own in _YEARLY if yearly(own) == unit), None)
            inner = self._reference(Type.QUANTITY, depth - 1, given) if given else None
            return inner
        if operation.name == "in_unit":
            sources = [own for own in self.units if UNIT_KINDS.get(own) == UNIT_KINDS.get(unit, "")]
            inners = [self._reference(Type.QUANTITY, depth - 1, own) for own in sources]
            written = " | ".join(inner for inner in inners if inner)
            return f'({written}) ", " {_quoted(json.dumps(unit))}' if written else None
        if operation.name not in PAIRED:
            return self._arguments(operation, depth)
        pairs = [self._reference(Type.QUANTITY, depth - 1, own) for own in self.units if own != UNKNOWN]
        written = " | ".join(f'{pair} ", " {pair}' for pair in pairs if pair)
        return f"({written})" if written else None

    def _texts(self) -> list[str]:
        return ["STRING", *self._formatted()]

    def _formatted(self) -> list[str]:
        """f-strings over names: quantities and numbers with a format, others without."""
        numeric = [*self.names.get(Type.QUANTITY, ()), *self.names.get(Type.NUMBER, ())]
        plain = [*numeric, *(name for kind in (Type.VISIT, Type.POINT, Type.TEXT) for name in self.names.get(kind, ()))]
        holes = []
        if numeric:
            holes.append(f'"{{" {_either(numeric)} {_either(":" + text for text in FORMATS)} "}}"')
        if plain:
            holes.append(f'"{{" {_either(plain)} "}}"')
        if not holes:
            return []
        hole = f"hole_{self.place.indent}"
        self._rule(hole, holes)
        return [f'"f\\"" WORDS? ({hole} WORDS?){{1,8}} "\\""']

    def _volumes(self) -> str | None:
        """Rules for volumes with their markers, each at most once, in the order of the inputs; or all those that go
        together.
        """
        volumes = self.names.get(Type.VOLUME, [])
        name = f"marked_{self.place.indent}"
        if self.known.together:
            self._rule(name, [' ", " '.join(f"{_quoted(volume)} {MARKER}" for volume in self.known.together)])
            return name
        for position, volume in enumerate(volumes):
            later = [f"{name}_{other}" for other in range(position + 1, len(volumes))]
            tail = f' (", " ({" | ".join(later)}))?' if later else ""
            self.rules.append(f"{name}_{position}: {_quoted(volume)} {MARKER}{tail}")
        self._rule(name, [f"{name}_{position}" for position in range(len(volumes))])
        return name if volumes else None

    def _arguments(self, operation: Operation, depth: int) -> str | None:
        """The arguments of a call, nested less deeply. None where one cannot be written."""
        first = operation.parameters[0] if operation.parameters else None
        if first is not None and first.selects is not None:
            return self._reported(first, depth)
        written = ""
        for position, parameter in enumerate(operation.parameters):
            argument = self._argument(parameter, depth - 1)
            if argument is not None and parameter.repeated and not parameter.modulated:
                argument = f'{argument} (", " {argument}){{0,{PLACES}}}'
            comma = '", " ' if position else ""
            if argument is None:
                if parameter.optional:
                    continue
                return None
            written += f" ({comma}{argument})?" if parameter.optional else f" {comma}{argument}"
        return written.strip()

    def _reported(self, first: Parameter, depth: int) -> str | None:
        """Each measurement's name with the values that have its type and one of its units."""
        written: dict[str, list[str]] = {}
        for name, kind in (first.selects or {}).items():
            if kind not in _MEASURED or not report_units(name):
                inner = self._reference(kind, depth - 1)
            else:
                wanted = report_units(name)
                fitting = [unit for unit in self.units if unit in (*wanted, UNKNOWN)]
                if NO_UNIT in wanted:
                    fitting.append(INTENSITY)
                rules = [self._reference(kind, depth - 1, unit) for unit in fitting]
                inner = " | ".join(rule for rule in rules if rule)
            if inner:
                written.setdefault(inner, []).append(name)
        variants = [f'{_either(map(json.dumps, names))} ", " ({inner})' for inner, names in written.items()]
        return f"({' | '.join(variants)})" if variants else None

    def _argument(self, parameter: Parameter, depth: int) -> str | None:
        if parameter.modulated:
            return self.marked
        if parameter.literal:
            choices = literal_choices(parameter, self.known)
            return _choices(choices) if choices else None
        if parameter.types == (Type.VOLUME,):
            volumes = self.names.get(Type.VOLUME, [])
            return _either(volumes) if volumes else None
        if parameter.pattern:
            return f"/{parameter.pattern}/"
        found = [self._reference(kind, depth) for kind in parameter.types]
        if parameter.name == "threshold":
            found = [self._reference(Type.QUANTITY, depth, unit) for unit in (INTENSITY, NO_UNIT, UNKNOWN)]
            found.append(self._reference(Type.NUMBER, depth))
        if Type.NUMBER in parameter.types:
            found.append('"-" NUMBER')
        alternatives = [rule for rule in found if rule]
        return f"({' | '.join(alternatives)})" if alternatives else None

    def _statements(self) -> None:
        """Assignments, calls, headers of blocks; `else:` where it may stand."""
        level = self.place.indent
        effects = [op for op in OPERATIONS.values() if op.result is Type.NOTHING]
        found = self._calls((op.name, self._arguments(op, NESTING + 1)) for op in effects)
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
                found.append(f'{_either(names)} " = " {values[kind]}')
        return found

    def _condition(self) -> str | None:
        """One or two comparisons, or what an operation answers with yes or no."""
        level = self.place.indent
        quantity, visit = self._reference(Type.QUANTITY, 3), self._reference(Type.VISIT, 2)
        order = "/ (<|<=|>|>=|==|!=) /"
        found = []
        if quantity:
            found.append(f'{quantity} {order} "-"? NUMBER')
        for unit in self.units:
            same = self._reference(Type.QUANTITY, 3, unit)
            if same:
                found.append(f"{same} {order} {same}")
        if visit:
            found.append(f"{visit} {order} {visit}")
        for kind, value in ((Type.TEXT, "STRING"), (Type.NUMBER, "NUMBER")):
            if self.names.get(kind):
                found.append(f"{_either(self.names[kind])} / (==|!=) / {value}")
        answers = [op for op in OPERATIONS.values() if op.result is Type.BOOLEAN]
        asked = self._calls((op.name, self._arguments(op, 3)) for op in answers)
        asked += [_quoted(name) for name in self.names.get(Type.BOOLEAN, ())]
        if asked:
            found.append(f'"not "? ({" | ".join(asked)})')
        name = f"test_{level}"
        if not self._rule(name, found):
            return None
        return f"{name} (/ (and|or) / {name})?"

    def _new_name(self, terminal: str, taken: Iterable[str]) -> None:
        """A terminal for a name that is neither reserved nor taken."""
        reserved = {*OPERATIONS, *KEYWORDS, *keyword.kwlist, *taken}
        volumes = self.names.get(Type.VOLUME, ())
        words = "|".join(sorted({*reserved, *volumes}))
        self.rules.append(
            f"{terminal}_{self.place.indent}: /[a-z][a-z0-9]{{0,15}}(_[a-z0-9]{{1,15}}){{0,3}}/ & ~/({words})/"
        )


@lru_cache(maxsize=256)
def _choices(choices: tuple[str, ...]) -> str:
    return _either(map(json.dumps, choices))


@cache
def _in_unit(kind: Type, unit: str) -> tuple[Operation, ...]:
    """The operations whose result may be of a type and unit."""
    found = (op for op in OPERATIONS.values() if op.result is kind)
    return tuple(op for op in found if op.name in ("per_year", "in_unit") or operation_unit(op) == unit)


@cache
def _safe(unit: str) -> str:
    """A unit as part of a rule's name."""
    words = {"%": "percent", NO_UNIT: "one", UNKNOWN: "any"}
    return "_per_".join(words.get(part, part) for part in unit.split("/") if part) + ("_yearly" if "/" in unit else "")


def _quoted(text: str) -> str:
    return json.dumps(text)


def _either(texts: Iterable[str], ending: str = "") -> str:
    return _pattern(tuple(texts), ending)


@lru_cache(maxsize=4096)
def _pattern(words: tuple[str, ...], ending: str) -> str:
    """One of some texts, each followed by an ending; `""` where there is none. One pattern is faster than words."""
    if len(words) < 2:
        return _quoted(words[0] + ending) if words else ""
    pattern = "|".join(re.escape(word).replace("/", "\\/") for word in words)
    return f"/({pattern}){re.escape(ending)}/"


def names_by_type(names: Mapping[str, Type]) -> dict[Type, tuple[str, ...]]:
    """The names of each type, in the order of their definition."""
    found: dict[Type, tuple[str, ...]] = {}
    for name, kind in names.items():
        found[kind] = (*found.get(kind, ()), name)
    return found
