"""The tokenizer: special tokens, training of the bundled one, and the LLaMA-2 tokenizer of who has it.

The bundled tokenizer is a byte-level BPE over prompts and programs: nothing is out of vocabulary, and every digit is a
token of its own, so that numbers and dates are copied, not remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from vp_model.language.llama import read_json, read_sentencepiece

PAD, END, MOD, SESSION, VOLUME, PROMPT, READING, CODE, FEEDBACK, ENCODING = (
    "<PAD>",
    "</s>",
    "<MOD>",
    "<DATE>",
    "<VOL>",
    "<PROMPT>",
    "<READ>",
    "<CODE>",
    "<OUT>",
    "<ENC>",
)
NEXT = "<NEXT>"
"""Ends a step whose output α wants to read before it goes on."""
SPECIAL = (PAD, END, MOD, SESSION, VOLUME, PROMPT, READING, CODE, FEEDBACK, ENCODING, NEXT)


class TokenizerError(ValueError):
    """The tokenizer file cannot be used; the message says why."""


def train_tokenizer(
    texts: Iterable[str], size: int, marks: Sequence[str] = (), fragments: Sequence[str] = ()
) -> Tokenizer:
    """A byte-level BPE with `size` tokens, the special ones among them.

    Args:
        marks: of the reading of prompts: special tokens beside the others, which no program can hold.
        fragments: pieces of code that are one token each, so that programs are short.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    tokenizer.add_tokens([AddedToken(fragment, normalized=False, special=False) for fragment in fragments])
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """A `tokenizer.json`: the bundled one, or a LLaMA-2 one, to which the special tokens are added.

    Also the `tokenizer.model` of LLaMA-2's release; `Tokenizer.save` writes it as the `tokenizer.json` of a checkpoint.

    Raises:
        TokenizerError: the file is missing or no tokenizer.
    """
    if not path.is_file():
        raise TokenizerError(f"{path} is missing: a checkpoint holds its tokenizer as tokenizer.json.")
    try:
        tokenizer = read_sentencepiece(path) if path.suffix == ".model" else read_json(path)
    except ValueError as error:
        raise TokenizerError(f"{path} is no tokenizer that can be read: {error}") from error
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    missing = [token for token in SPECIAL if token not in special]
    if missing:
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in missing])
    return tokenizer
