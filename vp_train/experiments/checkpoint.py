"""The parts of a checkpoint folder, as experiments use them one by one."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from tokenizers import Tokenizer

from vp_model.checkpoint import CONDITIONS_FILE, LANGUAGE_FILE, TOKENIZER_FILE, open_checkpoint
from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel
from vp_model.language.tokens import load_tokenizer
from vp_model.vision.config import config_from_dict
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import load_vision
from vp_model.volume import Volume
from vp_train.evaluation.anatomy import Finder
from vp_train.training.condition import ConditionTable, read_table


def load_network(folder: Path | None = None) -> tuple[VisionNetwork, ConditionTable]:
    """m and the vectors that it was trained with; of the bundled checkpoint where no folder is named."""
    checkpoint = open_checkpoint(folder)
    config = config_from_dict(checkpoint.vision)
    network = load_vision(config, checkpoint.folder)
    return network, read_table(checkpoint.folder / CONDITIONS_FILE).eval()


def finder(network: VisionNetwork, table: ConditionTable, volumes: list[Volume], folder: Path | None = None) -> Finder:
    """m on a set of volumes as the checkpoint has it look: at the mirror image too, with refined borders."""
    checkpoint = open_checkpoint(folder)
    return Finder(network, table, volumes, checkpoint.mirrored, checkpoint.refining)


def load_language(folder: Path | None = None) -> tuple[LanguageModel, Tokenizer]:
    """α and its tokenizer; of the bundled checkpoint where no folder is named."""
    checkpoint = open_checkpoint(folder)
    tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    language = LanguageModel(LanguageConfig(**checkpoint.language), tokenizer.get_vocab_size())
    weights = load_file(checkpoint.folder / LANGUAGE_FILE)
    language.load_state_dict({name: value.float() for name, value in weights.items()})
    return language.eval(), tokenizer


def named(folder: Path | None = None) -> dict[str, str]:
    """Which checkpoint an experiment judged, for its report."""
    identity = open_checkpoint(folder).identity
    return {"checkpoint": f"{identity.name} {identity.version} ({identity.content_hash[:12]})"}
