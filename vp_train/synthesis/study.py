"""Whole synthetic studies (paper 3.2, B.2): from one label map, sessions of several images at geometries of their own.

Notable:
- a study is planned first (`plan_study`: sessions, sequences, dates, what is to be told of it) and rendered when it is
  known what a prompt asks for (`render_study`), which sparsification then spares; `draw_study` does both;
- every image keeps where its voxels fall in the label map, so that a target is made only when it is asked for;
- an image depends on its own seed, not on those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Placed, Shape, World, cropped_world, spacing
from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.acquisition import fine_signal, measured
from vp_train.synthesis.appearance import draw_appearance
from vp_train.synthesis.artefacts import average, corrupted
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import Parts, places_in, voxels_on
from vp_train.synthesis.planning import Scan, StudyPlan, StudySettings, plan_study
from vp_train.synthesis.regions import members, region_mask, scene_points
from vp_train.synthesis.scene import Image, parts_of
from vp_train.synthesis.sessions import Session
from vp_train.synthesis.sparsify import Grid, Presence, sparsify
from vp_train.tasks.scene import Scene

SAMPLED_POINTS = 20000
"""Voxels of a region that are looked for in a scene to find where it lies."""


@dataclass(frozen=True, eq=False)
class SyntheticStudy:
    """A study with its truth.

    Attributes:
        scene: volumes `v1`, `v2`, … in order of session, with kinds and dates; lesions that the images show.
        images: one for each volume: `placed` (1, 1, w, h, d) in [0, 1] and its matrix (voxel → world mm, RAS);
            `targets` is empty, (0, w, h, d): ask `target`.
        places: for each volume, (w·p, h·q, d·r) int32 position in the label map of each part of each voxel.
        parts: for each volume, into how many parts a voxel is divided along each axis.
    """

    scene: Scene
    images: tuple[Image, ...]
    plan: StudyPlan
    places: tuple[torch.Tensor, ...]
    parts: tuple[Parts, ...]

    def target(self, volume: int, region: str) -> torch.Tensor:
        """(w, h, d) share of each voxel of a volume (0 is `v1`) that a region fills.

        Args:
            region: a structure (`left hippocampus`; both sides for `hippocampus`), `brain`, a structure that the
                ontology puts together, or `white matter lesion`.

        Raises:
            ValueError: the label maps have no such region.
        """
        session = self.plan.sessions[self.plan.scans[volume].session]
        return self.share(volume, _mask(session, self.plan.labels, region))

    def share(self, volume: int, mask: torch.Tensor) -> torch.Tensor:
        """(w, h, d) share of each voxel of a volume that a bool mask (w, h, d) of the label map fills."""
        return _share(mask, self.places[volume], self.parts[volume])

    def volume_mm3(self, session: int, region: str, spacing_mm: float = 1.0) -> float:
        """True volume of a region in a session, counted at `spacing_mm`, whatever the images show of it."""
        moment = self.plan.sessions[session]
        mask = _mask(moment, self.plan.labels, region)
        points = _points(moment, mask)
        if not len(points):
            return 0.0
        low = points.amin(dim=0).cpu().numpy().astype(np.float64) - 3.0
        high = points.amax(dim=0).cpu().numpy().astype(np.float64) + 3.0
        world = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        world[:3, 3] = low
        w, h, d = (int(np.ceil(size)) + 1 for size in (high - low) / spacing_mm)
        places = _places(replace(moment, pose=np.eye(4)), (w, h, d), world, (1, 1, 1))
        return float(mask.flatten()[places].sum()) * spacing_mm**3


def draw_study(
    subject: Subject,
    labels: Labels,
    chance: Chance,
    settings: StudySettings | None = None,
    keep: Sequence[str] = (),
) -> SyntheticStudy:
    """A study of a subject, on the device of its label map, as `chance` is.

    Args:
        keep: regions that sparsification must not lose and masking not hide.
    """
    return render_study(plan_study(subject, labels, chance, settings or StudySettings()), keep)


def render_study(plan: StudyPlan, keep: Sequence[str] = ()) -> SyntheticStudy:
    """The images of a plan; the same for the same plan and regions.

    Args:
        keep: regions that sparsification must not lose and masking not hide.

    Raises:
        ValueError: a region is none of the label maps.
    """
    chance = Chance.seeded(plan.seed)
    grids = []
    for number, grid in enumerate(plan.grids):
        session = plan.sessions[next(scan.session for scan in plan.scans if scan.grid == number)]
        grids.append(replace(grid, kept=tuple(_presence(session, plan.labels, region) for region in keep)))
    grids = sparsify(grids, plan.settings.budget_voxels, plan.settings.sparsified, chance)
    images, places, parts = [], [], []
    where: dict[int, torch.Tensor] = {}
    for scan in plan.scans:
        grid = grids[scan.grid]
        divided = parts_of(spacing(grid.world).tolist())
        if scan.grid not in where:
            where[scan.grid] = _places(plan.sessions[scan.session], grid.shape, grid.world, divided)
        images.append(_render(plan, scan, grid, where[scan.grid], divided, keep))
        places.append(where[scan.grid])
        parts.append(divided)
    return SyntheticStudy(plan.scene, tuple(images), plan, tuple(places), tuple(parts))


def _render(plan: StudyPlan, scan: Scan, grid: Grid, places: torch.Tensor, parts: Parts, keep: Sequence[str]) -> Image:
    session, labels = plan.sessions[scan.session], plan.labels
    subject = session.scene.subject
    device = subject.labels.device
    chance = Chance.seeded(scan.seed, device)
    nothing = torch.zeros(0, *grid.shape, device=device)
    if scan.corrupted:
        return Image(Placed(corrupted(grid.shape, chance)[None, None], grid.world), nothing, "corrupted")
    found = labels.plain.to(device)[subject.labels.flatten()[places].to(torch.int32)]
    if session.scene.deformation.mirrored:
        found = labels.swap.to(device)[found]
    signal, diffusion = fine_signal(found, draw_appearance(labels, scan.sequence.kind, scan.contrast), chance)
    hidden = scan.hidden.clone()
    for region in keep:
        hidden[list(members(labels, region))] = False
    image = measured(
        signal,
        diffusion,
        ~hidden.to(device)[found],
        scan.sequence.kind,
        scan.b_value,
        parts,
        (grid.shape, grid.world),
        plan.settings.distortions,
        chance,
    )
    return Image(Placed(image[None, None], grid.world), nothing, scan.sequence.kind)


def _places(session: Session, shape: Shape, world: World, parts: Parts) -> torch.Tensor:
    """Where the parts of the voxels of a grid (voxel → world mm) fall in the session's label map."""
    subject = session.scene.subject
    in_scene = (np.linalg.inv(session.pose) @ world).astype(np.float64)
    return places_in(subject, voxels_on(session.scene.deformation, shape, in_scene, parts, subject.labels.device))


def _share(mask: torch.Tensor, places: torch.Tensor, parts: Parts) -> torch.Tensor:
    return average(mask.flatten()[places].float(), parts)


def _mask(session: Session, labels: Labels, region: str) -> torch.Tensor:
    return region_mask(session.scene, labels, region)


def _points(session: Session, mask: torch.Tensor) -> torch.Tensor:
    """(n, 3) scene mm of at most `SAMPLED_POINTS` voxels of a mask of the label map."""
    indices = mask.nonzero()
    stride = -(-len(indices) // SAMPLED_POINTS)
    return scene_points(session.scene, indices[::stride] if stride > 1 else indices)


def _presence(session: Session, labels: Labels, region: str) -> Presence:
    """How much of the voxels of a grid a region fills, measured where it lies."""
    mask = _mask(session, labels, region)
    points = _points(session, mask).cpu().numpy().astype(np.float64) @ session.pose[:3, :3].T + session.pose[:3, 3]

    def measure(shape: Shape, world: World) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        nowhere = np.zeros(0, np.float32), np.zeros((0, 3), np.int64)
        if not len(points):
            return nowhere
        indices = (points - world[:3, 3]) @ np.linalg.inv(world[:3, :3]).T
        low = np.maximum(np.floor(indices.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(indices.max(axis=0)).astype(int) + 2, shape)
        if (high <= low).any():
            return nowhere
        w, h, d = (int(size) for size in high - low)
        parts = parts_of(spacing(world).tolist())
        found = _share(mask, _places(session, (w, h, d), cropped_world(world, low.tolist()), parts), parts)
        where = found.nonzero()
        shares: NDArray[np.float32] = found[where[:, 0], where[:, 1], where[:, 2]].cpu().numpy()
        return shares, where.cpu().numpy() + low

    return measure
