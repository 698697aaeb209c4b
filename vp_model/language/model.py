"""α: a LLaMA-style decoder that writes code and, at `<MOD>`, the conditions φ of the vision network (paper, A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaModel

from vp_model.language.config import LanguageConfig


@dataclass(frozen=True, eq=False)
class Written:
    """What α makes of a sequence."""

    logits: torch.Tensor
    """(b, t, vocabulary): of the token after each position."""
    phi: torch.Tensor
    """(b, t, d): φ at each position; meant where the token is `<MOD>`."""
    cache: Any
    """Keys and values, to go on from."""


class LanguageModel(nn.Module):
    """α with its three projections: to the vocabulary, to φ, and from ε.

    φ is read at the position that follows `<MOD>`: the output of the decoder once it has read that token (A.1).
    """

    def __init__(self, config: LanguageConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = LlamaModel(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=config.hidden_size,
                intermediate_size=config.linear_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=config.positions,
                pad_token_id=0,
            )
        )
        self.vocabulary = nn.Linear(config.hidden_size, vocabulary, bias=False)
        self.condition = nn.Linear(config.hidden_size, config.condition_size)
        self.from_encoding = nn.Linear(config.encoding_size, config.hidden_size)

    def forward(
        self, ids: torch.Tensor, encodings: torch.Tensor | None = None, cache: Any = None, use_cache: bool = False
    ) -> Written:
        """Reads token ids (b, t), after what `cache` holds.

        Args:
            encodings: (b, e, encoding_size), read before the ids as embeddings: feedback of `encode`.
        """
        embedded = self.decoder.get_input_embeddings()(ids)
        if encodings is not None:
            embedded = torch.cat([self.from_encoding(encodings), embedded], dim=1)
        read = self.decoder(inputs_embeds=embedded, past_key_values=cache, use_cache=use_cache)
        hidden = read.last_hidden_state[:, -ids.shape[1] :]
        return Written(self.vocabulary(hidden), functional.silu(self.condition(hidden)), read.past_key_values)
