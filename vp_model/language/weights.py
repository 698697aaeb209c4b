"""Weights of α in a checkpoint folder: `language.safetensors`, half precision on disk, single precision in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel

FILE = "language.safetensors"
_BY_TOKEN = ("vocabulary.weight", "decoder.embed_tokens.weight")
"""Weights with one row for each token."""


def load_language(config: Mapping[str, Any], folder: Path, vocabulary: int) -> LanguageModel:
    """α with the weights of a checkpoint folder, in evaluation mode.

    Args:
        config: what `LanguageConfig.as_dict` wrote.
        vocabulary: number of tokens of the checkpoint's tokenizer.

    Raises:
        ValueError: the configuration is none, the weights cannot be read, or they fit neither it nor the tokenizer; the
            message names the first weight that does not.
    """
    try:
        model = LanguageModel(LanguageConfig(**config), vocabulary)
    except TypeError as error:
        raise ValueError(f"The language configuration does not fit: {error}.") from error
    try:
        found = load_file(folder / FILE)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{FILE} cannot be read: {error}.") from error
    problem = _mismatch(model.state_dict(), found)
    if problem:
        raise ValueError(f"{FILE} {problem}")
    model.load_state_dict({name: value.float() for name, value in found.items()})
    return model.eval()


def _mismatch(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str:
    """What of the weights does not fit, or an empty text."""
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        return f"lacks {missing[0]}, which the configuration asks for."
    if unknown:
        return f"holds {unknown[0]}, which the configuration does not know."
    for name, value in expected.items():
        shape = tuple(found[name].shape)
        if name in _BY_TOKEN and shape[1:] == tuple(value.shape[1:]) and shape != tuple(value.shape):
            return f"was trained with {shape[0]} tokens, but the tokenizer has {value.shape[0]}."
        if shape != tuple(value.shape):
            return f"holds {name} of shape {shape}, but the configuration asks for {tuple(value.shape)}."
    return ""
