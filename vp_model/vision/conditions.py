"""φ as m was trained with it. A checkpoint whose conditions were learned as a table holds that table; what α emits for
a region lies near the region's row, but not on it, and m was never asked for what lies between.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

CLEAR = 0.5
"""How far the nearest condition may be, in parts of the distance to the second."""


def settled(phi: torch.Tensor, conditions: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """φ (k, n, d), each vector moved to the nearest of the conditions (d,) where that is clearly the nearest; α's own
    where it is not, and where there are no conditions to choose from.

    What the region is called plays no part: α's φ alone says which condition is meant.
    """
    if len(conditions) < 2:
        return phi
    known = torch.stack(list(conditions.values())).to(phi)
    (first, second), (index, _) = _two_nearest(phi.flatten(0, 1), known)
    clear = (first < CLEAR * second).unflatten(0, phi.shape[:2])
    return torch.where(clear[..., None], known[index].unflatten(0, phi.shape[:2]), phi)


def _two_nearest(
    vectors: torch.Tensor, known: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Distances to the nearest and the second (v,), and their indices."""
    distances, indices = torch.cdist(vectors, known).topk(2, dim=1, largest=False)
    return (distances[:, 0], distances[:, 1]), (indices[:, 0], indices[:, 1])
