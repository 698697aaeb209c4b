"""The grammar that decoding is constrained to, in llguidance's Lark syntax, made from the table of operations.

A program is written a line at a time: after each line the names that it defined are known with their types, and the
grammar of the next line is made anew. What the grammar accepts, the parser and the type checker accept, units
included: quantities have one rule for each unit, so that millilitres are never added to millimetres nor reported as a
length. A run can then only stop at what the images decide (a region of several sessions, a date that is the same
twice), or where the unit of a name depends on a branch.

Special tokens: `<MOD>` stands in the grammar as itself and must be a special token of the tokenizer (its hidden state
gives φ). The tokens in `endings` (the end of a step, the end of the program) may stand in place of a line; they too
must be special tokens of the tokenizer. Each line ends in a newline, which belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from vp_model.program.checker import Known
from vp_model.program.rules import NUMBER, TEXT, Place, Rules
from vp_model.program.types import Type


def grammar(known: Known, endings: Sequence[str] = ()) -> str:
    """The grammar of the next line outside all blocks, for the names defined so far."""
    return line_grammar([Place(0, known)], endings)


def line_grammar(places: Sequence[Place], endings: Sequence[str] = ()) -> str:
    """The grammar of one line that may stand at any of the places.

    Args:
        places: one for each indentation that is possible.
        endings: special tokens, written as in the tokenizer (`</s>`), one of which may stand instead of a line.
    """
    return _line_grammar(tuple(map(_frozen, places)), tuple(endings))


_Frozen = tuple[
    int,
    tuple[tuple[str, Type], ...],
    tuple[tuple[str, str], ...],
    frozenset[str],
    tuple[str, ...],
    tuple[str, ...],
    bool,
    bool,
]
"""A place as a key: indentation, names, units, regions, dates, volumes that go together, `else:` may stand here, a
block may begin here.
"""


def _frozen(place: Place) -> _Frozen:
    known = place.known
    names, units = tuple(known.names.items()), tuple(known.units.items())
    return place.indent, names, units, known.regions, known.dates, known.together, place.otherwise, place.blocks


@lru_cache(maxsize=512)
def _line_grammar(frozen: tuple[_Frozen, ...], endings: tuple[str, ...]) -> str:
    """Lines that define no name, and prompts on one study, share their grammars."""
    rules: list[str] = []
    starts: list[str] = []
    for indent, names, units, regions, dates, together, otherwise, blocks in frozen:
        known = Known(dict(names), regions, dates, dict(units), together=together)
        place = Place(indent, known, otherwise, blocks)
        writer = Rules(place)
        rules += writer.rules
        starts.append(f"line_{place.indent}")
    rules.insert(0, f"start: {' | '.join([*starts, *endings])}")
    rules.append(f"NUMBER: /{NUMBER}/")
    rules.append(f"WORDS: /{TEXT}{{1,120}}/")
    rules.append(f'STRING: "\\"" /{TEXT}{{0,200}}/ "\\""')
    return "\n".join(rules) + "\n"
