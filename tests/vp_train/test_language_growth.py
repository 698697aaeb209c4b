"""Beginning α from a checkpoint with fewer layers and names, and drawing hard tasks more often."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel
from vp_model.language.tokens import load_tokenizer, train_tokenizer
from vp_train.language.growth import begin_from, grown_tokenizer
from vp_train.language.training import RAREST, Focus

KNOWN = ("brainstem", "thalamus")
SMALL = LanguageConfig(layers=2, hidden_size=16, linear_size=24, heads=2, encoding_size=8)
DEEP = LanguageConfig(layers=3, hidden_size=16, linear_size=24, heads=2, encoding_size=8)
TEXT = 'segment("brainstem")'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = train_tokenizer([TEXT], 280, [f"[{name}]" for name in KNOWN], [f'{name}"' for name in KNOWN])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    torch.manual_seed(1)
    model = LanguageModel(SMALL, tokenizer.get_vocab_size())
    save_file(model.state_dict(), tmp_path / "language.safetensors")
    return tmp_path


def test_new_names_follow_the_tokens_that_there_were(folder: Path) -> None:
    grown = grown_tokenizer(folder, (*KNOWN, "edema"))
    assert grown.encode(TEXT).tokens.count('brainstem"') == 1
    assert grown.encode('segment("edema")').tokens.count('edema"') == 1
    assert grown.encode("[edema]").tokens == ["[edema]"]


def test_a_deeper_model_says_what_the_checkpoint_says(folder: Path) -> None:
    grown = grown_tokenizer(folder, (*KNOWN, "edema"))
    old = LanguageModel(SMALL, load_tokenizer(folder / "tokenizer.json").get_vocab_size())
    old.load_state_dict(load_file(folder / "language.safetensors"))
    new = LanguageModel(DEEP, grown.get_vocab_size())
    begin_from(new, grown, folder, (*KNOWN, "edema"))
    ids = torch.tensor([grown.encode(TEXT).ids])
    with torch.inference_mode():
        before, after = old(ids), new(ids)
    size = before.logits.shape[-1]
    assert torch.allclose(before.logits, after.logits[..., :size], atol=1e-5)
    assert torch.allclose(before.phi, after.phi, atol=1e-5)


def test_a_new_name_begins_as_the_mean_of_those_that_there_were(folder: Path) -> None:
    known = (*KNOWN, "edema")
    grown = grown_tokenizer(folder, known)
    new = LanguageModel(DEEP, grown.get_vocab_size())
    begin_from(new, grown, folder, known)
    rows = new.decoder.get_input_embeddings().weight
    mean = rows[[grown.token_to_id(f"[{name}]") for name in KNOWN]].mean(dim=0)
    assert torch.allclose(rows[grown.token_to_id("[edema]")], mean, atol=0.06)


def test_weights_of_another_width_or_of_more_layers_are_refused(folder: Path) -> None:
    grown = grown_tokenizer(folder, KNOWN)
    wider = LanguageConfig(layers=2, hidden_size=32, linear_size=24, heads=2, encoding_size=8)
    shallower = LanguageConfig(layers=1, hidden_size=16, linear_size=24, heads=2, encoding_size=8)
    for config in (wider, shallower):
        with pytest.raises(ValueError, match="width"):
            begin_from(LanguageModel(config, grown.get_vocab_size()), grown, folder, KNOWN)


def test_tasks_that_are_learned_are_drawn_less_often_than_hard_ones() -> None:
    focus, chance = Focus(1.0), random.Random(1)
    focus.learn(("easy", "hard"), torch.tensor([0.02, 1.0]))
    taken = {task: sum(focus.takes(task, chance) for _ in range(2000)) / 2000 for task in ("easy", "hard", "new")}
    assert taken["hard"] == taken["new"] == 1.0
    assert taken["easy"] == pytest.approx(RAREST, abs=0.04)
    assert all(Focus(0.0, dict(focus.losses)).takes("easy", chance) for _ in range(20))
