"""Studies made of prepared real images, as examples of joint training are (paper 3.2, B.2).

Notable:
- as synthetic ones (`vp_train.synthesis.study`) they are planned first (`vp_train.datasets.public.plans`) and rendered
  when it is known what is asked for;
- a region is asked for only where a label map tells of it, in every session that the study shows;
- into a healthy head whose anatomy is marked lesions are drawn (B.6): `vp_train.datasets.public.lesioned`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vp_model.geometry import Placed, Shape, World
from vp_train.datasets.public.distortion import distorted
from vp_train.datasets.public.known import is_lesion
from vp_train.datasets.public.plans import Named, PreparedPlan, PreparedScan, kind_of
from vp_train.datasets.public.sampling import sampled
from vp_train.datasets.public.truth import BRAIN, swapped
from vp_train.synthesis.artefacts import corrupted
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.planning import BLANKED
from vp_train.synthesis.scene import Image
from vp_train.synthesis.sparsify import Grid, Presence, presence_of, sparsify
from vp_train.tasks.scene import Lesion, Scene

HALF = 0.5


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A rendered study (`vp_train.joint.examples.Study`): volume `i` is `scene.volumes[i]`, `images[i]`."""

    plan: PreparedPlan
    images: tuple[Image, ...]

    @property
    def scene(self) -> Scene:
        return self.plan.scene

    def target(self, volume: int, region: str) -> torch.Tensor:
        """(w, h, d) share of each voxel of a volume that a region fills.

        Raises:
            ValueError: no label map of the case tells of it.
        """
        placed = self.images[volume].placed
        return self.plan.share(self.plan.image(volume).volume.session, region, placed.shape, placed.world)

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "") -> torch.Tensor:
        """(w, h, d) share of each voxel of a volume that lesions of the scene fill, or a component of them."""
        placed = self.images[volume].placed
        session = self.plan.image(volume).volume.session
        return self.plan.lesion_share(session, lesions, component, placed.shape, placed.world)


def render_prepared(plan: PreparedPlan, keep: Sequence[Named] = ()) -> PreparedStudy:
    """The images of a plan; the same for the same plan and regions.

    Args:
        keep: regions and lesions that sparsification must not lose and masking not hide.
    """
    chance = Chance.seeded(plan.seed)
    grids = []
    for number, grid in enumerate(plan.grids):
        first = next(scan for scan in plan.scans if scan.grid == number)
        session = plan.truth.case.images[first.image].volume.session
        grids.append(replace(grid, kept=tuple(_presence(plan, session, one) for one in keep)))
    grids = sparsify(grids, plan.settings.budget_voxels, plan.settings.sparsified, chance)
    return PreparedStudy(plan, tuple(_render(plan, scan, grids[scan.grid], keep) for scan in plan.scans))


def _presence(plan: PreparedPlan, session: int, one: Named) -> Presence:
    """How much of the voxels of a grid a region or a lesion fills."""

    def share(shape: Shape, world: World) -> torch.Tensor:
        if isinstance(one, str):
            return plan.share(session, one, shape, world)
        return plan.lesion_share(session, [one], "", shape, world)

    points = plan.corners(session, one)
    return presence_of(np.zeros((0, 3)) if points is None else points, share)


def _render(plan: PreparedPlan, scan: PreparedScan, grid: Grid, keep: Sequence[Named]) -> Image:
    source = plan.truth.case.images[scan.image]
    kind = kind_of(source)
    chance = Chance.seeded(scan.seed, plan.device)
    nothing = torch.zeros(0, *grid.shape, device=plan.device)
    if scan.corrupted:
        return Image(Placed(corrupted(grid.shape, chance)[None, None], grid.world), nothing, "corrupted")
    world = plan.pose.back @ grid.world
    image = sampled(source.volume.features[0].to(plan.device), source.volume.world, grid.shape, world)
    if plan.lesioned is not None:
        image = plan.lesioned.painted(image, kind, world)
    unsure = plan.truth.blanked(scan.image)
    if unsure is not None:
        blank = sampled(torch.from_numpy(unsure).to(plan.device), source.volume.world, grid.shape, world)
        image = torch.where(blank > HALF, 0.0, image)
    hidden = _hidden(plan, source.volume.session, grid, keep, chance)
    if hidden is not None:
        image = torch.where(hidden, 0.0, image)
    image = distorted(image, kind, (grid.shape, grid.world), plan.settings.distortions, chance)
    return Image(Placed(image[None, None], grid.world), nothing, kind)


def _hidden(plan: PreparedPlan, session: int, grid: Grid, keep: Sequence[Named], chance: Chance) -> torch.Tensor | None:
    """(w, h, d) bool: what is blanked (B.2, "anatomical masking"; stripping of the skull), never what is asked for."""
    stripped = chance.happens(plan.settings.stripped) and BRAIN in plan.regions
    masked = chance.happens(plan.settings.masked)
    anatomy = [region for region in plan.regions if not is_lesion(region) and region != BRAIN]
    drawn = [anatomy[chance.integer(len(anatomy))] for _ in range(1 + chance.integer(BLANKED))] if anatomy else []
    if not stripped and not (masked and drawn):
        return None
    hidden = torch.zeros(grid.shape, dtype=torch.bool, device=plan.device)
    if stripped:
        hidden |= plan.share(session, BRAIN, grid.shape, grid.world) < HALF
    for region in {*drawn, *map(swapped, drawn)} if masked else ():
        if region in plan.regions:
            hidden |= plan.share(session, region, grid.shape, grid.world) > HALF
    for one in keep:
        shares, places = _presence(plan, session, one)(grid.shape, grid.world)
        if len(shares):
            index = torch.from_numpy(places).to(plan.device)
            hidden[index[:, 0], index[:, 1], index[:, 2]] = False
    return hidden
