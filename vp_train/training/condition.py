"""The condition table: one learnable vector for each target, while there is no language model to give φ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional


class ConditionTable(nn.Module):
    """A vector for each of the targets `names`; φ is its SiLU, as the language model's projection gives it (A.1)."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.vectors = nn.Parameter(torch.randn(len(self.names), size))

    def forward(self, volumes: int = 1) -> torch.Tensor:
        """φ (k, n, d) of every target for n volumes."""
        return functional.silu(self.vectors)[:, None].expand(-1, volumes, -1)


def save_conditions(table: ConditionTable, path: Path) -> None:
    """`vectors` (k, d), `phi` after SiLU, and the names of the regions, as `vp_model.vision.mirrored` reads them."""
    tensors = {"vectors": table.vectors.detach().contiguous(), "phi": table(1).detach()[:, 0].contiguous()}
    save_file(tensors, path, metadata={"regions": "\n".join(table.names)})


def read_vectors(path: Path) -> dict[str, torch.Tensor]:
    """The vector (d,) before SiLU of each region that `save_conditions` wrote, by its name, in the file's order."""
    with safe_open(path, framework="pt") as file:
        names = file.metadata()["regions"].split("\n")
        vectors = file.get_tensor("vectors")
    return dict(zip(names, vectors, strict=True))


def read_table(path: Path) -> ConditionTable:
    """The table that `save_conditions` wrote."""
    vectors = read_vectors(path)
    table = ConditionTable(tuple(vectors), len(next(iter(vectors.values()))))
    table.load_state_dict({"vectors": torch.stack(list(vectors.values()))})
    return table
