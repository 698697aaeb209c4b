"""The mean of two α of one lineage, what a run learned and what it began from: better than either on new phrasings."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from vp_model.checkpoint import LANGUAGE_FILE, TOKENIZER_FILE
from vp_train.language.training import RECIPE_FILE

BLENDED = "blended"
"""Folder of a run that the mean is written to."""


def blend(run: Path, former: Path, share: float) -> Path:
    """Writes the mean of a run's weights and those that it began from, as a run of its own; returns its folder.

    Args:
        former: folder of weights with the same tokens and layers, such as the checkpoint that the run began from.
        share: of the former in the mean, 0 to 1.

    Raises:
        ValueError: the weights are not of one lineage: their tokenizers or shapes differ.
    """
    if (run / TOKENIZER_FILE).read_bytes() != (former / TOKENIZER_FILE).read_bytes():
        raise ValueError(f"{former} has another tokenizer than {run}: they cannot be averaged.")
    ours, theirs = load_file(run / LANGUAGE_FILE), load_file(former / LANGUAGE_FILE)
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise ValueError(f"{former} has layers of other shapes than {run}: they cannot be averaged.")
    folder = run / BLENDED
    folder.mkdir(exist_ok=True)
    mean = {name: ours[name].lerp(theirs[name].to(ours[name].dtype), share).contiguous() for name in ours}
    save_file(mean, folder / LANGUAGE_FILE)
    for file in (TOKENIZER_FILE, RECIPE_FILE):
        shutil.copyfile(run / file, folder / file)
    return folder
