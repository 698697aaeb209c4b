"""Structures that grow or shrink between sessions: the boundary of each moves along its normal, its surroundings yield.

Where a structure's smoothed mask rises, points of the scene look a little further inward (growth) or outward (atrophy)
in the label map. What results is again a deformation of the label map, so that true volumes follow from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

import torch
from torch.nn import functional

from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.artefacts import blur
from vp_train.synthesis.boxes import label_boxes, union
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.space import EXTENT_MM, Deformation, Field

WIDTH_MM = 2.0
"""Standard deviation of the smoothed masks: how far the surroundings of a structure move with it."""
STEEPEST = 1.4
"""Largest movement in units of `WIDTH_MM` / e^½ for which no two points meet; larger ones are divided into steps."""
LATTICE_MM = 2.5


@dataclass(frozen=True, eq=False)
class Grown(Deformation):
    """A deformation after time has passed: `growth` (3 channels) is added, in voxels of the label map."""

    growth: Field

    def voxels(self, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
        moved = self.growth.at(axes)
        return [place + moved[axis] for axis, place in enumerate(super().voxels(axes))]

    def voxels_at(self, points: torch.Tensor) -> torch.Tensor:
        return super().voxels_at(points) + self.growth.at_points(points)


@dataclass(frozen=True)
class Course:
    """What happens from one session to the next: range in mm by which each structure's boundary moves outwards."""

    name: str
    share: float
    structures: Mapping[str, tuple[float, float]]

    def draw(self, labels: Labels, asymmetry: float, chance: Chance) -> dict[str, float]:
        """mm by the name of a structure of a side."""
        moved: dict[str, float] = {}
        for structure, (low, high) in self.structures.items():
            distance = chance.number(low, high)
            names = [name for name in (structure, f"left {structure}", f"right {structure}") if name in labels.names]
            for name in names:
                moved[name] = distance * (1.0 + (chance.number(-asymmetry, asymmetry) if len(names) > 1 else 0.0))
        return moved


def grown(subject: Subject, before: Deformation, moved_mm: Mapping[str, float], labels: Labels) -> Deformation:
    """The deformation of the same head later.

    Args:
        moved_mm: about how far the boundary of each structure moves outwards (less where it is thin or the way long),
            by its name in the scene (in a mirrored scene its name in the label map is that of the other side); negative
            to shrink.

    Raises:
        ValueError: a name is none of a compact label.
    """
    wanted = {}
    for name, distance in moved_mm.items():
        if name not in labels.names:
            raise ValueError(f"No structure of the label maps is called {name!r}.")
        index = labels.index(name)
        wanted[int(labels.swap[index]) if before.mirrored else index] = distance
    pulls = [
        pull for index, distance in wanted.items() if (pull := _pull(subject, index, distance, labels)) is not None
    ]
    if not pulls:
        return before
    device = subject.labels.device
    count = round(EXTENT_MM / LATTICE_MM) + 1
    line = torch.linspace(-EXTENT_MM / 2, EXTENT_MM / 2, count, device=device)
    lattice = before.voxels((line, line, line))
    control = torch.zeros(3, count, count, count, device=device)
    near = torch.ones(count, count, count, dtype=torch.bool, device=device)
    for axis in range(3):  # what lies outside all blocks stays where it is
        low = min(pull.low[axis] for pull in pulls)
        high = max(pull.low[axis] + pull.field.shape[1 + axis] for pull in pulls)
        near &= (lattice[axis] > low) & (lattice[axis] < high)
    start = torch.stack([places[near] for places in lattice])
    places = start.clone()
    steps = max(pull.steps for pull in pulls)
    for _ in range(steps):
        places = places + sum((pull.at(places) / steps for pull in pulls), torch.zeros((), device=device))
    control[:, near] = places - start
    if isinstance(before, Grown):
        control += before.growth.control
    kept = {field.name: getattr(before, field.name) for field in fields(Deformation)}
    return Grown(**kept, growth=Field(control))


@dataclass(frozen=True, eq=False)
class _Pull:
    """Movement towards (or away from) a structure: `field` (3, w, h, d) voxels over a block that begins at `low`."""

    low: tuple[int, int, int]
    field: torch.Tensor
    steps: int

    def at(self, places: torch.Tensor) -> torch.Tensor:
        """(3, n) at indices (3, n) of the label map; 0 outside the block."""
        sizes = self.field.shape[1:]
        where = torch.stack([2 * (places[axis] - self.low[axis]) / (sizes[axis] - 1) - 1 for axis in (2, 1, 0)], dim=-1)
        where = where[None, :, None, None]
        found = functional.grid_sample(self.field[None], where, padding_mode="zeros", align_corners=True)
        return found[0, :, :, 0, 0]


def _pull(subject: Subject, index: int, distance_mm: float, labels: Labels) -> _Pull | None:
    """None where the label map lacks the structure or nothing moves."""
    ids = [label for label, plain in enumerate(labels.plain.tolist()) if plain == index]
    boxes = [box for label in ids if (box := label_boxes(subject)[label]) is not None]
    if distance_mm == 0.0 or not boxes:
        return None
    low, high = union(boxes)
    reach = int(4 * WIDTH_MM)
    first = [max(side - reach, 0) for side in low]
    last = [min(side + reach, size) for side, size in zip(high, subject.labels.shape, strict=True)]
    block = subject.labels[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    smooth = blur(torch.isin(block, torch.tensor(ids, dtype=block.dtype, device=block.device)).float(), WIDTH_MM)
    rise = torch.stack(torch.gradient(smooth))
    # At a flat boundary the smoothed mask rises by 1 / (σ √2π) a mm.
    field = rise * (distance_mm * WIDTH_MM * math.sqrt(2 * math.pi))
    steps = max(1, math.ceil(abs(distance_mm) / (STEEPEST * WIDTH_MM / math.exp(0.5))))
    return _Pull((first[0], first[1], first[2]), field, steps)


@dataclass(frozen=True)
class ChangeTable:
    """`changes.json`: courses, intervals between sessions, and how alike the sessions' images are."""

    courses: tuple[Course, ...]
    asymmetry: float
    intervals_days: tuple[int, ...]
    jitter_days: int
    first_day: str
    days: int
    three_sessions: float
    same_protocol: float
    other_scanner: float
    unregistered: float
    pose_degrees: float
    pose_shift_mm: float

    def draw_course(self, chance: Chance) -> Course:
        return self.courses[chance.choice([course.share for course in self.courses])]


@cache
def load_changes() -> ChangeTable:
    table = json.loads(files("vp_train.synthesis").joinpath("changes.json").read_text(encoding="utf-8"))
    courses = tuple(
        Course(name, float(entry["share"]), {key: tuple(span) for key, span in entry["structures"].items()})
        for name, entry in table["courses"].items()
    )
    pose = table["unregistered"]
    return ChangeTable(
        courses,
        table["asymmetry"],
        tuple(table["intervals_days"]),
        table["jitter_days"],
        table["first_day"],
        table["days"],
        table["three_sessions"],
        table["same_protocol"],
        table["other_scanner"],
        pose["share"],
        pose["degrees"],
        pose["shift_mm"],
    )
