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

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance import numpy as bitmasks
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from vp_model.language.model import LanguageModel
from vp_model.language.state import encode
from vp_model.language.tokens import END, MOD, NEXT
from vp_model.program.checker import Known
from vp_model.program.writer import ProgramWriter

MAXIMUM_LINES = 60
FORCED_CANDIDATES = 8
SEGMENTED = re.compile(r'\bsegment\("(?P<region>[^"]+)", (?P<volumes>[^)]*)\)')
VOLUME = re.compile(r"\w+(?=<MOD>)")
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


class Writer:
    """α in the middle of a conversation: its cache grows with each state read and each token written."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, constraint: LLTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._constraint = constraint
        self._cache: object | None = None
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

    def write(self, known: Known, wanted: Counter[str] | None = None) -> WrittenStep:
        """Writes a step. All structures are looked for in the same volumes.

        Args:
            known: names with their types, regions and dates that the code may refer to.
            wanted: how often each region may be segmented (`vp_model.language.wanted`); None: as α likes.

        Raises:
            DecodingError: no end within the limits.
        """
        program = ProgramWriter(known)
        left = None if wanted is None else wanted.copy()
        if left is not None:
            program.narrow(frozenset(left), ())
        conditions: list[NDArray[np.float32]] = []
        for _ in range(MAXIMUM_LINES):
            endings = (END, NEXT) if program.complete else ()
            line = self._line(program.grammar(endings), conditions)
            if isinstance(line, int):
                return WrittenStep(program.text, _stacked(conditions, self._model), line == self._end)
            program.accept(line)
            if (segmented := SEGMENTED.search(line)) is not None:
                region, volumes = segmented["region"], tuple(VOLUME.findall(segmented["volumes"]))
                if left is not None:
                    left[region] -= 1
                program.narrow(known.regions if left is None else frozenset(+left), volumes)
        raise DecodingError(f"The program was not finished after {MAXIMUM_LINES} lines.")

    def _line(self, grammar: str, conditions: list[NDArray[np.float32]]) -> str | int:
        """One line without its newline, or the id of an ending."""
        matcher = _compiled(self._constraint, grammar).deep_copy()
        mask = bitmasks.allocate_token_bitmask(1, self._constraint.vocab_size)
        written: list[int] = []
        while not matcher.is_accepting():
            bitmasks.fill_next_token_bitmask(matcher, mask)
            allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: self._logits.shape[-1]].astype(bool)
            token = self._most_probable(allowed, matcher)
            if not matcher.consume_token(token):
                raise DecodingError("The constraint refused a token that it allowed.")
            if token in (self._end, self._next):
                return token
            phi = self._advance([token])
            if token == self._mod:
                conditions.append(phi)
            written.append(token)
        text = self._tokenizer.decode(written, skip_special_tokens=False)
        return text.removesuffix("\n")

    def _most_probable(self, allowed: NDArray[np.bool_], matcher: LLMatcher) -> int:
        """Where the grammar forces text, llguidance allows one tokenization of it alone; α may know another."""
        if allowed.sum() == 1:
            for token in self._logits.topk(FORCED_CANDIDATES).indices.tolist():
                if matcher.validate_tokens([token]) == 1:
                    return int(token)
        return int(self._logits.masked_fill(~torch.from_numpy(allowed), -torch.inf).argmax())

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
