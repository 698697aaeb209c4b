"""Examples as token sequences: the state, then the target program, and where φ is read."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vp_model.language.state import encode, initial_text
from vp_model.language.tokens import END, MOD
from vp_train.tasks.scene import Example

IGNORED = -100
SEGMENT_CALL = re.compile(r'segment\("([^"]+)"')


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """One example: ids, the tokens to predict (`IGNORED` over the state), and the region of each `<MOD>`."""

    ids: list[int]
    targets: list[int]
    regions: list[str]


@dataclass(frozen=True, eq=False)
class Batch:
    ids: torch.Tensor
    """(b, t)"""
    targets: torch.Tensor
    """(b, t): the token after each position, `IGNORED` where none is to be predicted."""
    condition_places: torch.Tensor
    """(m, 2): row and position of each `<MOD>` whose region has a condition."""
    conditions: torch.Tensor
    """(m, d): φ that is to be written there."""


def to_sequence(
    tokenizer: Tokenizer, example: Example, known: Collection[str], chance: random.Random | None = None
) -> TokenSequence:
    """Tokens never cross a line: at inference the grammar is made anew for each."""
    state = encode(tokenizer, initial_text(example.prompt, example.scene.volumes, known, chance))
    program: list[int] = []
    regions: list[str] = []
    mod = _identifier(tokenizer, MOD)
    for line in example.program.splitlines(keepends=True):
        ids = encode(tokenizer, line)
        call = SEGMENT_CALL.search(line)
        regions += [call.group(1) if call else ""] * ids.count(mod)
        program += ids
    program.append(_identifier(tokenizer, END))
    ids = state + program
    targets = [IGNORED] * (len(state) - 1) + program + [IGNORED]
    return TokenSequence(ids, targets, regions)


def to_batch(
    sequences: Sequence[TokenSequence], tokenizer: Tokenizer, table: Mapping[str, NDArray[np.float32]], size: int
) -> Batch:
    """Pads at the end; `table` gives φ (after SiLU) of each region, of `size` numbers."""
    length = max(len(sequence.ids) for sequence in sequences)
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    targets = torch.full((len(sequences), length), IGNORED, dtype=torch.long)
    places: list[tuple[int, int]] = []
    conditions: list[NDArray[np.float32]] = []
    mod = tokenizer.token_to_id(MOD)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
        targets[row, : len(sequence.targets)] = torch.tensor(sequence.targets)
        positions = [position for position, token in enumerate(sequence.ids) if token == mod]
        for position, region in zip(positions, sequence.regions, strict=True):
            if region in table:
                places.append((row, position))
                conditions.append(table[region])
    return Batch(
        ids,
        targets,
        torch.tensor(places, dtype=torch.long).reshape(-1, 2),
        torch.from_numpy(np.stack(conditions)) if conditions else torch.zeros(0, size),
    )


def _identifier(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"The tokenizer lacks the special token {token}.")
    return int(found)
