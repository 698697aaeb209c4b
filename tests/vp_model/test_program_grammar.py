"""What decoding is constrained to is what the parser and the type checker accept."""

from __future__ import annotations

import random

import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.vp_model.program_cases import (
    PROGRAMS,
    TARGETS,
    VOLUMES,
    make_environment,
    make_matcher,
    make_tokenizer,
    tokenize,
)
from vp_model.program.checker import Known, check
from vp_model.program.environment import initial_known
from vp_model.program.errors import ProgramError
from vp_model.program.grammar import grammar
from vp_model.program.operations import OPERATIONS
from vp_model.program.parser import parse
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


@pytest.mark.parametrize("seed", range(2, 26))
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


EXAMPLES = {
    "task": 'task("segmentation")',
    "segment": 'x = segment("brainstem", v1<MOD>, v2<MOD>)',
    "encode": "x = encode(v1<MOD>)",
    "visit": 'x = visit("2024-03-01")',
    "at": "x = at(roi, latest(roi))",
    "align_to": "x = align_to(roi, latest(other))",
    "brighter_than": "x = brighter_than(roi, v1, level)",
    "darker_than": "x = darker_than(roi, v1, 3.5)",
    "extent": 'x = extent(roi, "left-right")',
    "outermost": 'x = outermost(roi, "left")',
    "on_side": 'x = on_side(roi, "left", other)',
    "is_toward": 'x = is_toward(roi, "left", other)',
    "percentile_intensity": "x = percentile_intensity(roi, v1, 95)",
    "intensity_histogram": "x = intensity_histogram(roi, v1, 10)",
    "percent_brighter": "x = percent_brighter(roi, v1, level + sd_intensity(roi, v1))",
    "percent_darker": "x = percent_darker(roi, v1, 100)",
    "contrast_to_surrounding": "x = contrast_to_surrounding(roi, v1, 5)",
    "count": "x = count(components(roi))",
    "per_year": "x = per_year(size)",
    "in_unit": 'x = in_unit(size, "mm3")',
    "coordinate_of": 'x = coordinate_of(center_of_mass(roi), "left-right")',
    "crop": "x = crop(v1, roi, 20)",
    "crop_cavity": "x = crop_cavity(v1, 20)",
    "pad": "x = pad(v1, 10)",
    "resample": "x = resample(v1, 1)",
    "reorient": 'x = reorient(v1, "LPS")',
    "report": 'report("volume", size)',
    "save": "save(crop(v1, roi, 20))",
    "answer": 'answer("yes", roi)',
    "print": "print(size)",
    "refuse": 'refuse("not understood")',
    "located_in": "x = located_in(roi, other, roi)",
    "lobe_of": "x = lobe_of(roi)",
    "territory_of": "x = territory_of(roi)",
    "in_lobe": 'x = in_lobe(roi, "left frontal lobe")',
    "with_signal": 'x = with_signal(roi, other, "hyperintense", v1)',
    "signal_against": "x = signal_against(roi, other, v1)",
}
"""A line that calls each operation whose arguments are not plain from their types."""


def example_line(name: str) -> str:
    if name in EXAMPLES:
        return EXAMPLES[name]
    words = {Type.ROI: "roi", Type.VOLUME: "v1", Type.QUANTITY: "size", Type.POINT: "center_of_mass(roi)"}
    arguments = []
    for parameter in OPERATIONS[name].parameters:
        plain = parameter.choices[0] if parameter.choices else words.get(parameter.types[0], "2")
        arguments.append(f'"{plain}"' if parameter.choices else plain)
    call = f"{name}({', '.join(arguments)})"
    return call if OPERATIONS[name].result is Type.NOTHING else f"x = {call}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_can_be_written_and_passes_the_checks(
    tokenizer: LLTokenizer, written: tuple[ProgramWriter, str], name: str
) -> None:
    writer, text = written
    line = example_line(name)
    assert f"{name}(" in line
    assert accepted(tokenizer, text, line + "\n"), line
    check(parse(line), writer_known(writer))


@pytest.fixture(scope="module")
def written(known: Known) -> tuple[ProgramWriter, str]:
    writer = ProgramWriter(known)
    for line in (
        'roi = segment("brainstem", v1<MOD>)',
        'other = segment("hippocampus", v1<MOD>)',
        "size = volume(roi)",
        "level = mean_intensity(roi, v1)",
    ):
        writer.accept(line)
    return writer, writer.grammar()


def writer_known(writer: ProgramWriter) -> Known:
    return writer.places()[0].known


MISFITS = {
    "x = volume(roi) + longest_diameter(roi)": "cannot be added",
    "x = size + 1": "cannot be added",
    "x = percent_change(size, level)": "cannot be compared",
    "x = asymmetry(volume(roi), surface_area(roi))": "cannot be compared",
    'report("volume", longest_diameter(roi))': "takes a quantity in ml",
    'report("longest diameter", size)': "takes a quantity in mm",
    'report("bounding box", intensity_histogram(roi, v1, 3))': "takes a quantity in mm",
    'x = in_unit(size, "mm")': "cannot be written in mm",
    "x = brighter_than(roi, v1, size)": "threshold is an intensity",
    'report("annual volume change", per_year(longest_diameter(roi)))': "takes a quantity in ml/a",
    'report("volume", bounding_box(roi)[0])': "takes a quantity in ml",
}


@pytest.mark.parametrize("line", MISFITS)
def test_units_that_do_not_fit_are_neither_written_nor_run(
    tokenizer: LLTokenizer, written: tuple[ProgramWriter, str], line: str
) -> None:
    writer, text = written
    assert not accepted(tokenizer, text, line + "\n")
    with pytest.raises(ProgramError, match=MISFITS[line]):
        check(parse(line), writer_known(writer))


FITS = (
    'report("volume in mm3", in_unit(size, "mm3"))',
    'report("annual volume change", per_year(size - size))',
    'report("annual volume change", per_year(percent_change(size, size)))',
    'report("relative intensity", percent_of(level, mean_intensity(other, v1)))',
    'report("standard score", standard_score(roi, other, v1))',
    'report("oriented box", oriented_box(roi))',
    'report("left-right extent", bounding_box(roi)[0])',
    "x = level * 1.5",
    "if size > 3:",
    "if is_inside(roi, other) and size < volume(other):",
    'if not is_toward(roi, "left", other):',
    "x = direction_from(roi, other)",
)


@pytest.mark.parametrize("line", FITS)
def test_units_that_fit_are_written(tokenizer: LLTokenizer, written: tuple[ProgramWriter, str], line: str) -> None:
    writer, text = written
    assert accepted(tokenizer, text, line + "\n")
    check(parse(line + (" pass" if line.endswith(":") else "")), writer_known(writer))


def test_a_change_over_time_needs_two_sessions(known: Known) -> None:
    """The error stops a plan before anything runs, and says why."""
    one = initial_known(VOLUMES[:2], TARGETS)
    assert (one.sessions, known.sessions) == (1, 2)
    code = 'roi = segment("brainstem", v1<MOD>)\nreport("volume change", volume(roi) - volume(roi))\n'
    with pytest.raises(ProgramError, match=r"line 2: .*all volumes are of one session"):
        check(parse(code), one)
    check(parse(code), known)


def test_a_unit_that_depends_on_a_branch_is_left_to_the_run(tokenizer: LLTokenizer, known: Known) -> None:
    writer = ProgramWriter(known)
    for line in (
        'roi = segment("brainstem", v1<MOD>)',
        "if volume(roi) > 1:",
        "    size = volume(roi)",
        "else:",
        "    size = longest_diameter(roi)",
    ):
        writer.accept(line)
    text = writer.grammar()
    assert accepted(tokenizer, text, 'report("volume", size)\n')
    assert not accepted(tokenizer, text, "x = size + volume(roi)\n")
    writer.accept('report("volume", size)')
    assert "takes a quantity in ml" in make_environment().step(writer.text.replace("> 1", "> 900")).error
    assert make_environment().step(writer.text.replace("> 1", "> 0")).error == ""


def test_units_last_from_step_to_step() -> None:
    environment = make_environment()
    assert environment.step('roi = segment("brainstem", v1<MOD>)\nsize = volume(roi)\n').error == ""
    assert environment.known.units == {"size": "ml"}
    assert "cannot be added" in environment.step("x = size + longest_diameter(roi)").error
