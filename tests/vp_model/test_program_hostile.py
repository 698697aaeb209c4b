"""The hostile corpus runs nothing; under fuzzing the evaluator raises nothing of its own and reaches no builtin."""

from __future__ import annotations

import ast
import builtins
import os
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer

from tests.vp_model.hostile.corpus import REFUSED, STOPPED
from tests.vp_model.program_cases import BOXES, PROGRAMS, BoxVision, make_environment, make_tokenizer
from tests.vp_model.test_program_grammar import example_line, sample
from vp_model.program.environment import Limits, ProgramEnvironment
from vp_model.program.errors import ProgramError
from vp_model.program.operations import OPERATIONS
from vp_model.program.parser import parse
from vp_model.program.writer import ProgramWriter

CASES = [pytest.param(code, id=f"{kind}-{number}") for kind in REFUSED for number, code in enumerate(REFUSED[kind])]
FORBIDDEN = {"open", "exec", "import", "os.system", "subprocess.Popen", "socket.connect", "os.exec", "ctypes.dlopen"}
_watched: list[str] = []
_watching = [False]


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watching[0] and event in FORBIDDEN and arguments[:1] != (os.devnull,):
        _watched.append(event)


sys.addaudithook(_audit)


@contextmanager
def nothing_reached() -> Iterator[None]:
    """Fails where a file, a module, a process or a code object was reached for (CPython's audit events)."""
    _watched.clear()
    _watching[0] = True
    try:
        yield
    finally:
        _watching[0] = False
    assert not _watched


@pytest.fixture
def environment() -> ProgramEnvironment:
    return make_environment()


@pytest.mark.parametrize("code", CASES)
def test_hostile_programs_are_refused_before_anything_runs(code: str, environment: ProgramEnvironment) -> None:
    names = dict(environment.values)
    started = time.perf_counter()
    with nothing_reached():
        result = environment.step(code)
    assert result.error
    assert time.perf_counter() - started < 1.0
    assert (result.output, result.encodings) == ("", ())
    assert environment.values == names
    assert len(environment.findings) == 0
    assert isinstance(environment.state.vision, BoxVision)
    assert environment.state.vision.calls == []


@pytest.mark.parametrize("kind", [kind for kind in STOPPED if kind != "fuel"])
def test_programs_that_grow_are_stopped_by_a_limit(kind: str) -> None:
    environment = make_environment(limits=Limits(results=500, output=10_000))
    tracemalloc.start()
    with nothing_reached():
        result = environment.step(STOPPED[kind])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.error
    assert peak < 64 * 1024**2


def test_fuel_ends_a_program() -> None:
    environment = make_environment(limits=Limits(fuel=150))
    result = environment.step('a = segment("brainstem", v1<MOD>)\nb = segment("brainstem", v2<MOD>)')
    assert "does too much" in result.error
    assert "does too much" in environment.step("x = 1\n" * 100).error


def test_memory_is_refused_before_it_is_taken() -> None:
    environment = make_environment(limits=Limits(result_bytes=20_000))
    result = environment.step('roi = segment("brainstem", v1<MOD>)')
    assert "too much memory" in result.error
    assert isinstance(environment.state.vision, BoxVision)
    assert environment.state.vision.calls == []
    environment = make_environment(limits=Limits(total_bytes=60_000))
    assert "too much memory" in environment.step('x = segment("brainstem", v1<MOD>)\n' * 20).error
    environment = make_environment(limits=Limits(given_bytes=20_000))
    code = 'x = segment("brainstem", v1<MOD>, v2<MOD>)\nshow(x)\nshow(fill(x))'
    assert "too large together" in environment.step(code).error
    environment = make_environment(limits=Limits(total_bytes=1_000_000))
    assert "too much memory" in environment.step("x = pad(v1, 9)\n" * 100).error
    environment = make_environment(limits=Limits(result_bytes=40_000))
    assert "too much memory" in environment.step('x = dilate(segment("brainstem", v1<MOD>), 20)').error


def test_the_package_calls_neither_eval_nor_exec(repository: Path) -> None:
    for path in sorted((repository / "vp_model" / "program").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__", "getattr", "setattr"), path


def test_no_builtin_is_an_operation_but_print() -> None:
    assert set(OPERATIONS) & set(dir(builtins)) == {"print"}


pieces = st.sampled_from(
    [
        *OPERATIONS,
        *(f"{name}(" for name in OPERATIONS),
        *[line + "\n" for program in PROGRAMS for line in program.splitlines()],
        *[code for codes in REFUSED.values() for code in codes if len(code) < 60],
        "roi", "v1", "v1<MOD>", "<MOD>", "x", " = ", ", ", "(", ")", "[0]", "\n", "    ", ":", '"', "'", '"brainstem"',
        "1", "0", "1.5", " + ", " - ", " * ", " / ", " < ", " == ", "-", "if ", "for ", " in ", "else:", "not ",
        " and ", 'f"', "{", "}", ":.1f", ".", "__", "@", "\\", "lambda", "import ", "é", "ｖ", "\x00",
    ]
)  # fmt: skip
fuzzing = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@fuzzing
@given(st.lists(pieces, max_size=14).map("".join))
@example("")
@example("x = 1\nx = v1")
def test_pieces_of_programs_in_any_order_never_escape(code: str) -> None:
    environment = make_environment(limits=Limits(fuel=2_000))
    with nothing_reached():
        result = environment.step(code)
    assert isinstance(result.error, str)
    assert set(environment.types) == set(environment.values)


@settings(max_examples=1000, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused_with_a_program_error(code: str) -> None:
    try:
        parse(code)
    except ProgramError as error:
        assert str(error)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_mutations_of_good_programs_never_escape(data: st.DataObject) -> None:
    code = data.draw(st.sampled_from(PROGRAMS))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(code)))
        length = data.draw(st.integers(0, 8))
        code = code[:place] + data.draw(st.one_of(pieces, st.text(max_size=3))) + code[place + length :]
    environment = make_environment(limits=Limits(fuel=2_000))
    with nothing_reached():
        result = environment.step(code)
    assert isinstance(result.error, str)


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    return make_tokenizer()


SECONDS = 30.0
"""Bound of one fuzzed program: morphology with a radius of 99 mm on the head of 24 mm takes some seconds of it."""
BYTES = 1024**3


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), lines=st.integers(1, 6))
def test_programs_that_the_grammar_makes_end_in_bounded_time_and_memory(
    tokenizer: LLTokenizer, seed: int, lines: int
) -> None:
    """Every line parses and type-checks; running it ends in a result or in an error of the language."""
    chance = random.Random(seed)
    writer = ProgramWriter(make_environment().known)
    for _ in range(lines):
        writer.accept(sample(tokenizer, writer.grammar(), chance))
    while not writer.complete:
        writer.accept(sample(tokenizer, writer.grammar(), chance))
    environment = make_environment(limits=Limits(fuel=3_000, result_bytes=BYTES // 2, total_bytes=BYTES))
    environment.check(writer.text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with nothing_reached():
        result = environment.step(writer.text)
    assert time.perf_counter() - started < SECONDS
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 2 * BYTES
    assert isinstance(result.error, str)
    assert set(environment.types) == set(environment.values)


@settings(fuzzing, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_soup_of_the_tokenizers_tokens_never_escapes(tokenizer: LLTokenizer, data: st.DataObject) -> None:
    """What an unconstrained model might write: any tokens in any order."""
    count = tokenizer.vocab_size
    tokens = data.draw(st.lists(st.integers(0, count - 1), max_size=30))
    code = "".join("<MOD>" if token == 0 else tokenizer.decode_bytes([token]).decode("latin-1") for token in tokens)
    environment = make_environment(limits=Limits(fuel=2_000))
    with nothing_reached():
        result = environment.step(code)
    assert isinstance(result.error, str)


names = st.sampled_from(["roi", "other", "size", "v1", "v2", "when"])
arguments = st.one_of(
    names,
    st.integers(-(10**9), 10**9).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(
        ['"left"', '"axial"', '"mm3"', '"RAS"', '"left-right"', '"volume"', '"brainstem"', "v1<MOD>", "True", '"x"']
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(OPERATIONS)), st.lists(arguments, max_size=5))
def test_operations_on_any_arguments_give_a_value_or_an_error_of_the_language(name: str, given: list[str]) -> None:
    """Each operation, with arguments of the wrong kind, number and size as often as right ones."""
    environment = make_environment(limits=Limits(fuel=2_000, result_bytes=64 * 1024**2, total_bytes=256 * 1024**2))
    prepared = environment.step(
        'roi = segment("brainstem", v1<MOD>)\nother = segment("left hippocampus", v1<MOD>)\n'
        "size = volume(roi)\nwhen = latest(roi)\n"
    )
    assert prepared.error == ""
    with nothing_reached():
        result = environment.step(f"x = {name}({', '.join(given)})")
    assert isinstance(result.error, str)


def test_empty_regions_pass_through_every_operation() -> None:
    """A structure that was not found is a finding: no operation fails on it, whatever it measures."""
    start = (
        'roi = segment("brainstem", v1<MOD>)\nother = segment("left hippocampus", v1<MOD>)\n'
        "size = volume(roi)\nlevel = mean_intensity(roi, v1)\n"
    )
    for name in OPERATIONS:
        for boxes in ({}, {"brainstem": BOXES["brainstem"]}, {"left hippocampus": BOXES["left hippocampus"]}):
            environment = make_environment(boxes=boxes)
            assert environment.step(start).error == ""
            line = example_line(name)
            result = environment.step(line)
            assert result.error == "" or name in ("align_to", "assemble", "per_year", "in_lobe"), (name, result.error)
            assert name != "in_lobe" or result.error == "" or "anatomy around it was not found" in result.error
