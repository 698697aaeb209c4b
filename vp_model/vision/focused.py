"""Small structures: the finest levels of the decoder only where a coarse look leaves doubt.

A structure fills a hundredth of a head, but most operations of m are those of its finest levels. Here m first looks at
the volumes at a coarser spacing, an eighth of the work; around the voxels that may belong to the structure the finest
levels are decoded, elsewhere there is none of it. The encoder and the coarse levels of the decoder are those of a full
pass; what is not exact is the statistics of the finest normalisations, which are estimated from blocks spread over the
whole level, and what the coarse look missed. `benchmarks/vision_fine.py` measures how far results differ; the agent
takes full passes, whose features serve all structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vp_model.geometry import Placed, Shape, spacing
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import Prepared, reduce_to, restore
from vp_model.vision.streamed import Memory, Walk

Box = tuple[Shape, Shape]
"""First index, and one past the last."""


@dataclass(frozen=True)
class Focus:
    """How to look.

    Attributes:
        coarser: spacing of the coarse look, as a multiple of the finest spacing of the volumes.
        doubt: probability of the coarse look from which a voxel may belong to the structure.
        margin_mm: room around these voxels.
        levels: of the decoder's finest levels, how many are decoded in the box alone.
        every: of small blocks of these levels, one in `every` along each axis gives the statistics.
    """

    coarser: float = 2.0
    doubt: float = 0.02
    margin_mm: float = 5.0
    levels: int = 1
    every: int = 2


@torch.inference_mode()
def segment_focused(
    network: VisionNetwork,
    prepared: Sequence[Prepared],
    phi: torch.Tensor,
    focus: Focus,
    memory: Memory,
    boxes: Sequence[Box] | None = None,
) -> list[torch.Tensor]:
    """Probabilities of one condition.

    Args:
        prepared: n volumes.
        phi: (1, n, d).
        boxes: where to look in each prepared volume, if that is known; the coarse look finds it otherwise.

    Returns:
        For each volume float32 (w, h, d) on its own grid; 0 outside its box.
    """
    images = [item.image for item in prepared]
    boxes = look_coarsely(network, images, phi, focus) if boxes is None else boxes
    found = []
    for item, logits, (low, high) in zip(
        prepared, decoded_in(network, images, phi, focus, memory, boxes), boxes, strict=True
    ):
        whole = logits.new_zeros((1, *item.image.shape))
        whole[(slice(None), *map(slice, low, high))] = torch.sigmoid(logits)
        found.append(restore(item, whole).clamp_(0.0, 1.0)[0].cpu())
    return found


def look_coarsely(network: VisionNetwork, images: Sequence[Placed], phi: torch.Tensor, focus: Focus) -> list[Box]:
    """Where the structure may be in each volume; all of a volume where the coarse look finds nothing in it."""
    finest = min(float(spacing(image.world).min()) for image in images)
    coarse = [reduce_to(image.features, image.world, focus.coarser * finest) for image in images]
    return [
        _box_of(torch.sigmoid(logits[0]) > focus.doubt, small, image, focus.margin_mm)
        for logits, small, image in zip(network(coarse, phi), coarse, images, strict=True)
    ]


def _box_of(doubted: torch.Tensor, coarse: Placed, image: Placed, margin_mm: float) -> Box:
    """The box of an image around the voxels of its coarse form; both lattices have the same axes."""
    if not bool(doubted.any()):
        return (0, 0, 0), image.shape
    low, high = [], []
    margins = margin_mm / spacing(image.world)
    factors = spacing(coarse.world) / spacing(image.world)
    for axis, size in enumerate(image.shape):
        others = [other for other in range(3) if other != axis]
        where = torch.nonzero(doubted.any(dim=others[1]).any(dim=others[0])).flatten()
        low.append(max(int(np.floor(float(where[0]) * factors[axis] - margins[axis])), 0))
        high.append(min(int(np.ceil(float(where[-1] + 1) * factors[axis] + margins[axis])), size))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def decoded_in(
    network: VisionNetwork,
    images: Sequence[Placed],
    phi: torch.Tensor,
    focus: Focus,
    memory: Memory,
    boxes: Sequence[Box],
) -> list[torch.Tensor]:
    """Logits (1, …) of each volume in its box."""
    exact, estimated = Walk(network, memory), Walk(network, memory, focus.every)
    start = min(focus.levels, network.config.levels - 1)
    levels, _ = exact.encode([], exact.stored(images), phi)
    seen = estimated.go_on(exact.decode(levels, phi, last=start), levels, phi, start - 1)
    found = []
    for index, (low, high) in enumerate(boxes):
        decoded = [level[index] for level in seen[::-1]]
        below = network.read_out.beneath(decoded)
        under = None if below is None else below.box(low, high)
        found.append(network.read_out.read(decoded[0].box(low, high), under, phi[:, index]))
    return found
