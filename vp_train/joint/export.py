"""From a joint run to a checkpoint folder that `Agent.load` takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from vp_model.checkpoint import CARD_FILE, CONFIG_FILE, LANGUAGE_FILE, TOKENIZER_FILE
from vp_model.ontology import load_ontology
from vp_model.vision.weights import save_vision
from vp_train.evaluation.card import EXPERIMENTAL_BELOW
from vp_train.joint.state import JointState
from vp_train.joint.validation import Validation

FEWEST_MASKS = 3
"""Masks of a region that validation must have judged before its Dice counts."""


def export_checkpoint(state: JointState, validation: Validation | None, folder: Path, version: str) -> None:
    """Writes configuration, weights (half precision), tokenizer and model card; an earlier folder is replaced whole.

    A structure that validation did not judge often enough is offered as experimental.
    """
    new, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    language, vision = state.model.language, state.model.vision
    config = {
        "name": state.recipe.name,
        "version": version,
        "ontology_version": load_ontology().version,
        "vision": vision.config.as_dict(),
        "language": language.config.as_dict(),
        "working_spacing_mm": vision.config.working_spacing_mm,
        "structures": [_entry(region, validation) for region in state.regions],
    }
    (new / CONFIG_FILE).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save_vision(vision, new)
    weights = {name: value.detach().to(torch.float16).cpu() for name, value in language.state_dict().items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, new / LANGUAGE_FILE)
    state.tokenizer.save(str(new / TOKENIZER_FILE))
    (new / CARD_FILE).write_text(_card(state, validation, version), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _entry(region: str, validation: Validation | None) -> dict[str, object]:
    resolved = load_ontology().resolve(region)
    if resolved is None:
        raise ValueError(f"The ontology does not know the region {region!r}.")
    structure, side = resolved
    mean, count = validation.regions.get(region, (0.0, 0)) if validation else (0.0, 0)
    dice = round(mean, 3) if count >= FEWEST_MASKS else None
    return {
        "name": structure.name,
        "side": side if side in ("left", "right") else None,
        "dice": dice,
        "experimental": dice is None or dice < EXPERIMENTAL_BELOW,
        "threshold": 0.5,
    }


def _card(state: JointState, validation: Validation | None, version: str) -> str:
    parameters = sum(value.numel() for value in state.model.parameters())
    text = (
        f"# Model card: {state.recipe.name} {version}\n\n"
        "For research use only. Not a medical device. Made by software, unverified.\n\n"
        "## What it is\n\n"
        f"α and m ({parameters:,} parameters together) trained jointly on {state.examples:,} synthetic examples "
        f"({state.seconds / 60:.0f} minutes), λ = {state.recipe.segmentation_weight:g}.\n\n## Accuracy\n\n"
    )
    if validation is None:
        return text + "Not measured.\n"
    rows = "\n".join(f"| {region} | {dice:.2f} | {count} |" for region, (dice, count) in validation.regions.items())
    return text + (
        f"On {validation.count} synthetic examples of held-out subjects: exact programs "
        f"{100 * validation.exact:.1f} %, mean Dice {validation.dice:.3f}. Real scans were not judged.\n\n"
        f"| region | Dice | masks |\n|---|---|---|\n{rows}\n"
    )
