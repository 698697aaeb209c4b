"""What a joint training run does, as data (`recipes/*.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vp_model.language.config import PRESETS, LanguageConfig
from vp_model.vision.config import VisionConfig, config_from_dict, preset
from vp_train.synthesis.acquisition import Distortions
from vp_train.synthesis.planning import StudySettings


@dataclass(frozen=True)
class JointRecipe:
    """A joint training run; where a number is the paper's (A.4), `recipes/paper.json` has it.

    Attributes:
        name: of the checkpoints that it makes.
        vision, language: a preset's name, or the configuration itself. A run that begins from a checkpoint has the
            checkpoint's instead.
        vocabulary: tokens of the tokenizer that is trained where none is given.
        seed: with its own number, it determines an example.
        rate, patience, reductions: of Adam, see `Plateau`.
        accumulation: examples of an optimizer step, over all processes.
        segmentation_weight: λ.
        voxelwise: weight of each mask's mean cross-entropy beside its Dice, which tells structures that are absent to
            stay away; the paper has none.
        clip: largest norm of the gradient; 0 does not clip, as the paper.
        described: share of examples that ask about a known lesion, where the study has any.
        validate_every, validation_examples: in examples; the former a multiple of `accumulation`.
        conditions_at_once: conditions φ of one pass of m; where a program has more, they go in turns, and each turn is
            computed again for its gradient. 0: all at once.
        recomputed_levels: finest levels of m whose inner activations are not kept but computed again.
        bf16: autocast to bfloat16 where the device is a GPU that has it.
        study: what is drawn.
        prepared_share: of the examples, those made of prepared real images, where a run has any.
        structures: of the label maps, those that are learned and asked for, without sides; all where empty.
    """

    name: str
    vision: str | Mapping[str, Any]
    language: str | Mapping[str, Any]
    vocabulary: int
    seed: int
    rate: float
    patience: int
    reductions: int
    accumulation: int
    segmentation_weight: float
    voxelwise: float
    clip: float
    described: float
    validate_every: int
    validation_examples: int
    conditions_at_once: int
    recomputed_levels: int
    bf16: bool
    study: StudySettings
    prepared_share: float = 0.5
    structures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.validate_every % self.accumulation:
            raise ValueError("A joint recipe validates between optimizer steps: make validate_every a multiple.")

    @property
    def vision_config(self) -> VisionConfig:
        return preset(self.vision) if isinstance(self.vision, str) else config_from_dict(self.vision)

    @property
    def language_config(self) -> LanguageConfig:
        return PRESETS[self.language] if isinstance(self.language, str) else LanguageConfig(**self.language)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def recipe_from_dict(values: Mapping[str, Any]) -> JointRecipe:
    """The recipe that `as_dict` wrote; what the study's settings leave out is as by default."""
    values = _with_tuples(values)
    study = _with_tuples(values["study"])
    study["distortions"] = Distortions(**_with_tuples(study.get("distortions", {})))
    return JointRecipe(**{**values, "study": StudySettings(**study)})


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def find_joint_recipe(name_or_file: str) -> JointRecipe:
    """A bundled recipe by name, or one from a JSON file.

    Raises:
        ValueError: there is no bundled recipe of that name.
    """
    path = Path(name_or_file)
    if path.suffix != ".json":
        folder = Path(__file__).parent / "recipes"
        path = folder / f"{name_or_file}.json"
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in folder.glob("*.json")))
            raise ValueError(f"There is no joint recipe {name_or_file!r}; there are: {known}.")
    return recipe_from_dict(json.loads(path.read_text(encoding="utf-8")))
