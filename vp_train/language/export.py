"""From a language run to the language part of a checkpoint folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from vp_model.checkpoint import CONFIG_FILE, LANGUAGE_FILE, TOKENIZER_FILE
from vp_model.language.config import LanguageConfig
from vp_model.ontology import load_ontology
from vp_train.language.training import RECIPE_FILE, fit_conditions


def export_language(
    run: Path, conditions: Mapping[str, NDArray[np.float32]], checkpoint: Path, name: str, version: str
) -> float:
    """Writes weights (half precision), tokenizer and configuration; returns the largest error of φ.

    Keys of `config.json` that belong to the vision network stay as they are.
    """
    recipe = json.loads((run / RECIPE_FILE).read_text(encoding="utf-8"))
    config = LanguageConfig(**recipe["config"])
    error = fit_conditions(run, list(conditions), config, conditions)
    weights = load_file(run / LANGUAGE_FILE)
    save_file({key: value.to(torch.float16) for key, value in weights.items()}, checkpoint / LANGUAGE_FILE)
    shutil.copyfile(run / TOKENIZER_FILE, checkpoint / TOKENIZER_FILE)
    path = checkpoint / CONFIG_FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    merged = {"name": name, "version": version, **known, "language": config.as_dict()}
    merged.update(name=name, version=version, ontology_version=load_ontology().version)
    path.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    return error
