"""The plan of a study of a prepared case: sessions, images, pose, lesions; no image is made yet (paper 3.2, B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Shape, World, corners, same_geometry, scaled_world, spacing
from vp_model.outcome import InputVolume
from vp_train.datasets.public.cases import PreparedCase, PreparedImage
from vp_train.datasets.public.known import is_lesion, lesions_of_masks, signals
from vp_train.datasets.public.lesioned import Lesioned, draw_lesioned
from vp_train.datasets.public.pose import Pose, draw_pose
from vp_train.datasets.public.truth import CaseTruth, swapped
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.growth import load_changes
from vp_train.synthesis.planning import RESIZED, StudySettings
from vp_train.synthesis.sparsify import Grid
from vp_train.tasks.scene import KINDS, Lesion, Scene

Named = str | Lesion
"""What may be asked for: a region by its name, or a lesion of the scene."""
MOST_SESSIONS = 3
HEALTHY_MM3 = 10_000.0
"""Of lesions that are marked, up to which others are drawn beside them: FreeSurfer marks some in most healthy heads."""
THICK = 1.2
"""How much longer than the others a voxel's longest side must be to be the separation of slices."""


@dataclass(frozen=True)
class PreparedScan:
    """One image before it is made: its number in the case, its grid in the plan, the seed of its intensities."""

    image: int
    grid: int
    seed: int
    corrupted: bool


@dataclass(frozen=True, eq=False)
class PreparedPlan:
    """A study of a case before its images are made.

    Attributes:
        regions: what may be asked for, in the study's own sides; of the synthetic lesions too.
        grids: (shape, voxel → mm of the study) that the scans are on.
        lesioned: the synthetic lesions; None where there are none.
    """

    scene: Scene
    regions: tuple[str, ...]
    truth: CaseTruth
    pose: Pose
    scans: tuple[PreparedScan, ...]
    grids: tuple[Grid, ...]
    lesioned: Lesioned | None
    settings: StudySettings
    seed: int
    device: torch.device

    def image(self, volume: int) -> PreparedImage:
        return self.truth.case.images[self.scans[volume].image]

    def share(self, session: int, region: str, shape: Shape, world: World) -> torch.Tensor:
        """(w, h, d) share of each voxel of a grid (voxel → mm of the study) that a region fills in a session of the
        case.

        Raises:
            ValueError: nothing tells of the region.
        """
        world = self.pose.back @ world
        added = None if self.lesioned is None else self.lesioned.share(region, shape, world)
        if added is not None and region not in self.truth.regions(session):
            return added
        found = self.truth.share(session, self._own(region), shape, world, self.device)
        if added is not None:
            return torch.maximum(found, added)
        if self.lesioned is not None and not is_lesion(region):
            return found * (1 - self.lesioned.replaced(shape, world))
        return found

    def _own(self, region: str) -> str:
        """A region of the study by the side that it has in the case."""
        return swapped(region) if self.pose.mirrored else region

    def lesion_share(
        self, session: int, lesions: Sequence[Lesion], component: str, shape: Shape, world: World
    ) -> torch.Tensor:
        """The same of lesions of the scene, or of a component of theirs.

        Raises:
            ValueError: one of them is none of the scene's.
        """
        world = self.pose.back @ world
        total = torch.zeros(shape, device=self.device)
        for lesion in lesions:
            if lesion not in self.scene.lesions:
                raise ValueError(f"The study shows no such {lesion.structure}.")
            if self.lesioned is not None and lesion in self.lesioned.facts:
                found = self.lesioned.share_of(lesion, component, shape, world)
            else:
                found = self.truth.share(session, component or lesion.structure, shape, world, self.device)
            total = torch.maximum(total, found)
        return total

    def corners(self, session: int, one: Named) -> NDArray[np.float64] | None:
        """(8 n, 3) mm of the study: corners of blocks that hold a region or a lesion in a session; None where it is
        nowhere.
        """
        name = one if isinstance(one, str) else one.structure
        found = [] if self.lesioned is None else [self.lesioned.corners(one)]
        drawn = self.lesioned is not None and one in self.lesioned.facts
        if not drawn and name in self.truth.regions(session):
            found.append(self.truth.corners(session, self._own(name)))
        points = [some for some in found if some is not None]
        if not points:
            return None
        return np.concatenate(points) @ self.pose.matrix[:3, :3].T + self.pose.matrix[:3, 3]


def plan_prepared(
    case: PreparedCase,
    chance: Chance,
    settings: StudySettings,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
) -> PreparedPlan:
    """Sessions, images, pose and lesions of a study of a case, and what may be asked of it.

    Args:
        cache: keeps the anatomy of heads that lesions are drawn into.

    Raises:
        ValueError: no label map tells anything of the case.
    """
    truth = CaseTruth(case)
    if not truth.sessions:
        raise ValueError(f"No label map tells anything of {case.subject}.")
    sessions = _draw_sessions(truth, settings, chance)
    room = max(1, settings.maximum_images // len(sessions))
    numbers = [number for session in sessions for number in _draw_images(truth.images(session), room, chance)]
    images = [case.images[number] for number in numbers]
    centre = np.mean([_middle(image) for image in images], axis=0)
    pose = draw_pose(centre, max(float(image.volume.spacing.max()) for image in images), settings.strength, chance)
    grids, places = _draw_grids(images, pose, settings, chance)
    spoiled = [
        chance.happens(settings.corrupted) and number > 0 and images[number - 1].volume.session == image.volume.session
        for number, image in enumerate(images)
    ]
    scans = [
        PreparedScan(number, place, chance.seed(), bad)
        for number, place, bad in zip(numbers, places, spoiled, strict=True)
    ]
    regions = frozenset.intersection(*(truth.regions(session) for session in sessions))
    lesions, lesioned = _known_lesions(truth, numbers, sessions[-1]), None
    healthy = sum(lesion.volume_mm3 for lesion in lesions) <= HEALTHY_MM3
    scale = abs(float(np.linalg.det(pose.matrix[:3, :3])))
    lesions = tuple(replace(lesion, volume_mm3=lesion.volume_mm3 * scale) for lesion in lesions)
    if len(sessions) == 1 and healthy and chance.happens(settings.lesioned):
        lesioned = draw_lesioned(case, truth.images(sessions[0]), pose, settings.kinds, chance, device, cache)
    if lesioned is not None:
        lesions, regions = (*lesions, *lesioned.facts), regions | frozenset(lesioned.regions)
    scene = Scene(_volumes(images, sessions, chance), lesions)
    asked = tuple(sorted(regions))  # both sides of a pair are there, so that a mirror changes nothing
    device = torch.device(device)
    return PreparedPlan(
        scene, asked, truth, pose, tuple(scans), tuple(grids), lesioned, settings, chance.seed(), device
    )


def _draw_sessions(truth: CaseTruth, settings: StudySettings, chance: Chance) -> list[int]:
    """One annotated session or, in a share, two or three that follow each other and share what is asked of them."""
    several, place = chance.happens(settings.several), chance.integer(len(truth.sessions))
    most = min(MOST_SESSIONS, settings.maximum_images, len(truth.sessions))
    if several and most > 1:
        count = 2 + chance.integer(most - 1)
        start = chance.integer(len(truth.sessions) - count + 1)
        chosen = list(truth.sessions[start : start + count])
        if frozenset.intersection(*(truth.regions(session) for session in chosen)):
            return chosen
    return [truth.sessions[place]]


def _draw_images(numbers: Sequence[int], room: int, chance: Chance) -> list[int]:
    """A random subset of 1 to `room` images, in their order."""
    order = torch.randperm(len(numbers), generator=chance.generator).tolist()
    return sorted(numbers[place] for place in order[: 1 + chance.integer(min(room, len(numbers)))])


def _middle(image: PreparedImage) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = corners(image.volume.shape, image.volume.world).mean(axis=0)
    return middle


def _draw_grids(
    images: Sequence[PreparedImage], pose: Pose, settings: StudySettings, chance: Chance
) -> tuple[list[Grid], list[int]]:
    """Grids of the study, and the number of each image's; images on one grid share it, as DWI and ADC do."""
    grids: list[Grid] = []
    own: list[tuple[Shape, World, int]] = []
    places: list[int] = []
    for image in images:
        resized = chance.number(*RESIZED) if chance.happens(settings.resized) else 1.0
        free = chance.integer(3)
        shape, world, session = image.volume.shape, image.volume.world, image.volume.session
        for place, (other, matrix, visit) in enumerate(own):
            if session == visit and same_geometry([(other, matrix), (shape, world)]):
                grids[place] = replace(grids[place], images=grids[place].images + 1)
                places.append(place)
                break
        else:
            steps = spacing(world)
            factors = np.maximum(steps * resized, settings.finest_mm) / steps
            w, h, d = (max(1, round(size / factor)) for size, factor in zip(shape, factors, strict=True))
            thick = int(np.argmax(steps)) if steps.max() > THICK * np.median(steps) else free
            coarser = scaled_world(world, factors)
            coarser[:3, 3] += _middle(image) - corners((w, h, d), coarser).mean(axis=0)
            grids.append(Grid((w, h, d), pose.moved(coarser, _middle(image)), thick))
            own.append((shape, world, session))
            places.append(len(grids) - 1)
    return grids, places


def _volumes(images: Sequence[PreparedImage], sessions: Sequence[int], chance: Chance) -> tuple[InputVolume, ...]:
    """What α is told of the images; dates are made up where the data set gives none."""
    changes = load_changes()
    first = date.fromisoformat(changes.first_day) + timedelta(days=chance.integer(changes.days))
    visits: dict[int, date] = {}
    for session in sessions:
        interval = changes.intervals_days[chance.integer(len(changes.intervals_days))]
        day = next(image.day for image in images if image.volume.session == session)
        told = first if day is None else first + timedelta(days=day)
        before = max(visits.values(), default=None)
        visits[session] = told if before is None or told > before else before + timedelta(days=interval)
    return tuple(
        InputVolume(
            f"v{number}",
            kind_of(image),
            visits[image.volume.session].isoformat(),
            sessions.index(image.volume.session),
        )
        for number, image in enumerate(images, start=1)
    )


def kind_of(image: PreparedImage) -> str:
    """The sequence type as α is told it."""
    kind = image.volume.kind
    if kind == "T1" and image.contrast == "post":
        return "T1+C"
    return kind if kind in KINDS else "unknown"


def _known_lesions(truth: CaseTruth, numbers: Sequence[int], session: int) -> tuple[Lesion, ...]:
    """The lesions that the masks of a session show, with their signal on the images of the study."""
    for number in truth.images(session):
        image = truth.case.images[number]
        found = lesions_of_masks(image.masks, image.volume.world)
        if found:
            shown = [truth.case.images[one] for one in numbers if truth.case.images[one].volume.session == session]
            alike = [
                (kind_of(one), one)
                for one in shown
                if same_geometry([(image.volume.shape, image.volume.world), (one.volume.shape, one.volume.world)])
            ]
            return tuple(
                replace(lesion, signal=signals(image.masks, lesion, alike, image.volume.world)) for lesion in found
            )
    return ()
