"""Whatever α prefers, what it writes parses, passes the checks and ends: weights have no say in what is allowed."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.vp_model.program_cases import PROGRAMS, TARGETS, VOLUMES, make_environment
from vp_model.language.config import LanguageConfig
from vp_model.language.decoding import MAXIMUM_LINES, DecodingError, Writer, make_constraint
from vp_model.language.held import Held
from vp_model.language.model import Written
from vp_model.language.tokens import END, MOD, train_tokenizer
from vp_model.program.checker import check
from vp_model.program.environment import initial_known
from vp_model.program.parser import parse

TOKENIZER = train_tokenizer([line for program in PROGRAMS for line in program.splitlines(keepends=True)], 420)
CONSTRAINT = make_constraint(TOKENIZER)
SECONDS = 60.0


class Whim(nn.Module):
    """In place of α: prefers tokens by chance, and some of them always."""

    def __init__(self, seed: int, spread: float, liked: dict[int, float], positions: int) -> None:
        super().__init__()
        self.config = LanguageConfig(layers=1, hidden_size=4, linear_size=4, heads=1, positions=positions)
        self._chance = torch.Generator().manual_seed(seed)
        self._spread = spread
        self._liked = liked

    def forward(self, ids: torch.Tensor, *state: object, use_cache: bool) -> Written:
        logits = torch.randn(1, 1, TOKENIZER.get_vocab_size(), generator=self._chance) * self._spread
        for token, value in self._liked.items():
            logits[0, 0, token] += value
        return Written(logits, torch.randn(1, 1, 32, generator=self._chance), None)


def known_after(program: str) -> object:
    """What is known once a program has run: the constraint is rebuilt from the names defined so far."""
    environment = make_environment()
    assert environment.step(program, np.zeros((program.count(MOD), 32), np.float32)).error == ""
    return environment.known


HELD = Held("volume of the left hippocampus and the brainstem on 2024-03-01", VOLUMES, {"hippocampus", "brainstem"})
KNOWN = [initial_known(VOLUMES, TARGETS), initial_known(VOLUMES[:1], TARGETS), initial_known((), TARGETS)]
KNOWN += [known_after(program) for program in (PROGRAMS[0], PROGRAMS[4], PROGRAMS[9])]  # type: ignore[misc]
liked = st.dictionaries(st.integers(0, TOKENIZER.get_vocab_size() - 1), st.sampled_from([-20.0, 3.0, 20.0]), max_size=6)


@pytest.mark.requirement("every predicted program parses and only calls what exists with arguments that exist")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 8.0]), liked, st.integers(0, len(KNOWN) - 1), st.booleans())
def test_any_preference_ends_in_a_program_that_can_run_or_at_a_limit(
    seed: int, spread: float, preferred: dict[int, float], which: int, holding: bool
) -> None:
    known = KNOWN[which]
    model = Whim(seed, spread, {TOKENIZER.token_to_id("\n"): 4.0, TOKENIZER.token_to_id(END): 3.0, **preferred}, 600)
    writer = Writer(model, TOKENIZER, CONSTRAINT)  # type: ignore[arg-type]
    writer.read("x")
    started = time.perf_counter()
    try:
        written = writer.write(known, held=HELD if holding else None)
    except DecodingError as error:
        assert "tokens of this model" in str(error) or f"{MAXIMUM_LINES} lines" in str(error)
        return
    finally:
        assert time.perf_counter() - started < SECONDS
    check(parse(written.code), known)
    assert written.modulations.shape == (written.code.count(MOD), 32)
    assert written.code.count("\n") <= MAXIMUM_LINES


def test_logits_that_are_no_numbers_end_in_an_error_of_decoding() -> None:
    model = Whim(0, float("nan"), {}, 600)
    with pytest.raises(DecodingError, match="no finite numbers"):
        Writer(model, TOKENIZER, CONSTRAINT).read("x")  # type: ignore[arg-type]


def test_a_program_that_goes_on_for_ever_ends_at_the_limit_of_lines() -> None:
    line = TOKENIZER.encode("print(True)\n", add_special_tokens=False).ids
    assert TOKENIZER.decode(line) == "print(True)\n"

    class Again(Whim):
        def forward(self, ids: torch.Tensor, *state: object, use_cache: bool) -> Written:
            place = self._given % len(line)
            self._given += 1
            logits = torch.zeros(1, 1, TOKENIZER.get_vocab_size())
            logits[0, 0, line[place]] = 1.0
            return Written(logits, torch.zeros(1, 1, 32), None)

        _given = 0

    writer = Writer(Again(0, 0.0, {}, 100_000), TOKENIZER, CONSTRAINT)  # type: ignore[arg-type]
    writer.read("x")
    with pytest.raises(DecodingError, match=f"not finished after {MAXIMUM_LINES} lines"):
        writer.write(KNOWN[0])


def test_a_sequence_that_is_too_long_for_the_model_is_refused_in_words() -> None:
    writer = Writer(Whim(0, 1.0, {}, 8), TOKENIZER, CONSTRAINT)  # type: ignore[arg-type]
    with pytest.raises(DecodingError, match="longer than the 8 tokens of this model"):
        writer.read("segment the left hippocampus and the right one, please, on all of the images")
