"""What joint training changes, how it begins, and how it is saved so that it resumes bit by bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from vp_model.checkpoint import TOKENIZER_FILE, open_checkpoint
from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel
from vp_model.language.tokens import MOD, load_tokenizer
from vp_model.language.weights import load_language
from vp_model.vision.config import VisionConfig, config_from_dict
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import load_vision
from vp_train.joint.examples import identifier
from vp_train.joint.model import JointModel
from vp_train.joint.plateau import Plateau
from vp_train.joint.recipe import JointRecipe

STATE_FILE = "state.pt"
RUN_FILE = "run.json"


@dataclass(eq=False)
class JointState:
    """A run at the boundary between two optimizer steps.

    Attributes:
        regions: what the weights learn to find.
        updates: optimizer steps taken.
        validated: examples seen when validation last was measured, first before any; -1: never.
        seconds: of training in all.
    """

    recipe: JointRecipe
    regions: tuple[str, ...]
    tokenizer: Tokenizer
    model: JointModel
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    updates: int = 0
    validated: int = -1
    seconds: float = 0.0

    @property
    def examples(self) -> int:
        return self.updates * self.recipe.accumulation


def new_state(
    recipe: JointRecipe, regions: tuple[str, ...], tokenizer: Tokenizer, device: torch.device | str = "cpu"
) -> JointState:
    """Networks as the recipe's seed draws them."""
    torch.manual_seed(recipe.seed)
    language = LanguageModel(recipe.language_config, tokenizer.get_vocab_size())
    return _assembled(recipe, regions, tokenizer, language, VisionNetwork(recipe.vision_config), device)


def state_from_checkpoint(
    recipe: JointRecipe, regions: tuple[str, ...], folder: Path, device: torch.device | str = "cpu"
) -> JointState:
    """The networks and the tokenizer of a checkpoint folder, whatever configurations the recipe names.

    Raises:
        CheckpointError: the folder is no checkpoint.
        ValueError: its parts do not fit together.
    """
    checkpoint = open_checkpoint(folder)
    tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    language = load_language(checkpoint.language, checkpoint.folder, tokenizer.get_vocab_size())
    vision = load_vision(config_from_dict(checkpoint.vision), checkpoint.folder)
    known = tuple(dict.fromkeys((*checkpoint.regions, *regions)))
    return _assembled(recipe, known, tokenizer, language, vision, device)


def _assembled(
    recipe: JointRecipe,
    regions: tuple[str, ...],
    tokenizer: Tokenizer,
    language: LanguageModel,
    vision: VisionNetwork,
    device: torch.device | str,
) -> JointState:
    if language.config.encoding_size != vision.config.encoding_size:
        raise ValueError(
            f"m encodes volumes in {vision.config.encoding_size} numbers, but α reads {language.config.encoding_size}."
        )
    vision.recomputed_levels = recipe.recomputed_levels
    # Channels last saves oneDNN and cuDNN the reordering around each convolution.
    vision = vision.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    model = JointModel(
        language,
        vision,
        identifier(tokenizer, MOD),
        recipe.segmentation_weight,
        recipe.voxelwise,
        recipe.conditions_at_once,
    )
    model = model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    plateau = Plateau(recipe.rate, recipe.patience, recipe.reductions)
    return JointState(recipe, regions, tokenizer, model, optimizer, plateau)


def begin_run(state: JointState, folder: Path) -> None:
    """Writes what does not change during a run: recipe, configurations, regions, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    state.tokenizer.save(str(folder / TOKENIZER_FILE))
    described = {
        "recipe": state.recipe.as_dict(),
        "vision": state.model.vision.config.as_dict(),
        "language": state.model.language.config.as_dict(),
        "regions": list(state.regions),
    }
    (folder / RUN_FILE).write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_state(state: JointState, folder: Path) -> None:
    """Everything that changes, replaced in one move."""
    values = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "plateau": state.plateau.state(),
        "updates": state.updates,
        "validated": state.validated,
        "seconds": state.seconds,
    }
    torch.save(values, folder / f"{STATE_FILE}.new")
    (folder / f"{STATE_FILE}.new").replace(folder / STATE_FILE)


def resume_state(recipe: JointRecipe, folder: Path, device: torch.device | str = "cpu") -> JointState | None:
    """The run that the folder holds; None where it holds none.

    Raises:
        ValueError: it was begun with another recipe.
    """
    if not (folder / STATE_FILE).is_file():
        return None
    described: dict[str, Any] = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    if described["recipe"] != json.loads(json.dumps(recipe.as_dict())):
        raise ValueError(f"The run in {folder} was begun with another recipe: give that one, or another folder.")
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    vision: VisionConfig = config_from_dict(described["vision"])
    language = LanguageModel(LanguageConfig(**described["language"]), tokenizer.get_vocab_size())
    state = _assembled(recipe, tuple(described["regions"]), tokenizer, language, VisionNetwork(vision), device)
    values = torch.load(folder / STATE_FILE, weights_only=True, map_location=device)
    state.model.load_state_dict(values["model"])
    state.optimizer.load_state_dict(values["optimizer"])
    state.plateau = Plateau(**values["plateau"])
    state.updates, state.validated, state.seconds = values["updates"], values["validated"], values["seconds"]
    return state
