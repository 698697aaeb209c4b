"""The vision network of a checkpoint folder with its condition table, as experiments without language use it."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from vp_model.checkpoint import open_checkpoint
from vp_model.vision.config import config_from_dict
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import load_vision
from vp_train.datasets.labels import load_labels
from vp_train.training.condition import ConditionTable


def load_network(folder: Path | None = None) -> tuple[VisionNetwork, ConditionTable]:
    """m and the vectors that it was trained with; of the bundled checkpoint where no folder is named."""
    checkpoint = open_checkpoint(folder)
    config = config_from_dict(checkpoint.vision)
    network = load_vision(config, checkpoint.folder)
    table = ConditionTable(load_labels().targets, config.condition_size)
    vectors = load_file(checkpoint.folder / "condition_table.safetensors")["vectors"]
    table.load_state_dict({"vectors": vectors})
    return network, table.eval()
