"""Parts computed one after the other, as one tensor."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def gathered(parts: Iterable[torch.Tensor], count: int, axis: int) -> torch.Tensor:
    """Parts that make up `count` rows of an axis, joined. Where no gradient is wanted, each goes to its place as it
    comes; `torch.cat`, which does it otherwise, needs all of them at once beside their whole.

    Raises:
        ValueError: the parts make up another number of rows.
    """
    if torch.is_grad_enabled():
        found = [*parts]
        return found[0] if len(found) == 1 else torch.cat(found, dim=axis)
    whole: torch.Tensor | None = None
    start = 0
    for part in parts:
        if whole is None:
            if part.shape[axis] == count:
                return part
            whole = part.new_empty((*part.shape[:axis], count, *part.shape[axis + 1 :]))
        whole.narrow(axis, start, part.shape[axis]).copy_(part)
        start += part.shape[axis]
    if whole is None or start != count:
        raise ValueError(f"The parts make up {start} rows, not {count}.")
    return whole
