"""From fields to a lesion: which voxel is of which part, at a wanted size; and what can be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.kinds import Kind
from vp_train.synthesis.lesions.model import Focus, Origin, Part
from vp_train.synthesis.lesions.shapes import NEVER, depth, largest, reached
from vp_train.tasks.scene import Lesion, Signal

ALIKE = 0.06
"""Up to this share brighter or darker than the brain around is isointense."""
DIFFERENT = 0.10
"""From this share on it is hyper- or hypointense; in between nothing is said."""
SIDED = 0.8
"""Share of a lesion that must lie on one side (in one lobe, where it has several foci) to be called after it."""
CROSSING = 0.2
SMALLEST_COMPONENT = 5
"""Voxels of a component that facts name."""
RESTRICTED = 0.3
"""Share of a lesion that restricts diffusion, so that the lesion does."""
CORE_NOISE, RIM_NOISE = 0.1, 0.06
"""How much a component's own noise moves its border, relative to the depth of the lesion."""


def grow(focus: Focus, parts: Sequence[Part]) -> torch.Tensor:
    """(w, h, d) uint8 codes of one focus at its volume: 0 outside, 1 body, 2… the other parts."""
    body = largest(focus.level, focus.volume)
    codes = body.to(torch.uint8)
    size = int(body.sum())
    deep = depth(body) if any(part.mode in ("core", "rim") for part in parts) else None
    for index, part in enumerate(parts[1:]):
        count = round(part.share * size)
        if count < 1 or size == 0:
            continue
        if part.mode == "around":
            field = torch.where(body, torch.full_like(focus.halo, float("inf")), focus.halo)
            level = reached(field, body)
            around = largest(torch.where(body, torch.full_like(level, NEVER), level), count)
            codes[around] = index + 2
            continue
        score = focus.inner[index]
        if deep is not None and part.mode != "patch":
            relative = deep / deep.max()
            score = relative + CORE_NOISE * score if part.mode == "core" else RIM_NOISE * score - relative
        free = body if part.mode == "patch" else codes == 1
        codes[largest(torch.where(free, score, torch.full_like(score, NEVER)), count)] = index + 2
    return codes


def merge(blocks: Sequence[torch.Tensor], origins: Sequence[Origin]) -> tuple[torch.Tensor, Origin]:
    """Blocks of a label map in one that holds them all; where they overlap, the larger value counts for texture blocks
    and the earlier lesion voxel for codes (what is 0 is free).
    """
    low = [min(origin[axis] for origin in origins) for axis in range(3)]
    high = [
        max(origin[axis] + block.shape[axis] for origin, block in zip(origins, blocks, strict=True))
        for axis in range(3)
    ]
    merged = torch.zeros([b - a for a, b in zip(low, high, strict=True)], dtype=blocks[0].dtype).to(blocks[0].device)
    for block, origin in zip(blocks, origins, strict=True):
        here = merged[tuple(slice(o - a, o - a + n) for o, a, n in zip(origin, low, block.shape, strict=True))]
        here.copy_(torch.where(here == 0, block, here))
    return merged, (low[0], low[1], low[2])


def signal_word(shift: float) -> Signal | None:
    if abs(shift) <= ALIKE:
        return "isointense"
    if abs(shift) < DIFFERENT:
        return None
    return "hyperintense" if shift > 0 else "hypointense"


def mean_shift(parts: Sequence[Part], counts: Sequence[int], kind: str) -> float:
    """Of a lesion's own voxels: signal relative to the brain around, minus 1."""
    own = [(part.shift(kind), count) for part, count in zip(parts, counts, strict=True) if part.belongs]
    return sum(shift * count for shift, count in own) / max(1, sum(count for _, count in own))


def facts_of(
    kind: Kind,
    parts: Sequence[Part],
    codes: torch.Tensor,
    place: torch.Tensor,
    anatomy: Anatomy,
    several: bool,
    session: int,
) -> Lesion:
    """What is true of a lesion.

    Args:
        codes, place: blocks of the same voxels.
        several: it has several foci.
    """
    own = torch.tensor([False, *(part.belongs for part in parts)], device=codes.device)[codes.long()]
    where = place[own]
    return with_parts(
        Lesion(
            structure=kind.structure,
            side=_side(anatomy.shares("side", where), several),
            lobe=_main(anatomy.shares("lobe", where), SIDED if several else 0.0),
            compartment=kind.compartment,  # type: ignore[arg-type]
            territory=_main(anatomy.shares("territory", where), 0.0) if kind.territory else "",
            session=session,
        ),
        kind,
        parts,
        codes,
    )


def with_parts(facts: Lesion, kind: Kind, parts: Sequence[Part], codes: torch.Tensor) -> Lesion:
    """The same place, with size, signal, components and stage anew."""
    counts = torch.bincount(codes.flatten().long(), minlength=len(parts) + 1)[1:].tolist()
    total = max(1, sum(count for part, count in zip(parts, counts, strict=True) if part.belongs))
    present = [(part, count) for part, count in zip(parts, counts, strict=True) if count > 0]
    signal = {name: word for name in sequence_types(parts) if (word := signal_word(mean_shift(parts, counts, name)))}
    components = [part.name for part, count in present if part.name and count >= SMALLEST_COMPONENT]
    texture = kind.texture
    for part in kind.parts:
        if part.texture and part.name in components:
            texture = part.texture
    restricted = sum(count for part, count in present if part.belongs and part.restricted) / total
    unclear = sum(count for part, count in present if part.belongs and part.restricted is None) / total
    return Lesion(
        structure=kind.structure,
        side=facts.side,
        lobe=facts.lobe,
        compartment=facts.compartment,
        territory=facts.territory,
        volume_mm3=float(total),
        signal=signal,
        enhancing=any(part.enhancement > 0 for part, _ in present if part.belongs),
        restricted=True if restricted >= RESTRICTED else None if unclear >= RESTRICTED else False,
        stage=kind.stage,  # type: ignore[arg-type]
        texture=texture,  # type: ignore[arg-type]
        components=tuple(dict.fromkeys(components)),
        session=facts.session,
    )


def sequence_types(parts: Sequence[Part]) -> tuple[str, ...]:
    """Those in which all parts have a known signal."""
    return tuple(name for name in parts[0].shifts if name != "other")


def _main(shares: dict[str, float], least: float) -> str:
    return next((name for name, share in shares.items() if share >= least), "")


def _side(shares: dict[str, float], several: bool) -> Literal["left", "right", "midline", "both", ""]:
    for side in ("left", "right", "midline"):
        if shares.get(side, 0.0) >= SIDED:
            return side  # type: ignore[return-value]
    if not shares:
        return ""
    if several and min(shares.get("left", 0.0), shares.get("right", 0.0)) >= CROSSING:
        return "both"
    return "both" if several else "midline"
