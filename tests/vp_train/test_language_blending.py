"""The mean of two α of one lineage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vp_train.language.blending import blend


def run_of(folder: Path, value: float, tokens: str = "{}", size: int = 2) -> Path:
    folder.mkdir()
    save_file({"weight": torch.full((size, size), value)}, folder / "language.safetensors")
    (folder / "tokenizer.json").write_text(tokens)
    (folder / "language_recipe.json").write_text('{"steps": 1}')
    return folder


def test_the_mean_lies_between_and_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    run, former = run_of(tmp_path / "run", 1.0), run_of(tmp_path / "former", 0.0)
    folder = blend(run, former, 0.25)
    assert torch.allclose(load_file(folder / "language.safetensors")["weight"], torch.full((2, 2), 0.75))
    assert torch.equal(load_file(run / "language.safetensors")["weight"], torch.ones(2, 2))
    assert (folder / "language_recipe.json").read_text() == (run / "language_recipe.json").read_text()


def test_halves_are_averaged_in_full_precision(tmp_path: Path) -> None:
    run, former = run_of(tmp_path / "run", 1.0), run_of(tmp_path / "former", 0.0)
    save_file({"weight": torch.zeros(2, 2, dtype=torch.float16)}, former / "language.safetensors")
    assert load_file(blend(run, former, 0.5) / "language.safetensors")["weight"].dtype == torch.float32


@pytest.mark.parametrize(("tokens", "size"), [('{"other": 1}', 2), ("{}", 3)])
def test_weights_of_another_lineage_are_an_error(tmp_path: Path, tokens: str, size: int) -> None:
    run, former = run_of(tmp_path / "run", 1.0), run_of(tmp_path / "former", 0.0, tokens, size)
    with pytest.raises(ValueError, match="cannot be averaged"):
        blend(run, former, 0.5)
