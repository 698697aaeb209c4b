"""One focus of a lesion: where it begins, where it may grow, and the fields that it grows by (paper B.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from vp_model.geometry import Shape
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy, Place
from vp_train.synthesis.lesions.kinds import Kind
from vp_train.synthesis.lesions.model import Focus, Origin, Part
from vp_train.synthesis.lesions.shapes import NEVER, RealShape, brownian_field, reached, real_field, spread
from vp_train.synthesis.noise import brownian, perlin

TRIES = 6
"""Centres that are tried for one focus."""
CANDIDATES = 4096
"""Voxels that are looked at for a centre, at a time."""
ROUNDS = 20
GAP_MM = 2
"""Between two lesions."""
MARGIN_MM = 5
"""Of a block around its shape."""
LARGEST_RADIUS = 62
"""Voxels from the centre to which a shape may reach."""
WIDENING = (1.0, 1.25, 1.6, 2.0, 2.5, 3.0)
ROOM = 1.6
"""So many times the wanted volume must be free in the block, or it is made wider."""
FEWEST = 0.5
"""Share of the wanted volume for which there must be room."""
REAL = 0.5
"""Share of foci that take the shape of a real lesion, where some of a like size are given."""
RESCALED = 4.0
"""Real lesions up to so many times as large or small are of a like size."""
STRETCH = 0.18
"""Standard deviation of the logarithm of the radii."""
HALO_ROUGHNESS = 0.3
WHOLE_TEXTURE = 32
"""Voxels a side up to which texture is made at every voxel."""
FINEST_INNER = 3.0
"""Voxels of the finest noise of a component's border."""


@dataclass(frozen=True, eq=False)
class Room:
    """What lesions may take of a subject's voxels, on one device: anatomy, and what is taken already."""

    subject: Subject
    anatomy: Anatomy
    taken: torch.Tensor


def draw_focus(
    kind: Kind, parts: Sequence[Part], room: Room, chance: Chance, shapes: Sequence[RealShape] = ()
) -> Focus | None:
    """One connected piece; None where none of the centres that were tried has room for it."""
    low, high = kind.volume_mm3
    for _ in range(TRIES):
        volume = math.exp(chance.number(math.log(low), math.log(high)))
        centre = _centre(kind, room, chance)
        focus = None if centre is None else _focus(kind, parts, room, chance, shapes, volume, centre)
        if focus is not None:
            return focus
    return None


def _centre(kind: Kind, room: Room, chance: Chance) -> Origin | None:
    """A voxel where the kind may begin: in one of its lobes, each as often, and free."""
    anatomy, ground = room.anatomy, kind.seed
    known = {place.lobe for place in anatomy.places if place.compartment in ground.compartments}
    lobes = [lobe for lobe in ground.lobes if lobe in known] or sorted(known)
    lobe = lobes[chance.integer(len(lobes))] if lobes else ""
    sides = ground.sides or ("",)
    side = sides[chance.integer(len(sides))]
    low, high = torch.tensor(room.subject.low) - 4, torch.tensor(room.subject.high) + 4
    sizes = torch.tensor(anatomy.place.shape)
    for _ in range(ROUNDS):
        at = (low + (chance.uniform(0, 1, CANDIDATES, 3) * (high - low)).long()).clamp(min=0)
        at = torch.minimum(at, sizes - 1)
        x, y, z = at.to(anatomy.place.device).unbind(1)
        fits = anatomy.inside(anatomy.place[x, y, z], ground.compartments, side, (lobe,) if lobe else ())
        fits &= between(anatomy.dura[x, y, z], ground.dura_mm)
        fits &= between(anatomy.ventricle[x, y, z], ground.ventricle_mm)
        fits &= ~room.taken[x, y, z]
        chosen = fits.nonzero()
        if len(chosen):
            first = at[int(chosen[0])].tolist()
            return int(first[0]), int(first[1]), int(first[2])
    return None


def _focus(
    kind: Kind,
    parts: Sequence[Part],
    room: Room,
    chance: Chance,
    shapes: Sequence[RealShape],
    volume: float,
    centre: Origin,
) -> Focus | None:
    radius = (3 * volume / (4 * math.pi)) ** (1 / 3)
    stretch = torch.exp(chance.normal(3) * STRETCH).tolist()
    mean = math.prod(stretch) ** (1 / 3)
    radii = [max(0.8, radius * value / mean) for value in stretch]
    around = sum(part.share for part in parts if not part.belongs)
    reach = max(1.35, 1.15 * (1 + around) ** (1 / 3))
    for widening in WIDENING:
        half = min(LARGEST_RADIUS, math.ceil(max(radii) * widening * reach) + MARGIN_MM)
        origin, shape = _block(centre, half, room)
        allowed = _allowed(kind, room, origin, shape, centre)
        if int(allowed.sum()) >= ROOM * volume or half == LARGEST_RADIUS:
            break
    middle = [at - first for at, first in zip(centre, origin, strict=True)]
    roughness = chance.number(*kind.roughness)
    alike = [real for real in shapes if volume / RESCALED <= real.volume <= volume * RESCALED]
    if alike and chance.happens(REAL):
        field = real_field(shape, middle, volume, alike[chance.integer(len(alike))], roughness, chance)
    else:
        field = brownian_field(shape, middle, radii, roughness, chance)
    field = torch.where(allowed, field, torch.full_like(field, NEVER))
    level = reached(field, _seed(field, middle, max(1, int(min(radii) / 2))))
    if int((level > NEVER).sum()) < FEWEST * volume:
        return None
    halo = torch.full_like(level, NEVER)
    if around:
        wide = brownian_field(shape, middle, [value * reach for value in radii], HALO_ROUGHNESS, chance)
        halo = torch.where(_around(kind, room, origin, shape, centre), wide, halo)
    inner = [brownian(shape, chance, max(4.0, radius), FINEST_INNER) for _ in parts[1:]]
    return Focus(
        origin=origin,
        level=level,
        halo=halo,
        inner=torch.stack(inner) if inner else torch.zeros(0, *shape, device=level.device),
        texture=_texture(shape, chance),
        volume=round(volume),
    )


def _texture(shape: Shape, chance: Chance) -> torch.Tensor:
    """Perlin noise; of large blocks at every second voxel, since it costs more than all the rest."""
    cell = chance.number(3.0, 9.0)
    if max(shape) <= WHOLE_TEXTURE:
        return perlin(shape, chance, cell)
    w, h, d = (max(2, side // 2) for side in shape)
    coarse = perlin((w, h, d), chance, cell / 2, octaves=2)
    return functional.interpolate(coarse[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]


def _seed(field: torch.Tensor, middle: Sequence[int], radius: int) -> torch.Tensor:
    """Where the shape begins: the highest voxel near its centre (the very centre may be a valley of the noise)."""
    near = torch.full_like(field, NEVER)
    box = tuple(slice(max(0, at - radius), at + radius + 1) for at in middle)
    near[box] = field[box]
    seed = torch.zeros(field.shape, dtype=torch.bool, device=field.device)
    seed.view(-1)[int(near.argmax())] = True
    return seed


def _block(centre: Origin, half: int, room: Room) -> tuple[Origin, Shape]:
    sizes = room.anatomy.place.shape
    first = [max(0, at - half) for at in centre]
    last = [min(size, at + half + 1) for at, size in zip(centre, sizes, strict=True)]
    shape = [b - a for a, b in zip(first, last, strict=True)]
    return (first[0], first[1], first[2]), (shape[0], shape[1], shape[2])


def _allowed(kind: Kind, room: Room, origin: Origin, shape: Shape, centre: Origin) -> torch.Tensor:
    """(w, h, d) bool: where a lesion from this centre may grow."""
    anatomy, ground = room.anatomy, kind.within
    allowed = _confined(room, origin, shape, centre, ground.compartments, ground.confined, ground.crosses)
    return allowed & between(cut(anatomy.dura, origin, shape), ground.dura_mm)


def _around(kind: Kind, room: Room, origin: Origin, shape: Shape, centre: Origin) -> torch.Tensor:
    """Where what surrounds a lesion may be: edema spreads along white matter."""
    return _confined(room, origin, shape, centre, ("white matter",), (), kind.within.crosses)


def _confined(
    room: Room,
    origin: Origin,
    shape: Shape,
    centre: Origin,
    compartments: Sequence[str],
    confined: Sequence[str],
    crosses: bool,
) -> torch.Tensor:
    """Free voxels of compartments on this side of the borders: falx, tentorium, and the territory where asked for."""
    anatomy = room.anatomy
    here = anatomy.places[int(anatomy.place[centre])]
    wanted = [
        there.compartment in compartments
        and (crosses or _same_side(here, there))
        and _same_level(here, there)
        and ("territory" not in confined or here.territory == there.territory)
        for there in anatomy.places
    ]
    place = cut(anatomy.place, origin, shape)
    return torch.tensor(wanted, device=place.device)[place.long()] & ~cut(room.taken, origin, shape)


def _same_side(here: Place, there: Place) -> bool:
    return here.side == there.side or "midline" in (here.side, there.side)


def _same_level(here: Place, there: Place) -> bool:
    """The tentorium parts the cerebellum from all but the brainstem."""
    return (
        here.lobe == there.lobe
        or "cerebellum" not in (here.lobe, there.lobe)
        or ("brainstem" in (here.lobe, there.lobe))
    )


def widened(mask: torch.Tensor) -> torch.Tensor:
    """A mask and the gap around it."""
    grown = mask.to(torch.uint8)
    for _ in range(GAP_MM):
        grown = spread(grown)
    return grown > 0


def cut(values: torch.Tensor, origin: Origin, shape: Sequence[int]) -> torch.Tensor:
    """The block of a label map, as a view."""
    return values[tuple(slice(first, first + size) for first, size in zip(origin, shape, strict=True))]


def between(values: torch.Tensor, limits: tuple[float, float]) -> torch.Tensor:
    return (values >= limits[0]) & (values <= limits[1])
