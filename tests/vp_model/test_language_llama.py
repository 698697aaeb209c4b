"""A LLaMA-2 tokenizer in place of the bundled one: both of its files, text unchanged there and back, α writing."""

from __future__ import annotations

import json
import struct
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.vp_model.program_cases import PROGRAMS, TARGETS, VOLUMES
from vp_model.language.config import LanguageConfig
from vp_model.language.decoding import Writer, make_constraint
from vp_model.language.llama import BLANK
from vp_model.language.model import Written
from vp_model.language.state import encode
from vp_model.language.tokens import MOD, SPECIAL, TokenizerError, load_tokenizer
from vp_model.program.environment import initial_known

LEARNED = 300
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@cache
def pieces() -> list[tuple[str, float, int]]:
    """(text, score, type) as LLaMA-2's: unknown, controls, bytes, pieces in the order of their merging, characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="never")
    lines = [line for program in PROGRAMS for line in program.splitlines()]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=LEARNED, show_progress=False))
    words = sorted(tokenizer.get_vocab(), key=lambda word: tokenizer.get_vocab()[word])
    merged = [word for word in words if len(word) > 1]
    single = [word for word in words if len(word) == 1]
    return [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        *((byte, 0.0, 6) for byte in BYTES),
        *((word, -float(rank), 1) for rank, word in enumerate([*merged, *single])),
    ]


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def released() -> bytes:
    rows = (
        message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind)
        for text, score, kind in pieces()
    )
    return b"".join(message(1, row) for row in rows) + message(2, b"\x18\x02")


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model, written field by field as sentencepiece_model.proto has it."""
    path = tmp_path_factory.mktemp("released") / "tokenizer.model"
    path.write_bytes(released())
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tokenizer.json` that transformers makes of LLaMA-2's: a blank before every text, stripped in decoding."""
    vocabulary = {text: number for number, (text, _, _) in enumerate(pieces())}
    merges = [
        (text[:place], text[place:])
        for text, _, kind in pieces()
        if kind == 1
        for place in range(1, len(text))
        if text[:place] in vocabulary and text[place:] in vocabulary
    ]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": pieces()[number][0], **special} for number in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": BLANK},
                {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
            "vocab": vocabulary, "merges": [" ".join(pair) for pair in merges],
        },
    }  # fmt: skip
    path = tmp_path_factory.mktemp("exported") / "tokenizer.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["sentencepiece", "exported"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.getfixturevalue(request.param))


def merged_by_score(text: str) -> list[int]:
    """SentencePiece's own rule, written down: the adjacent pair of the highest score joins, the leftmost first."""
    known = {word: (number, score) for number, (word, score, kind) in enumerate(pieces()) if kind == 1}
    parts = list(text.replace(" ", BLANK))
    while True:
        pairs = [(known[a + b][1], -place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in known]
        if not pairs:
            break
        place = -max(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    ids: list[int] = []
    for part in parts:
        ids += [known[part][0]] if part in known else [3 + byte for byte in part.encode()]
    return ids


@pytest.mark.parametrize("line", [line for program in PROGRAMS[:4] for line in program.splitlines(keepends=True)])
def test_lines_are_cut_as_sentencepiece_cuts_them(tokenizer: Tokenizer, line: str) -> None:
    for piece in line.split(MOD):
        assert encode(tokenizer, piece) == merged_by_score(piece)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters=BLANK, codec="utf-8"), max_size=40))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    """Leading blanks, bytes that are in no piece, line ends: nothing is added and nothing lost."""
    tokenizer = _kept()
    if not any(token in text for token in (*SPECIAL, "<s>", "<unk>")):
        assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=False) == text


@cache
def _kept() -> Tokenizer:
    """For hypothesis, which takes no fixtures of a narrower scope."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(released())
        return load_tokenizer(path)


def test_special_tokens_are_added_and_are_one_token_each(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id("</s>") == 2
    assert tokenizer.get_vocab_size() == len({*SPECIAL, *(text for text, _, _ in pieces())})
    for token in SPECIAL:
        assert len(encode(tokenizer, token)) == 1


def test_what_was_loaded_is_saved_as_the_tokenizer_of_a_checkpoint(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path / "tokenizer.json")
    for program in PROGRAMS:
        assert encode(again, program) == encode(tokenizer, program)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_that_alpha_prefers_comes_out_letter_by_letter(tokenizer: Tokenizer, program: str) -> None:
    """Blocks with their indentation included: a decoder that gives the tokens of a program writes that program."""
    ids = [token for line in program.splitlines(keepends=True) for token in encode(tokenizer, line)]
    writer = Writer(Preferring(ids, tokenizer), tokenizer, make_constraint(tokenizer))  # type: ignore[arg-type]
    writer.read("x")
    assert writer.write(initial_known(VOLUMES, TARGETS)).code == program


class Preferring(torch.nn.Module):
    """In place of α: the tokens of one text are the most probable, one after the other, and then the end."""

    def __init__(self, ids: list[int], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = LanguageConfig(layers=1, hidden_size=4, linear_size=4, heads=1)
        self._ids = [*ids, tokenizer.token_to_id("</s>")]
        self._size = tokenizer.get_vocab_size()
        self._given = 0

    def forward(self, ids: torch.Tensor, *state: object, use_cache: bool) -> Written:
        logits = torch.zeros(1, 1, self._size)
        logits[0, 0, self._ids[self._given]] = 1.0
        self._given += 1
        return Written(logits, torch.zeros(1, 1, 32), None)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x0a\xff\xff", b"not a model", b"\x0a\x03\x0a\x01a" * 2])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=name):
        load_tokenizer(tmp_path / name)


def test_a_released_file_that_was_cut_off_or_is_of_another_kind_is_refused(sentencepiece: Path, tmp_path: Path) -> None:
    content = sentencepiece.read_bytes()
    for number, changed in enumerate((content[:-1], content[:9], content.replace(b"\x18\x02", b"\x18\x01"))):
        path = tmp_path / f"{number}.model"
        path.write_bytes(changed)
        with pytest.raises(TokenizerError, match=path.name):
            load_tokenizer(path)
