"""The LLaMA-2 tokenizer of who has one: its `tokenizer.json`, or the `tokenizer.model` of the release (SentencePiece).

A state and a program are tokenised in pieces, and put together again byte by byte. The blank that LLaMA-2 sets before
every text would stand at the start of each piece and line, so it is left out: text → tokens → text is the identity.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

BLANK = "▁"
"""Stands for a space in LLaMA's pieces."""
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
"""Types of pieces in a SentencePiece model (sentencepiece_model.proto)."""
_VARINT, _LONG, _BYTES, _SINGLE = 0, 1, 2, 5
"""Wire types of protocol buffers."""
_PAIR_ENCODING = 2
"""`model_type` of a byte-pair encoding in a SentencePiece model's trainer specification."""


def read_json(path: Path) -> Tokenizer:
    """A `tokenizer.json` of the tokenizers library; one of LLaMA's kind without its leading blank.

    Raises:
        ValueError: the file is no tokenizer.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
        changed = _without_leading_blank(data) if isinstance(data, dict) else False
        return Tokenizer.from_str(json.dumps(data) if changed else text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(str(error)) from error


def read_sentencepiece(path: Path) -> Tokenizer:
    """The `tokenizer.model` of LLaMA-2: byte-pair encoding with bytes for what is not in its vocabulary.

    Raises:
        ValueError: the file is no such model.
    """
    try:
        pieces = list(_pieces(path.read_bytes()))
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("it is no SentencePiece model") from error
    if len({text for text, _, _ in pieces}) != len(pieces) or not any(kind == _BYTE for _, _, kind in pieces):
        raise ValueError("it is no SentencePiece model with byte fallback, as LLaMA-2's is")
    vocabulary = {text: number for number, (text, _, _) in enumerate(pieces)}
    unknown = next((text for text, _, kind in pieces if kind == _UNKNOWN), None)
    kinds = {_UNKNOWN, _CONTROL, _USER}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[text],
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind != _USER,
            }
            for text, _, kind in pieces
            if kind in kinds
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(pieces, vocabulary),
        },
    }
    return Tokenizer.from_str(json.dumps(data))


def _without_leading_blank(data: dict[str, Any]) -> bool:
    """Takes out what sets a blank before a text and what strips it again; says whether there was any."""
    before = json.dumps(data, sort_keys=True)
    normalizer, decoder, splitter = data.get("normalizer"), data.get("decoder"), data.get("pre_tokenizer")
    for part, key in ((normalizer, "normalizers"), (decoder, "decoders")):
        if isinstance(part, dict) and part.get("type") == "Sequence":
            part[key] = [step for step in part[key] if not _sets_a_blank(step)]
    for part in (splitter, *((decoder or {}).get("decoders", ())), decoder):
        if isinstance(part, dict) and part.get("type") == "Metaspace":
            part["prepend_scheme"] = "never"
    return json.dumps(data, sort_keys=True) != before


def _sets_a_blank(step: dict[str, Any]) -> bool:
    return (step.get("type") == "Prepend" and step.get("prepend") == BLANK) or (
        step.get("type") == "Strip" and step.get("content") == " "
    )


def _merges(pieces: list[tuple[str, float, int]], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs that become a piece, the piece of the highest score first, as SentencePiece merges them."""
    joined = []
    for text, score, kind in pieces:
        if kind == _NORMAL and len(text) > 1:
            splits = ((text[:place], text[place:]) for place in range(1, len(text)))
            known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
            joined += [(-score, vocabulary[left], vocabulary[right], left, right) for left, right in known]
    return [(left, right) for *_, left, right in sorted(joined)]


def _pieces(content: bytes) -> Iterator[tuple[str, float, int]]:
    """(text, score, type) of each piece of a SentencePiece model (field 1; the trainer's specification is field 2)."""
    for field, value in _fields(content):
        if field == 2 and isinstance(value, bytes):
            kinds = [number for key, number in _fields(value) if key == 3]
            if kinds and kinds[-1] != _PAIR_ENCODING:
                raise ValueError("it is no byte-pair encoding, as LLaMA-2's is")
        if field == 1 and isinstance(value, bytes):
            entries = dict(_fields(value))
            text, score = entries.get(1, b""), entries.get(2, b"\0\0\0\0")
            if not isinstance(text, bytes) or not isinstance(score, bytes):
                raise ValueError("it is no SentencePiece model")
            kind = entries.get(3, _NORMAL)
            yield text.decode("utf-8"), struct.unpack("<f", score)[0], kind if isinstance(kind, int) else _UNUSED


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of each field of a protocol buffer's message."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        wire, field = key & 7, key >> 3
        if wire == _VARINT:
            number, place = _varint(content, place)
            yield field, number
            continue
        if wire == _BYTES:
            length, place = _varint(content, place)
        elif wire in (_LONG, _SINGLE):
            length = 8 if wire == _LONG else 4
        else:
            raise ValueError("it is no SentencePiece model")
        if place + length > len(content):
            raise ValueError("it is cut off")
        yield field, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if not byte & 128:
            return value, place
        if shift > 63:
            raise ValueError("it is no SentencePiece model")
