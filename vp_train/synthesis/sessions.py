"""The sessions of a study: dates, what has changed in the head, how it lies, scanner and protocol (`changes.json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import torch

from vp_model.geometry import World
from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import rigid
from vp_train.synthesis.growth import ChangeTable, grown, load_changes
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.lesions.painting import Layer
from vp_train.synthesis.pathology import draw_histories
from vp_train.synthesis.scene import Scene
from vp_train.synthesis.sequences import SequenceTable
from vp_train.synthesis.space import draw_deformation


@dataclass(frozen=True, eq=False)
class Session:
    """A head at one date.

    Attributes:
        visit: ISO date.
        scene: the head as it is at that date; nothing is removed from it.
        pose: (4, 4) scene mm → world mm of the study; the unit matrix where sessions are co-registered.
        lesions: each lesion of the study as it is in this session; None where it is not there.
        layer: the lesions that are there, laid on the label map; None where there are none.
        moved_mm: how far the boundary of each structure has moved outwards since the first session.
        scanner: seed of contrasts; sessions on one scanner share it.
        protocol: names of the sequences, in order.
    """

    number: int
    visit: str
    scene: Scene
    pose: World
    scanner: int
    protocol: tuple[str, ...]
    moved_mm: Mapping[str, float] = field(default_factory=dict)
    lesions: tuple[SyntheticLesion | None, ...] = ()
    layer: Layer | None = None


def draw_sessions(
    subject: Subject,
    labels: Labels,
    table: SequenceTable,
    chance: Chance,
    several: float,
    maximum_images: int,
    strength: float = 1.0,
    changes: ChangeTable | None = None,
) -> tuple[Session, ...]:
    """One to three sessions of a subject, of at most `maximum_images` in all and at least one each.

    Args:
        several: share of studies with more than one.
        strength: of the subject's deformation; 0 leaves the label map as it is, but for the mirror.
    """
    changes = changes or load_changes()
    count = 1
    if chance.happens(several):
        count = 3 if chance.happens(changes.three_sessions) else 2
    day = date.fromisoformat(changes.first_day) + timedelta(days=chance.integer(changes.days))
    nothing = torch.zeros(len(labels.names), dtype=torch.bool)
    scene = Scene(subject, draw_deformation(subject, chance, strength), None, nothing)
    course = changes.draw_course(chance)
    registered = not chance.happens(changes.unregistered)
    protocol = table.draw_protocol(chance)
    sessions: list[Session] = []
    for number in range(count):
        scanner, moved = chance.seed(), course.draw(labels, changes.asymmetry, chance)
        degrees = (chance.normal(3) * changes.pose_degrees / 2).tolist()
        shift = (chance.normal(3) * changes.pose_shift_mm / 2).tolist()
        if number == 0:
            sessions.append(Session(0, day.isoformat(), scene, np.eye(4), scanner, protocol.draw(chance)))
            continue
        before = sessions[-1]
        scene = replace(before.scene, deformation=grown(subject, before.scene.deformation, moved, labels))
        names = before.protocol
        if not chance.happens(changes.same_protocol):
            names = table.draw_protocol(chance).draw(chance)
        interval = changes.intervals_days[chance.integer(len(changes.intervals_days))]
        day += timedelta(days=interval + chance.integer(changes.jitter_days))
        sessions.append(
            Session(
                number,
                day.isoformat(),
                scene,
                np.eye(4) if registered else rigid(degrees, shift),
                scanner if chance.happens(changes.other_scanner) else before.scanner,
                names,
                {
                    name: before.moved_mm.get(name, 0.0) + moved.get(name, 0.0)
                    for name in dict.fromkeys((*before.moved_mm, *moved))
                },
            )
        )
    room = maximum_images // count
    return tuple(replace(session, protocol=session.protocol[:room]) for session in sessions)


def with_lesions(
    sessions: Sequence[Session], anatomy: Anatomy, chance: Chance, kinds: Sequence[str] | None = None
) -> tuple[Session, ...]:
    """The same sessions of a head that has lesions.

    Args:
        kinds: names of `kinds.json` to draw from; by their weights where None.
    """
    subject = sessions[0].scene.subject
    days = [date.fromisoformat(session.visit) for session in sessions]
    intervals = [(later - earlier).days for earlier, later in pairwise(days)]
    histories = draw_histories(subject, anatomy, intervals, chance, kinds)
    result = []
    for session in sessions:
        lesions = tuple(history[session.number] for history in histories)
        present = [lesion for lesion in lesions if lesion is not None]
        result.append(replace(session, lesions=lesions, layer=Layer.of(present, subject) if present else None))
    return tuple(result)
