"""Drawing lesions into a subject: where, how large, of which shape, of which tissues (paper B.6, Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.focus import Room, cut, draw_focus, widened
from vp_train.synthesis.lesions.growth import facts_of, grow, merge
from vp_train.synthesis.lesions.kinds import Kind, PartKind, load_kinds
from vp_train.synthesis.lesions.model import OTHER, Focus, Origin, Part, SyntheticLesion
from vp_train.synthesis.lesions.shapes import RealShape, spread

RING_MM = 5
"""How far the tissue reaches that a lesion is compared with (as in the measuring of signal by programs)."""
LEAST_RING = 20
HEALTHY = ("white matter", "grey matter")
OTHER_SHIFT = (0.2, 0.9)
"""Brighter or darker by this much in images of no known type."""


def draw_lesions(
    subject: Subject,
    anatomy: Anatomy,
    chance: Chance,
    count: int,
    kinds: Sequence[str] | None = None,
    avoid: Sequence[SyntheticLesion] = (),
    shapes: Sequence[RealShape] = (),
    session: int = 0,
) -> tuple[SyntheticLesion, ...]:
    """Lesions of a subject, which do not touch each other; fewer than `count` where there is no room.

    Args:
        anatomy: of the subject, on the device of `chance`, as the subject's labels are.
        count: how many kinds are drawn; kinds that come in numbers (metastases) count once.
        kinds: names of `kinds.json` to draw from; by their weights where None.
        avoid: lesions that are there already.
        shapes: real lesions, whose shape half of the foci take.
        session: the first in which they are seen.
    """
    table = load_kinds()
    names = list(table) if kinds is None else list(kinds)
    taken = torch.zeros(subject.labels.shape, dtype=torch.bool, device=chance.device)
    for lesion in avoid:
        _take(taken, lesion)
    room = Room(subject, anatomy, taken)
    found: list[SyntheticLesion] = []
    for _ in range(count):
        kind = table[names[chance.choice([table[name].weight for name in names])]]
        for _ in range(_integer(kind.count, chance)):
            drawn = draw_lesion(kind, room, chance, shapes, session)
            if drawn is not None:
                found.append(drawn)
                _take(taken, drawn)
    return tuple(found)


def draw_lesion(
    kind: Kind, room: Room, chance: Chance, shapes: Sequence[RealShape] = (), session: int = 0
) -> SyntheticLesion | None:
    """One lesion; None where there is no room for it."""
    parts = draw_parts(kind, chance)
    seed = chance.seed()
    wanted = _integer(kind.foci, chance)
    foci: list[Focus] = []
    own = Room(room.subject, room.anatomy, room.taken.clone()) if wanted > 1 else room
    for _ in range(wanted):
        focus = draw_focus(kind, parts, own, chance, shapes)
        if focus is not None:
            foci.append(focus)
            if wanted > 1:
                cut(own.taken, focus.origin, focus.level.shape).logical_or_(widened(grow(focus, parts) > 0))
    return assemble(kind, parts, foci, room, seed, session) if foci else None


def draw_parts(kind: Kind, chance: Chance) -> tuple[Part, ...]:
    """Its tissues with their signal; the order of draws does not depend on which components are present."""
    drawn = [(part, _part(part, chance), chance.happens(part.chance)) for part in kind.parts]
    return tuple(part for table, part, present in drawn if present or table.mode == "body")


def _part(kind: PartKind, chance: Chance) -> Part:
    material = kind.material
    shifts = {name: chance.number(low, high) for name, (low, high) in material.signal.items()}
    enhancement = chance.number(*material.enhancement)
    shifts["T1+C"] = (1 + shifts["T1"]) * (1 + enhancement) - 1
    sign = -1.0 if chance.happens(0.5) else 1.0
    shifts[OTHER] = sign * chance.number(*OTHER_SHIFT)
    return Part(
        name=kind.name,
        belongs=kind.mode != "around",
        mode=kind.mode,
        share=chance.number(*kind.share),
        shifts=shifts,
        enhancement=enhancement,
        restricted=material.restricted,
        kept=material.kept,
        grain=chance.number(*material.grain),
    )


def assemble(
    kind: Kind, parts: tuple[Part, ...], foci: Sequence[Focus], room: Room, seed: int, session: int
) -> SyntheticLesion:
    """Codes, texture, reference and facts from the fields."""
    codes, origin = merge([grow(focus, parts) for focus in foci], [focus.origin for focus in foci])
    texture, _ = merge([focus.texture for focus in foci], [focus.origin for focus in foci])
    shape = (codes.shape[0], codes.shape[1], codes.shape[2])
    place = cut(room.anatomy.place, origin, shape)
    return SyntheticLesion(
        kind=kind.name,
        facts=facts_of(kind, parts, codes, place, room.anatomy, len(foci) > 1, session),
        parts=parts,
        origin=origin,
        codes=codes,
        texture=centred(texture, codes, len(parts)),
        reference=_reference(codes, origin, room),
        replaces=kind.replaces,
        foci=tuple(foci),
        seed=seed,
    )


def centred(texture: torch.Tensor, codes: torch.Tensor, parts: int) -> torch.Tensor:
    """Texture with mean 0 in every part, so that it leaves the part's signal as it is; 0 outside."""
    result = torch.zeros_like(texture)
    for code in range(1, parts + 1):
        here = codes == code
        if bool(here.any()):
            result[here] = texture[here] - texture[here].mean()
    return result


def _reference(codes: torch.Tensor, origin: Origin, room: Room) -> torch.Tensor:
    """(labels,) shares of the labels of white and grey matter within 5 mm of a lesion, or of the whole brain where
    there are too few.
    """
    labels, anatomy = load_labels(), room.anatomy
    near = functional.pad((codes > 0).to(torch.uint8), (RING_MM,) * 6)
    for _ in range(RING_MM):
        near = spread(near)
    ends = [min(a + n + RING_MM, size) for a, n, size in zip(origin, codes.shape, anatomy.place.shape, strict=True)]
    first = (max(0, origin[0] - RING_MM), max(0, origin[1] - RING_MM), max(0, origin[2] - RING_MM))
    shape = [end - begin for end, begin in zip(ends, first, strict=True)]
    beyond = (first[0] - origin[0] + RING_MM, first[1] - origin[1] + RING_MM, first[2] - origin[2] + RING_MM)
    own = cut(functional.pad(codes, (RING_MM,) * 6), beyond, shape)
    ring = (cut(near, beyond, shape) > 0) & (own == 0)
    ring &= anatomy.inside(cut(anatomy.place, first, shape), HEALTHY)
    found = cut(room.subject.labels, first, shape)[ring]
    if len(found) < LEAST_RING:
        found = room.subject.labels[anatomy.inside(anatomy.place, HEALTHY)]
    compact = labels.plain.to(found.device)[found.long()]
    counts = torch.bincount(compact, minlength=len(labels.names)).float().cpu()
    return counts / counts.sum()


def _take(taken: torch.Tensor, lesion: SyntheticLesion) -> None:
    shape = (lesion.codes.shape[0], lesion.codes.shape[1], lesion.codes.shape[2])
    cut(taken, lesion.origin, shape).logical_or_(widened(lesion.codes > 0).to(taken.device))


def _integer(limits: tuple[int, int], chance: Chance) -> int:
    return limits[0] + chance.integer(limits[1] - limits[0] + 1)
