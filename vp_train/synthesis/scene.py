"""Synthetic images of one head, with their targets: a deformed label map seen through several contrasts and grids.

Follows SynthSeg's generator (Billot et al. 2023) and the paper's C.5: one torch implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Placed, Shape, World
from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.parcels import load_parcels
from vp_train.synthesis.artefacts import acquire, average, blur, corrupted
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.contrast import draw_contrast
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.lesions.painting import Layer, member, paint, references, shares
from vp_train.synthesis.lesions.targets import codes_of, is_a
from vp_train.synthesis.space import Deformation, Field, draw_deformation, grid_axes, look_up, smooth_field

STRIPPED = 0.45
"""Share of scenes without skull."""
LEAST_REACH_MM = 12.0
"""How far a fixed field of view is moved along each axis, at least."""
LESIONED = 0.6
"""Share of scenes with white matter lesions."""


BLUR, FINE_BLUR = (0.35, 0.9), (0.35, 1.8)
"""Range of the deviation of the scanner's blur, in parts; finer parts of a voxel need more of it."""


@dataclass(frozen=True, eq=False)
class Image:
    """One synthetic image: `placed` (1, 1, w, h, d) in [0, 1]; `targets` (t, w, h, d) share of each voxel; `kind`."""

    placed: Placed
    targets: torch.Tensor
    kind: str


@dataclass(frozen=True, eq=False)
class Lesions:
    """Where white matter is lesioned: where the sum of `fields` exceeds `threshold`; and, if `known`, where the label
    map itself has lesions, which lie about the ventricles as lesions do.
    """

    fields: tuple[Field, Field]
    threshold: float
    known: bool

    def inside(self, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (self.fields[0].at(axes) + 0.7 * self.fields[1].at(axes))[0] > self.threshold


@dataclass(frozen=True, eq=False)
class Scene:
    """What all images of a head share."""

    subject: Subject
    deformation: Deformation
    lesions: Lesions | None
    removed: torch.Tensor
    """(labels,) bool: labels that are not seen (skull stripping)."""
    synthetic: tuple[SyntheticLesion, ...] = ()
    """Lesions of any kind, in the label map; they are seen whatever is removed."""


def draw_scene(subject: Subject, labels: Labels, chance: Chance, strength: float = 1.0) -> Scene:
    deformation = draw_deformation(subject, chance, strength)
    lesions = None
    if chance.happens(LESIONED):
        # The sum's standard deviation is about 0.65: these thresholds leave 10 % … 0.2 % of the white matter.
        fields = (smooth_field(chance, chance.number(5.0, 10.0)), smooth_field(chance, chance.number(10.0, 24.0)))
        lesions = Lesions(fields, chance.number(0.85, 1.9), chance.happens(0.7))
    removed = torch.zeros(len(labels.names), dtype=torch.bool)
    if chance.happens(STRIPPED):
        removed[labels.structures + 1 : labels.lesion] = True
        removed[labels.index("cerebrospinal fluid")] = chance.happens(0.6)
    return Scene(subject, deformation, lesions, removed)


def draw_grid(
    subject: Subject, spacing_mm: Sequence[float], crop_mm: float | None, chance: Chance
) -> tuple[Shape, World]:
    """A grid along RAS around the brain, with a random margin on each side, or a cube of `crop_mm` inside it."""
    size = np.asarray(subject.high, dtype=np.float64) - np.asarray(subject.low)
    low = -size / 2 - chance.uniform(2.0, 32.0, 3).numpy()
    high = size / 2 + chance.uniform(2.0, 32.0, 3).numpy()
    if crop_mm is not None:
        room = np.maximum(high - low - crop_mm, 0.0)
        low = low + chance.uniform(0.0, 1.0, 3).numpy() * room
        high = np.minimum(high, low + crop_mm)
    step = np.asarray(spacing_mm, dtype=np.float64)
    count = np.maximum(np.rint((high - low) / step), 2).astype(int)
    world = np.diag([*step, 1.0])
    world[:3, 3] = (low + high) / 2 - (count - 1) / 2 * step
    return (int(count[0]), int(count[1]), int(count[2])), world


def draw_field(
    subject: Subject, field_mm: Sequence[float], spacing_mm: Sequence[float], chance: Chance
) -> tuple[Shape, World]:
    """A grid along RAS with a field of view of about `field_mm`: anywhere in the brain, or the brain anywhere in it."""
    surplus = np.asarray(field_mm) - (np.asarray(subject.high, dtype=np.float64) - np.asarray(subject.low))
    reach = np.maximum(np.abs(surplus) / 2, LEAST_REACH_MM)
    return placed_field(field_mm, spacing_mm, chance.uniform(-1.0, 1.0, 3).numpy() * reach)


def placed_field(
    field_mm: Sequence[float], spacing_mm: Sequence[float], centre_mm: NDArray[np.float64]
) -> tuple[Shape, World]:
    """The grid along RAS of about a field of view around a point."""
    step = np.asarray(spacing_mm, dtype=np.float64)
    count = np.maximum(np.rint(np.asarray(field_mm) / step), 2).astype(int)
    world = np.diag([*step, 1.0])
    world[:3, 3] = centre_mm - (count - 1) / 2 * step
    return (int(count[0]), int(count[1]), int(count[2])), world


def parts_of(spacing_mm: Sequence[float], part_mm: float | None = None) -> tuple[int, int, int]:
    """Into how many parts a voxel is divided along each axis, so that partial volume is seen but cost stays bounded.

    Args:
        part_mm: about how long a part is; None: as long as a CPU can afford.
    """
    fine = part_mm or (1.5 if min(spacing_mm) < 2.5 else 2.0)
    first, second, third = (max(1, round(step / fine)) for step in spacing_mm)
    return first, second, third


def render(
    scene: Scene,
    labels: Labels,
    shape: Shape,
    world: World,
    chance: Chance,
    kind: str | None = None,
    pathologies: Sequence[str] = (),
    regions: Sequence[str] = (),
    part_mm: float | None = None,
) -> Image:
    """The scene on a grid, in a contrast of its own, on the device of the subject's labels, as `chance` is.

    Args:
        pathologies: names of the ontology whose masks follow those of `labels.targets` and `regions`.
        regions: of the subject's parcellation, whose masks follow those of `labels.targets`.
        part_mm: how finely the label map is looked at (`parts_of`).

    Raises:
        ValueError: there are regions to show, and the subject has no parcellation.
    """
    parts = parts_of([float(world[axis, axis]) for axis in range(3)], part_mm)
    device = scene.subject.labels.device
    axes = grid_axes(shape, world, parts, device)
    found = look_up(scene.subject, scene.deformation.voxels(axes))
    known = found >= len(labels.names)
    found = labels.plain.to(device)[found]
    if scene.deformation.mirrored:
        found = labels.swap.to(device)[found]
    lesion = torch.zeros(found.shape, dtype=torch.bool, device=device)
    further = torch.zeros(len(pathologies), *found.shape, dtype=torch.bool, device=device)
    if scene.lesions is not None:
        inside = torch.zeros(len(labels.names), dtype=torch.bool, device=device)
        inside[list(labels.lesion_in)] = True
        lesion = inside[found] & scene.lesions.inside(axes)
        lesion |= known & scene.lesions.known
    contrast = draw_contrast(labels, chance, kind)
    visible = torch.where(lesion, labels.lesion, found)
    means = torch.where(scene.removed, contrast.means[0], contrast.means).to(device)
    deviations = torch.where(scene.removed, contrast.deviations[0], contrast.deviations).to(device)
    image = means[visible]
    if scene.synthetic:
        layer = Layer.of(scene.synthetic, scene.subject)
        codes, texture = layer.at(scene.deformation.voxels(axes))
        image = paint(image, codes, texture, layer, contrast.kind, references(scene.synthetic, contrast.means))
        found = torch.where(member(codes, layer.replacing), 0, found)
        lesion |= member(codes, layer.of_structure(labels.names[labels.lesion]))
        for index, name in enumerate(pathologies):
            further[index] = member(codes, codes_of(layer, name))
    for index, name in enumerate(pathologies):
        if is_a(labels.names[labels.lesion], name):
            further[index] |= lesion
    image = image + deviations[visible] * chance.noise(*found.shape)
    image = average(blur(image, chance.number(*(BLUR if part_mm is None else FINE_BLUR))), parts)
    image = acquire(image, grid_axes(shape, world, (1, 1, 1), device), chance)
    wanted = [targets(found, lesion, labels, parts)]
    if regions:
        wanted.append(region_targets(scene, axes, regions, parts))
    if pathologies:
        wanted.append(torch.stack([average(mask.float(), parts) for mask in further]))
    return Image(Placed(image[None, None], world), torch.cat(wanted), contrast.kind)


def targets(found: torch.Tensor, lesion: torch.Tensor, labels: Labels, parts: tuple[int, int, int]) -> torch.Tensor:
    """(t, w, h, d): the share of each voxel that each target fills, counted over the voxel's parts."""
    w, h, d = (size // part for size, part in zip(found.shape, parts, strict=True))
    share = label_shares(found, len(labels.names), parts)
    brain = share[list(labels.brain)].sum(dim=0, keepdim=True)
    lesions = average(lesion.float(), parts).reshape(1, -1)
    return torch.cat([share[1 : labels.structures + 1], brain, lesions]).view(-1, w, h, d)


def label_shares(found: torch.Tensor, count: int, parts: tuple[int, int, int]) -> torch.Tensor:
    """(count, w·h·d): the share of each voxel that each of `count` labels fills, of labels (w·p, h·q, d·r) int64."""
    w, h, d = (size // part for size, part in zip(found.shape, parts, strict=True))
    blocks = found.view(w, parts[0], h, parts[1], d, parts[2]).permute(1, 3, 5, 0, 2, 4).reshape(-1, w * h * d)
    share = torch.zeros(count, w * h * d, device=found.device)
    return share.scatter_add_(0, blocks, torch.full(blocks.shape, 1.0 / len(blocks), device=found.device))


def region_targets(
    scene: Scene,
    axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    regions: Sequence[str],
    parts: tuple[int, int, int],
) -> torch.Tensor:
    """(r, w, h, d): the share of each voxel that each region of the parcellation fills, at the parts' coordinates.

    Raises:
        ValueError: the subject has no parcellation.
    """
    parcels, scheme = scene.subject.parcels, load_parcels()
    if parcels is None:
        raise ValueError(f"{scene.subject.name} has no parcellation, which these regions need: {', '.join(regions)}.")
    found = look_up(replace(scene.subject, labels=parcels), scene.deformation.voxels(axes))
    if scene.deformation.mirrored:
        found = scheme.swap.to(found.device)[found]
    share = label_shares(found, len(scheme.swap), parts)
    shape = [size // part for size, part in zip(found.shape, parts, strict=True)]
    return (scheme.of(regions).to(share.device) @ share).clamp_(max=1.0).view(-1, *shape)


def lesion_targets(scene: Scene, lesion: int, shape: Shape, world: World) -> dict[str, torch.Tensor]:
    """(w, h, d) share of each voxel of a grid: of one of `scene.synthetic` under its name, and of its components."""
    parts = parts_of([float(world[axis, axis]) for axis in range(3)])
    layer = Layer.of(scene.synthetic, scene.subject)
    axes = grid_axes(shape, world, parts, scene.subject.labels.device)
    return shares(layer, lesion, layer.at(scene.deformation.voxels(axes))[0], parts)


def corrupt(image: Image, chance: Chance) -> Image:
    """The same grid and targets with an image that shows nothing of them (C.5)."""
    noise = corrupted(image.placed.shape, chance)
    return Image(image.placed.with_features(noise[None, None]), image.targets, "corrupted")
