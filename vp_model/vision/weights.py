"""Weights of m in a checkpoint folder: `vision.safetensors`, half precision on disk, single precision in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vp_model.vision.config import VisionConfig
from vp_model.vision.network import VisionNetwork

FILE = "vision.safetensors"


def save_vision(network: VisionNetwork, folder: Path) -> None:
    """Write the weights of m in half precision (relative error below 0.05 %)."""
    save_half(network, folder, FILE)


def load_vision(config: VisionConfig, folder: Path) -> VisionNetwork:
    """m with the weights of a checkpoint folder, in evaluation mode.

    Raises:
        FileNotFoundError: the folder holds no `vision.safetensors`.
        ValueError: the weights do not fit the configuration.
    """
    network = VisionNetwork(config)
    load_half(network, folder, FILE)
    # Channels last saves oneDNN the reordering around each convolution.
    return network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def save_half(network: nn.Module, folder: Path, file: str) -> None:
    """Write the weights of a network of a checkpoint in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to(torch.float16).contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / file)


def load_half(network: nn.Module, folder: Path, file: str) -> None:
    """Give a network the weights of a checkpoint folder, in single precision.

    Raises:
        FileNotFoundError: the folder does not hold the file.
        ValueError: the weights do not fit the network.
    """
    path = folder / file
    if not path.is_file():
        raise FileNotFoundError(f"The checkpoint folder {folder.name} holds no {file}.")
    weights = {name: value.to(torch.float32) for name, value in load_file(path).items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit the configuration of this checkpoint.") from error
