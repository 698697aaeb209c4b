"""The labels that m is trained on: which ids of a label map make which structure (`structures.json`).

A label map's ids (aseg) are renumbered to a compact index: 0 background, then every structure (left and right apart),
then the tissues around the brain, last the lesion. Targets are the structures, the brain and the lesion. Lesions that a
label map itself holds have indices beyond the names: `plain` says in which structure each lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray

HIGHEST_ID = 1024
MARGIN_MM = 40
"""What is kept around the brain; the field of view of a training image is chosen within."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Compact labels.

    Attributes:
        names: name of every compact index, background first, lesion last.
        structures: how many indices after the background are structures.
        targets: names of the targets, in the order of the condition table.
        from_id: (HIGHEST_ID,) uint8, id in a label map → compact index.
        swap: (len(names),) the compact index of the other side.
        brain: compact indices that make up the brain.
        lesion: compact index of a lesion; `lesion_in`: where lesions grow.
        plain: (len(names) + number of `lesion_in`,) the compact index without the lesions of the label map.
    """

    names: tuple[str, ...]
    structures: int
    targets: tuple[str, ...]
    from_id: NDArray[np.uint8]
    swap: torch.Tensor
    brain: tuple[int, ...]
    lesion: int
    lesion_in: tuple[int, ...]
    plain: torch.Tensor

    def index(self, name: str) -> int:
        return self.names.index(name)

    def compact(self, ids: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Ids of a label map → compact indices of structures and tissues; unknown ids become background."""
        plain: NDArray[np.uint8] = self.plain.numpy().astype(np.uint8)[self.compact_with_lesions(ids)]
        return plain

    def compact_with_lesions(self, ids: NDArray[np.generic]) -> NDArray[np.uint8]:
        """As `compact`, but lesions of the label map keep their indices beyond the names."""
        whole = np.rint(ids.astype(np.float64)).astype(np.int64)
        whole[(whole < 0) | (whole >= HIGHEST_ID)] = 0
        compacted: NDArray[np.uint8] = self.from_id[whole]
        return compacted

    def mask(self, compact: NDArray[np.uint8], target: str) -> NDArray[np.bool_]:
        """Where a target lies in a compact label map (lesions are not in label maps of anatomy)."""
        members = self.brain if target == "brain" else (self.index(target),)
        return np.isin(compact, members)


@cache
def load_labels() -> Labels:
    table = json.loads(files("vp_train.datasets").joinpath("structures.json").read_text(encoding="utf-8"))
    names = ["background"]
    ids: list[tuple[list[int], int]] = []
    swap = [0]
    for name, sides in table["paired"].items():
        left, right = len(names), len(names) + 1
        names += [f"left {name}", f"right {name}"]
        swap += [right, left]
        ids += [(sides["left"], left), (sides["right"], right)]
    for group in ("midline", "surroundings"):
        if group == "surroundings":
            structures = len(names) - 1
        for name, members in table[group].items():
            ids.append((members, len(names)))
            swap.append(len(names))
            names.append(name)
    lesion = len(names)
    names.append(table["lesion"])
    swap.append(lesion)
    plain = list(range(len(names)))
    for name, members in table["lesion_ids"].items():
        ids.append((members, len(plain)))
        plain.append(names.index(name))
    from_id = np.zeros(HIGHEST_ID, dtype=np.uint8)
    for members, index in ids:
        from_id[members] = index
    return Labels(
        names=tuple(names),
        structures=structures,
        targets=(*names[1 : structures + 1], "brain", table["lesion"]),
        from_id=from_id,
        swap=torch.tensor(swap),
        brain=tuple(i for i in range(1, structures + 1) if names[i] not in table["brain_without"]),
        lesion=lesion,
        lesion_in=tuple(names.index(name) for name in table["lesion_in"]),
        plain=torch.tensor(plain),
    )


def cut_of(compact: np.ndarray, scheme: Labels) -> tuple[slice, slice, slice]:
    """What is kept of a label map, before its border: `MARGIN_MM` around its structures."""
    inside = np.argwhere((compact > 0) & (compact <= scheme.structures))
    low = np.maximum(inside.min(axis=0) - MARGIN_MM, 0)
    high = np.minimum(inside.max(axis=0) + 1 + MARGIN_MM, compact.shape)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
