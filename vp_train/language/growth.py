"""Beginning α from a checkpoint that knows fewer names or has fewer layers: what it has learned is kept as it is."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from torch import nn

from vp_model.checkpoint import LANGUAGE_FILE, TOKENIZER_FILE
from vp_model.language.model import LanguageModel
from vp_model.language.reading import marks
from vp_model.language.tokens import load_tokenizer

NOISE = 0.01
"""Deviation of what tells new tokens apart at the start."""
LAYER = "decoder.layers."


def grown_tokenizer(folder: Path, known: Collection[str]) -> Tokenizer:
    """The tokenizer of a checkpoint with a mark and an ending (`hippocampus"`) for each name that it lacks.

    Tokens keep their numbers; new ones follow.
    """
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    held = tokenizer.get_vocab()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks(known) if mark not in held])
    endings = [f'{name}"' for name in sorted(known, key=lambda name: (-len(name), name))]
    tokenizer.add_tokens(
        [AddedToken(ending, normalized=False, special=False) for ending in endings if ending not in held]
    )
    return tokenizer


def begin_from(model: LanguageModel, tokenizer: Tokenizer, folder: Path, known: Collection[str]) -> None:
    """Gives a new α the weights of a checkpoint with at most as many layers, of the same width.

    Its answers are the checkpoint's, but for tokens that the checkpoint lacks: new layers begin as the identity (what
    they add to the residual stream is zero), evenly between the old ones; new names begin as the mean of old ones.

    Args:
        tokenizer: made from the checkpoint's by `grown_tokenizer`.

    Raises:
        ValueError: the widths differ, or the checkpoint has more layers.
    """
    weights = {name: value.to(torch.float32) for name, value in load_file(folder / LANGUAGE_FILE).items()}
    old = 1 + max(int(name.removeprefix(LAYER).split(".")[0]) for name in weights if name.startswith(LAYER))
    new = model.config.layers
    if old > new or weights["vocabulary.weight"].shape[1] != model.config.hidden_size:
        raise ValueError("α can begin from a checkpoint of its own width with at most as many layers.")
    places = [number * new // old for number in range(old)]
    held = load_tokenizer(folder / TOKENIZER_FILE)
    state = model.state_dict()
    for name, value in state.items():
        if name.startswith(LAYER):
            number, _, rest = name.removeprefix(LAYER).partition(".")
            if int(number) in places:
                value.copy_(weights[f"{LAYER}{places.index(int(number))}.{rest}"])
            elif rest in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
                value.zero_()
        elif value.shape == weights[name].shape:
            value.copy_(weights[name])
        else:
            _widen(value, weights[name], tokenizer, held, known)
    model.load_state_dict(state)


def _widen(
    value: torch.Tensor, source: torch.Tensor, tokenizer: Tokenizer, held: Tokenizer, known: Collection[str]
) -> None:
    """Rows of tokens: those that the checkpoint has, and for a new mark or ending the mean of its like."""
    size = len(source)
    value[:size] = source
    for form in ("[{}]", '{}"'):
        tokens = [form.format(name) for name in known]
        before = [number for token in tokens if (number := held.token_to_id(token)) is not None]
        for number in filter(None, map(tokenizer.token_to_id, tokens)):
            if number >= size:
                nn.init.normal_(value[number], std=NOISE)
                if before:
                    value[number] += source[before].mean(dim=0)
