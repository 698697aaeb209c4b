"""Where m computes."""

from __future__ import annotations

import torch

from vp_model.checkpoint import CheckpointError


def find_device(name: str) -> torch.device:
    """The device of a name: `cpu`, `cuda`, `cuda:1`, …, or `auto`, which is `cuda` where there is one.

    Raises:
        CheckpointError: it is no name of a device, or the device is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"{name!r} is no device: give cpu, cuda, cuda:0 or auto.") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise CheckpointError(f"The device {name!r} is not supported: give cpu, cuda, cuda:0 or auto.")
    if not torch.cuda.is_available():
        raise CheckpointError(f"The device {name!r} is not there: this machine, or this torch, has no CUDA. Use cpu.")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise CheckpointError(f"The device {name!r} is not there: the last is cuda:{count - 1}.")
    return device
