"""What decoding is constrained to is what the parser and the type checker accept."""

from __future__ import annotations

import random

import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.vp_model.program_cases import PROGRAMS, make_environment, make_matcher, make_tokenizer, tokenize
from vp_model.program.checker import Known
from vp_model.program.errors import ProgramError
from vp_model.program.grammar import grammar
from vp_model.program.operations import OPERATIONS
from vp_model.program.types import Type
from vp_model.program.writer import ProgramWriter, type_of_statement


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    return make_tokenizer()


@pytest.fixture(scope="module")
def known() -> Known:
    return make_environment().known


def accepted(tokenizer: LLTokenizer, text: str, line: str) -> bool:
    matcher = make_matcher(tokenizer, text)
    tokens = tokenize(tokenizer, line)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_matcher_accepts_every_line_of_a_target_program(tokenizer: LLTokenizer, known: Known, program: str) -> None:
    writer = ProgramWriter(known)
    for line in program.splitlines():
        assert accepted(tokenizer, writer.grammar(), line + "\n"), line
        writer.accept(line)
    assert writer.complete
    assert writer.text == program
    assert make_environment().step(program).error == ""


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_grammar_lets_through_parses_and_type_checks(
    tokenizer: LLTokenizer, known: Known, seed: int
) -> None:
    chance = random.Random(seed)
    writer = ProgramWriter(known)
    for _ in range(8):
        line = sample(tokenizer, writer.grammar(), chance)
        writer.accept(line)  # raises where the line does not parse, or does not fit
    while not writer.complete:
        writer.accept(sample(tokenizer, writer.grammar(), chance))
    environment = make_environment()
    environment.check(writer.text)
    environment.step(writer.text)


def sample(tokenizer: LLTokenizer, text: str, chance: random.Random) -> str:
    """A random line of the grammar: each token uniformly among those allowed, closing what is open when it is long."""
    matcher = make_matcher(tokenizer, text)
    tokens: list[int] = []
    for _ in range(2_000):
        if matcher.is_accepting():
            break
        mask = matcher.compute_logit_bias()
        allowed = [token for token, value in enumerate(mask) if value and token != 1]
        assert allowed, tokenizer.decode_str(tokens)
        if len(tokens) > 60:
            closing = [token for token in allowed if tokenizer.decode_bytes([token])[:1] in b')"\n]:']
            allowed = closing or allowed
        token = chance.choice(allowed)
        assert matcher.consume_token(token)
        tokens.append(token)
    return "".join("<MOD>" if token == 0 else tokenizer.decode_bytes([token]).decode() for token in tokens)


@pytest.mark.parametrize(
    "line",
    [
        'roi = segment("pancreas", v1<MOD>)',
        'roi = segment("brainstem", v1)',
        'roi = segment("brainstem", v9<MOD>)',
        'roi = segment("brainstem", v1<MOD>, v1<MOD>)',
        "show(v1)",
        "report('volume', 3)",
        'report("volume", 3)',
        'report("blood pressure", volume(roi))',
        "volume = 3",
        "v1 = 3",
        "if = 3",
        "x = unknown",
        "import os",
        "x = v1.features",
        'refuse("because")',
        'x = visit("1999-01-01")',
    ],
)
def test_matcher_refuses_what_does_not_exist_or_does_not_fit(tokenizer: LLTokenizer, known: Known, line: str) -> None:
    assert not accepted(tokenizer, grammar(known), line + "\n")


def test_center_of_mass_is_reported_from_a_point_only(tokenizer: LLTokenizer, known: Known) -> None:
    writer = ProgramWriter(known)
    writer.accept('roi = segment("brainstem", v1<MOD>)')
    assert accepted(tokenizer, writer.grammar(), 'report("center of mass", center_of_mass(roi))\n')
    assert not accepted(tokenizer, writer.grammar(), 'report("center of mass", volume(roi))\n')
    assert not accepted(tokenizer, writer.grammar(), 'report("volume", center_of_mass(roi))\n')


def test_endings_are_special_tokens_that_stand_for_a_line(tokenizer: LLTokenizer, known: Known) -> None:
    writer = ProgramWriter(known)
    matcher = make_matcher(tokenizer, writer.grammar(endings=("</s>",)))
    assert matcher.compute_logit_bias()[1]
    writer.accept('for when in visits(segment("brainstem", v1<MOD>)):')
    matcher = make_matcher(tokenizer, writer.grammar(endings=("</s>",)))
    assert not matcher.compute_logit_bias()[1]


def test_names_follow_the_statements(known: Known) -> None:
    assert type_of_statement('roi = segment("brainstem", v1<MOD>)', known) == {"roi": Type.ROI}
    assert type_of_statement("x = 3", known) == {"x": Type.NUMBER}
    assert type_of_statement('show(segment("brainstem", v1<MOD>))', known) == {}
    with pytest.raises(ProgramError, match="line 1"):
        type_of_statement("x = y", known)


def test_names_of_a_block_end_with_it(known: Known) -> None:
    writer = ProgramWriter(known)
    for line in (
        'roi = segment("brainstem", v1<MOD>)',
        "if volume(roi) > 1:",
        "    size = volume(roi)",
        "    shape = bounding_box(roi)",
        "else:",
        "    size = longest_diameter(roi)",
    ):
        writer.accept(line)
    writer.accept("print(size)")
    with pytest.raises(ProgramError, match="shape is not defined"):
        writer.accept("print(shape)")
    assert make_environment().check(writer.text) == {"roi": Type.ROI, "size": Type.QUANTITY}


def test_grammar_is_valid_without_regions_names_or_volumes(tokenizer: LLTokenizer) -> None:
    text = grammar(Known({}, frozenset()))
    assert LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(text), tokenizer) == ""
    assert accepted(tokenizer, text, 'refuse("not understood")\n')


def test_every_operation_can_be_written(tokenizer: LLTokenizer, known: Known) -> None:
    writer = ProgramWriter(known)
    writer.accept('roi = segment("brainstem", v1<MOD>)')
    text = writer.grammar()
    for name in OPERATIONS:
        assert f'"{name}("' in text, name
