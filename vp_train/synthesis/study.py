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

from vp_model.geometry import Placed, Shape, World, spacing
from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.acquisition import fine_signal, measured
from vp_train.synthesis.appearance import draw_appearance
from vp_train.synthesis.artefacts import average, corrupted
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import Parts, places_in, voxels_on
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.pathology import painted
from vp_train.synthesis.planning import Scan, StudyPlan, StudySettings, plan_study
from vp_train.synthesis.regions import Region, is_pathology, lesions_of, members, region_of, scene_points
from vp_train.synthesis.scene import Image, parts_of
from vp_train.synthesis.sessions import Session
from vp_train.synthesis.sparsify import Grid, Presence, presence_of, sparsify
from vp_train.tasks.scene import Lesion, Scene

Named = str | Lesion
"""What may be asked for: a region by its name, or a lesion of the scene."""

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
                ontology puts together; or a pathology (`infarct`, `mass`, `edema`): all lesions that are one, or their
                components of this name.

        Raises:
            ValueError: there is no such region.
        """
        return self._share(volume, region_of(self._session(volume), self.plan.labels, region))

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "") -> torch.Tensor:
        """(w, h, d) share of each voxel of a volume that lesions of `scene.lesions` fill, or a component of theirs; as
        they are in the volume's session: nothing of one that was not there yet.

        Raises:
            ValueError: one of them is none of the scene's.
        """
        numbers = self.plan.known(lesions)
        return self._share(volume, lesions_of(self._session(volume), self.plan.labels, numbers, component))

    def _session(self, volume: int) -> Session:
        return self.plan.sessions[self.plan.scans[volume].session]

    def _share(self, volume: int, region: Region) -> torch.Tensor:
        return average(region.at(self.places[volume]).float(), self.parts[volume])

    def middle(self, session: int, region: str) -> NDArray[np.float64]:
        """(3,) mean place of a region in a session, mm of the study's world; of the whole brain where it is absent."""
        moment = self.plan.sessions[session]
        points = _points(region_of(moment, self.plan.labels, region))
        if not len(points):
            points = _points(region_of(moment, self.plan.labels, "brain"))
        mean = points.double().mean(dim=0).cpu().numpy()
        result: NDArray[np.float64] = moment.pose[:3, :3] @ mean + moment.pose[:3, 3]
        return result

    def volume_mm3(self, session: int, region: str, spacing_mm: float = 1.0) -> float:
        """True volume of a region in a session, counted at `spacing_mm`, whatever the images show of it."""
        moment = self.plan.sessions[session]
        wanted = region_of(moment, self.plan.labels, region)
        points = _points(wanted)
        if not len(points):
            return 0.0
        low = points.amin(dim=0).cpu().numpy().astype(np.float64) - 3.0
        high = points.amax(dim=0).cpu().numpy().astype(np.float64) + 3.0
        world = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        world[:3, 3] = low
        w, h, d = (int(np.ceil(size)) + 1 for size in (high - low) / spacing_mm)
        places = _places(replace(moment, pose=np.eye(4)), (w, h, d), world, (1, 1, 1))
        return float(wanted.at(places).sum()) * spacing_mm**3


def draw_study(
    subject: Subject,
    labels: Labels,
    chance: Chance,
    settings: StudySettings | None = None,
    keep: Sequence[Named] = (),
    anatomy: Anatomy | None = None,
) -> SyntheticStudy:
    """A study of a subject, on the device of its label map, as `chance` is.

    Args:
        anatomy: of the subject, on the same device; without it there are no lesions.
        keep: regions and lesions that sparsification must not lose and masking not hide.
    """
    return render_study(plan_study(subject, labels, chance, settings or StudySettings(), anatomy), keep)


def render_study(plan: StudyPlan, keep: Sequence[Named] = ()) -> SyntheticStudy:
    """The images of a plan; the same for the same plan and regions.

    Args:
        keep: regions (as `SyntheticStudy.target` takes them) and lesions of the scene that sparsification must not lose
            and masking not hide.

    Raises:
        ValueError: there is no such region.
    """
    chance = Chance.seeded(plan.seed)
    spared = [[_presence(region) for region in _regions(plan, session, keep)] for session in plan.sessions]
    of_grid = {scan.grid: scan.session for scan in plan.scans}
    grids = [replace(grid, kept=tuple(spared[of_grid[number]])) for number, grid in enumerate(plan.grids)]
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


def _regions(plan: StudyPlan, session: Session, keep: Sequence[Named]) -> list[Region]:
    return [
        region_of(session, plan.labels, one)
        if isinstance(one, str)
        else lesions_of(session, plan.labels, plan.known([one]))
        for one in keep
    ]


def _render(
    plan: StudyPlan, scan: Scan, grid: Grid, places: torch.Tensor, parts: Parts, keep: Sequence[Named]
) -> Image:
    session, labels = plan.sessions[scan.session], plan.labels
    subject = session.scene.subject
    device = subject.labels.device
    chance = Chance.seeded(scan.seed, device)
    nothing = torch.zeros(0, *grid.shape, device=device)
    if scan.corrupted:
        return Image(Placed(corrupted(grid.shape, chance)[None, None], grid.world), nothing, "corrupted")
    layer = session.layer
    found = labels.plain.to(device)[subject.labels.flatten()[places].to(torch.int32)]
    if session.scene.deformation.mirrored:
        found = labels.swap.to(device)[found]
    appearance = draw_appearance(labels, scan.sequence.kind, scan.contrast)
    signal, diffusion = fine_signal(found, appearance, chance)
    hidden = scan.hidden.clone()
    for region in keep:
        if isinstance(region, str) and not is_pathology(region):
            hidden[list(members(labels, region))] = False
    seen = ~hidden.to(device)[found]
    if layer is not None:
        signal, diffusion = painted(signal, diffusion, layer, places, appearance, scan.b_value)
        seen |= layer.codes.labels.flatten()[places] > 0
    image = measured(
        signal,
        diffusion,
        seen,
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


def _points(region: Region) -> torch.Tensor:
    """(n, 3) scene mm of at most `SAMPLED_POINTS` voxels of a region."""
    indices = region.voxels()
    stride = -(-len(indices) // SAMPLED_POINTS)
    return scene_points(region.session.scene, indices[::stride] if stride > 1 else indices)


def _presence(region: Region) -> Presence:
    """How much of the voxels of a grid a region fills, measured where it lies."""
    session = region.session
    points = _points(region).cpu().numpy().astype(np.float64) @ session.pose[:3, :3].T + session.pose[:3, 3]

    def share(shape: Shape, world: World) -> torch.Tensor:
        parts = parts_of(spacing(world).tolist())
        return average(region.at(_places(session, shape, world, parts)).float(), parts)

    return presence_of(points, share)
