"""α writes a step: token by token, the most probable of those that the grammar allows.

The grammar is made anew for each line from the names defined so far, so that every line parses and calls only what
exists with arguments that exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance import numpy as bitmasks
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from vp_model.language.asked import segmented_in
from vp_model.language.held import Held
from vp_model.language.model import LanguageModel
from vp_model.language.saved import saved_volumes
from vp_model.language.state import encode
from vp_model.language.tokens import END, MOD, NEXT
from vp_model.program.checker import Known
from vp_model.program.writer import ProgramWriter

MAXIMUM_LINES = 60
FORCED_CANDIDATES = 8
SEGMENTED = re.compile(r'\bsegment\("(?P<region>[^"]+)", (?P<volumes>[^)]*)\)')
VOLUME = re.compile(r"\w+(?=<MOD>)")
ALTERNATIVES = 6
"""Second choices that are tried where a line contradicts its prompt."""
TASK, REFUSAL, FIRST_LINES = 'task("', 'refuse("', 16
"""Beginnings of first lines, each of which is one token; how many tokens are tried for one that agrees."""
MISSING = frozenset({'refuse("missing image")', 'refuse("missing session")'})
COMPILED = 64
"""Grammars that are kept compiled."""


class DecodingError(RuntimeError):
    """α did not come to an end within its limits, the sequence is too long for it, or its weights are damaged."""


@dataclass(frozen=True, eq=False)
class WrittenStep:
    """One step of a program."""

    code: str
    modulations: NDArray[np.float32]
    """(k, d): φ of each `<MOD>`, in order."""
    final: bool
    """α wrote the token that ends the program, not the one that asks for feedback."""


class _Impossible(Exception):
    """No program can answer: the message is a reason of `refuse`."""


@dataclass(frozen=True)
class _Choice:
    """A token of a line at which the grammar left several: its place, the second best, and by how much it was worse."""

    place: int
    second: int
    margin: float


@dataclass(frozen=True, eq=False)
class _Line:
    """A line without its newline, or the id of an ending; its tokens, choices, and φ of each `<MOD>`."""

    line: str | int
    tokens: list[int]
    choices: list[_Choice]
    conditions: list[NDArray[np.float32]]

    def agrees(self, held: Held, before: Sequence[str]) -> bool:
        return held.may_end(before) if isinstance(self.line, int) else held.agrees(self.line, before)


@dataclass(frozen=True, eq=False)
class _Moment:
    """Where a conversation was: tokens in the cache, tokens in all, and what comes next."""

    cached: int
    length: int
    logits: torch.Tensor


class Writer:
    """α in the middle of a conversation: its cache grows with each state read and each token written."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, constraint: LLTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._constraint = constraint
        self._cache: Any = None
        self._logits = torch.empty(0)
        self._length = 0
        self._end = tokenizer.token_to_id(END)
        self._next = tokenizer.token_to_id(NEXT)
        self._mod = tokenizer.token_to_id(MOD)

    def read(self, text: str, encodings: Sequence[NDArray[np.float32]] = ()) -> None:
        """Adds text to the state, after the encodings ε (each (n, b)) that came with it."""
        ids = encode(self._tokenizer, text)
        embedded = None
        if encodings:
            embedded = torch.from_numpy(np.concatenate(encodings).astype(np.float32))[None]
        self._advance(ids, embedded)

    def write(self, known: Known, wanted: Counter[str] | None = None, held: Held | None = None) -> WrittenStep:
        """Writes a step. All structures are looked for in the same volumes.

        Args:
            known: names with their types, regions and dates that the code may refer to.
            wanted: how often each region may be segmented (`vp_model.language.wanted`); None: as α likes.
            held: what each line must agree with; None: nothing.

        Raises:
            DecodingError: no end within the limits.
        """
        program = ProgramWriter(known)
        left = None if wanted is None else wanted.copy()
        if left is not None:
            program.narrow(frozenset(left), ())
        conditions: list[NDArray[np.float32]] = []
        lines: list[str] = []
        for _ in range(MAXIMUM_LINES):
            endings = (END, NEXT) if program.complete else ()
            try:
                written = self._agreeing(program, endings, lines, held)
            except _Impossible as impossible:
                return WrittenStep(f'refuse("{impossible}")\n', _stacked([], self._model), True)
            line = written.line
            if isinstance(line, int):
                return WrittenStep(program.text, _stacked(conditions, self._model), line == self._end)
            conditions += written.conditions
            lines.append(line)
            program.accept(line)
            if (segmented := SEGMENTED.search(line)) is not None:
                region, volumes = segmented["region"], tuple(VOLUME.findall(segmented["volumes"]))
                if left is not None:
                    left[region] -= 1
                program.narrow(known.regions if left is None else frozenset(+left), volumes)
        raise DecodingError(f"The program was not finished after {MAXIMUM_LINES} lines.")

    def _agreeing(self, program: ProgramWriter, endings: tuple[str, ...], lines: list[str], held: Held | None) -> _Line:
        """The next line; where it contradicts what is held, one that does not, if it is found: the line with what it
        copied wrongly put right, else the nearest. Nearest is what follows when, at the token of which α was least
        sure, its second choice is taken instead.
        """
        start = _Moment(self._cache_length(), self._length, self._logits)
        first = self._line(program.grammar(endings))
        if held is None or first.agrees(held, lines):
            return first
        if isinstance(first.line, int):
            # Where α has no further structure to segment, its program ends as it would have.
            further = self._line(program.grammar())
            if isinstance(further.line, str) and (segmented_in([further.line]) or saved_volumes([further.line])):
                if further.agrees(held, lines):
                    return further
                for text in held.mended(further.line, lines):
                    self._return_to(start)
                    mended = self._forced(program.grammar(), encode(self._tokenizer, f"{text}\n"))
                    if mended is not None:
                        return mended
            self._return_to(start)
            return first
        if not lines and (beginning := self._other_beginning(first.line, program.grammar(endings), start, held)):
            return beginning
        if missing := held.impossible(first.line, lines):
            raise _Impossible(missing)
        for text in held.mended(first.line, lines):
            self._return_to(start)
            mended = self._forced(program.grammar(endings), encode(self._tokenizer, f"{text}\n"))
            if mended is not None:
                return mended
        for choice in sorted(first.choices, key=lambda choice: choice.margin)[:ALTERNATIVES]:
            self._return_to(start)
            other = self._line(program.grammar(endings), [*first.tokens[: choice.place], choice.second])
            if other.agrees(held, lines):
                return other
        if held.twice(first.line, lines):
            raise _Impossible("not understood")
        self._return_to(start)
        return self._line(program.grammar(endings), first.tokens)

    def _other_beginning(self, first: str, grammar: str, start: _Moment, held: Held) -> _Line | None:
        """The most probable first line that agrees, in place of one that does not; a task in place of a refusal that
        misses what is there.
        """
        beginnings = (TASK,) if first in MISSING else (TASK, REFUSAL)
        for token in start.logits.topk(FIRST_LINES).indices.tolist():
            if self._tokenizer.decode([token], skip_special_tokens=False).startswith(beginnings):
                self._return_to(start)
                line = self._forced(grammar, [int(token)])
                if line is not None and line.agrees(held, ()):
                    return line
        self._return_to(start)
        return None

    def _forced(self, grammar: str, tokens: list[int]) -> _Line | None:
        """A line of these tokens; None where the grammar does not allow it."""
        if _compiled(self._constraint, grammar).deep_copy().validate_tokens(tokens) < len(tokens):
            return None
        return self._line(grammar, tokens)

    def _line(self, grammar: str, forced: Sequence[int] = ()) -> _Line:
        """One line without its newline, or the id of an ending.

        Args:
            forced: tokens with which it begins.
        """
        matcher = _compiled(self._constraint, grammar).deep_copy()
        mask = bitmasks.allocate_token_bitmask(1, self._constraint.vocab_size)
        found = _Line("", [], [], [])
        while not matcher.is_accepting():
            place = len(found.tokens)
            if place < len(forced):
                token = forced[place]
            else:
                bitmasks.fill_next_token_bitmask(matcher, mask)
                allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: self._logits.shape[-1]].astype(bool)
                token = self._most_probable(allowed, matcher, found.choices, place)
            if not matcher.consume_token(token):
                raise DecodingError("The constraint refused a token that it allowed.")
            if token in (self._end, self._next):
                return _Line(token, [], found.choices, [])
            phi = self._advance([token])
            if token == self._mod:
                found.conditions.append(phi)
            found.tokens.append(token)
        text = self._tokenizer.decode(found.tokens, skip_special_tokens=False)
        return _Line(text.removesuffix("\n"), found.tokens, found.choices, found.conditions)

    def _most_probable(self, allowed: NDArray[np.bool_], matcher: LLMatcher, choices: list[_Choice], place: int) -> int:
        """The token that comes next; where there were several, the second is noted in `choices`.

        Where the grammar forces text, llguidance allows one tokenization of it alone; α may know another.
        """
        if allowed.sum() == 1:
            for token in self._logits.topk(FORCED_CANDIDATES).indices.tolist():
                if matcher.validate_tokens([token]) == 1:
                    return int(token)
            return int(allowed.argmax())
        best = self._logits.masked_fill(~torch.from_numpy(allowed), -torch.inf).topk(2)
        choices.append(_Choice(place, int(best.indices[1]), float(best.values[0] - best.values[1])))
        return int(best.indices[0])

    def _cache_length(self) -> int:
        return 0 if self._cache is None else int(self._cache.get_seq_length())

    def _return_to(self, moment: _Moment) -> None:
        """Forgets what was read and written since a moment."""
        if self._cache is not None and (read_since := self._cache_length() - moment.cached):
            self._cache.crop(-read_since)
        self._length, self._logits = moment.length, moment.logits

    @torch.inference_mode()
    def _advance(self, ids: list[int], encodings: torch.Tensor | None = None) -> NDArray[np.float32]:
        self._length += len(ids) + (0 if encodings is None else encodings.shape[1])
        limit = self._model.config.positions
        if self._length > limit:
            raise DecodingError(f"Prompt, program and feedback are longer than the {limit} tokens of this model.")
        result = self._model(torch.tensor([ids]), encodings, self._cache, use_cache=True)
        self._cache = result.cache
        self._logits = result.logits[0, -1].float()
        if not bool(torch.isfinite(self._logits).all()):
            raise DecodingError("The language model gives no finite numbers: its weights are damaged.")
        phi: NDArray[np.float32] = result.phi[0, -1].float().numpy()
        return phi


@lru_cache(maxsize=COMPILED)
def _compiled(constraint: LLTokenizer, grammar: str) -> LLMatcher:
    """Compiling costs more than writing the line, and lines that define no name leave the grammar as it is."""
    matcher = LLMatcher(constraint, LLMatcher.grammar_from_lark(grammar))
    if matcher.is_error():
        raise DecodingError(f"The grammar of the next line cannot be compiled: {matcher.get_error()}")
    return matcher


def make_constraint(tokenizer: Tokenizer) -> LLTokenizer:
    """The tokenizer as llguidance needs it. Making it takes a moment: make it once."""
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    return llguidance.hf.from_tokenizer(wrapped, n_vocab=tokenizer.get_vocab_size())


def _stacked(conditions: list[NDArray[np.float32]], model: LanguageModel) -> NDArray[np.float32]:
    if not conditions:
        return np.zeros((0, model.config.condition_size), np.float32)
    return np.stack(conditions)
