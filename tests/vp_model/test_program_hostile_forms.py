"""Families of hostile programs, drawn at random within each: none runs, none takes long, none leaves a trace."""

from __future__ import annotations

import keyword
import sys
import time
import unicodedata
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vp_model.program_cases import PROGRAMS, make_environment
from tests.vp_model.test_program_hostile import nothing_reached
from vp_model.program.environment import Limits
from vp_model.program.operations import OPERATIONS
from vp_model.program.vocabulary import FORMATS

SECONDS = 5.0
"""On a machine that is busy with other things; alone they take milliseconds."""
START = 'roi = segment("brainstem", v1<MOD>)\nsize = volume(roi)\n'
family = settings(max_examples=80, deadline=None)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))


def refused(code: str) -> str:
    """The error of a program of which nothing ran: no name, no result, no call of the network."""
    environment = make_environment(limits=Limits(fuel=2_000))
    before = dict(environment.values)
    started = time.perf_counter()
    with nothing_reached():
        result = environment.step(code)
    assert time.perf_counter() - started < SECONDS
    assert result.error and not result.output and not len(environment.findings)
    assert environment.values == before
    assert environment.state.vision.calls == []  # type: ignore[attr-defined]
    return result.error


@cache
def look_alikes(letter: str) -> Sequence[str]:
    """Characters that CPython reads as a letter in a name (NFKC), and those of other scripts that look like it."""
    found = [chr(point) for point in range(128, 0x1FFFF) if unicodedata.normalize("NFKC", chr(point)) == letter]
    other = {"a": "а", "c": "с", "e": "е", "o": "о", "p": "р", "x": "х", "i": "і", "s": "ѕ", "v": "ν"}
    return [*found, *other.get(letter, "")]


@pytest.mark.requirement("the hostile corpus runs nothing, under fuzzing too: unicode look-alikes")
@family
@given(st.data())
def test_a_name_with_a_letter_that_only_looks_like_it_is_refused(data: st.DataObject) -> None:
    program = data.draw(st.sampled_from(PROGRAMS))
    quoted, places = False, []
    for place, character in enumerate(program):
        quoted ^= character == '"'
        if not quoted and character.isascii() and character.isalpha() and program[place - 1 : place + 4] != "<MOD>":
            places.append(place)
    place = data.draw(st.sampled_from(places))
    other = data.draw(st.sampled_from(look_alikes(program[place]) or ("é",)))
    refused(program[:place] + other + program[place + 1 :])


@pytest.mark.requirement("the hostile corpus runs nothing, under fuzzing too: attributes and dunder names")
@family
@given(st.lists(names, min_size=1, max_size=6), st.sampled_from(["v1", "size", "roi", '"text"', "(1)", "show", "f()"]))
def test_a_chain_of_attributes_is_refused_wherever_it_stands(chain: list[str], owner: str) -> None:
    attribute = ".".join([owner, *chain])
    for code in (
        f"x = {attribute}\n",
        f"print({attribute})\n",
        f"{attribute}()\n",
        f"for a in {attribute}:\n    pass\n",
    ):
        refused(START + code)
    refused(START + f'x = f"{{{attribute.replace(chr(34), chr(39))}}}"\n')


@family
@given(names, names)
def test_a_name_with_two_underscores_is_refused(first: str, second: str) -> None:
    for name in (f"__{first}__", f"{first}__{second}", f"__{first}"):
        refused(START + f"{name} = 1\n")
        refused(START + f"x = {name}\n")
        refused(START + f"{name}(v1)\n")


@pytest.mark.requirement("the hostile corpus runs nothing, under fuzzing too: recursion and depth")
@family
@given(
    st.sampled_from(["(", "volume(", "[", "{", "-", "not ", "f(", 'f"{', "1 + (", "x[", "lambda: ", "1 if 1 else "]),
    st.integers(65, 2_500),
)
def test_depth_is_refused_without_recursion(opening: str, times: int) -> None:
    closing = {"(": ")", "[": "]", "{": "}", '"': '}"'}.get(opening.rstrip()[-1], "")
    code = ("x = " + opening * times + "1" + closing * times)[:7_900]
    refused(code + "\n")


@family
@given(st.integers(17, 200), st.sampled_from(["if True:", "for a in bounding_box(roi):", "if size > 1:"]))
def test_blocks_within_blocks_are_refused(times: int, header: str) -> None:
    code = "".join("    " * level + header + "\n" for level in range(times)) + "    " * times + "pass\n"
    refused(code[:7_900])


@pytest.mark.requirement("the hostile corpus runs nothing, under fuzzing too: giant integers and huge ranges")
@family
@given(
    st.integers(13, 7_000),
    st.sampled_from("123456789"),
    st.sampled_from(["x = {}", "x = -{}", "x = 1 + {}", "x = {}.5"]),
)
def test_a_giant_number_is_refused_before_it_is_made(digits: int, digit: str, form: str) -> None:
    refused(f"{START}x = {form.format(digit * digits)}\n")


@family
@given(
    st.integers(1, 10**12),
    st.sampled_from(["range({})", "list(range({}))", '"a" * {}', "{} * [0]", "1 << {}", "2 ** {}"]),
)
def test_what_would_grow_is_not_in_the_language(size: int, form: str) -> None:
    refused(START + f"x = {form.format(size)}\n")


@pytest.mark.requirement("the hostile corpus runs nothing, under fuzzing too: format bombs")
@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789<>^=+-#_,.dfeEgGbxXoOnsc%{}!r", min_size=1, max_size=14).filter(lambda s: s not in
       {text.removeprefix(":") for text in FORMATS}))  # fmt: skip
def test_only_four_formats_are_known(specification: str) -> None:
    refused(START + f'x = f"{{size:{specification}}}"\n')


@pytest.mark.requirement("the hostile corpus runs nothing, under fuzzing too: imports")
@family
@given(
    st.one_of(names, st.sampled_from(sorted(sys.stdlib_module_names))),
    names,
    st.sampled_from(
        [
            "import {0}", "import {0}.{1}", "import {0} as {1}", "from {0} import {1}", "from {0} import *",
            "from . import {0}", "from .{0} import {1}", "import {0}, {1}", '__import__("{0}")', 'importlib("{0}")',
            'x = __import__("{0}").{1}', "if True:\n    import {0}", 'exec("import {0}")', 'eval("{0}.{1}")',
        ]
    ),
)  # fmt: skip
def test_a_module_is_reached_in_no_way(module: str, other: str, form: str) -> None:
    refused(f"{START}{form.format(module, other)}\n")
    refused(f"{form.format(module, other)}\n")


TAKING = (
    "{0} = 1", "x = {0}", "{0}.x", "del {0}", "def {0}(): pass", "class {0}: pass", "import {0}",
    "from {0} import x", "{0} += 1", "({0} := 1)", "for {0} in bounding_box(roi): pass",
)  # fmt: skip


@family
@given(st.sampled_from(sorted(OPERATIONS)), st.sampled_from(TAKING))
def test_an_operation_is_neither_taken_nor_redefined(name: str, form: str) -> None:
    refused(START + form.format(name) + "\n")


@family
@given(st.integers(2, 60), st.integers(1, 400))
def test_text_that_doubles_stops_at_its_limit(times: int, length: int) -> None:
    """Runs, and is stopped: texts are bounded whatever is added to them."""
    environment = make_environment(limits=Limits(fuel=5_000))
    result = environment.step(f'x = "{"a" * length}"\n' + "x = x + x\n" * times)
    assert (result.error == "") == (length * 2**times <= Limits().text)
    assert len(str(environment.values["x"])) <= Limits().text
