"""The plan of a synthetic study: sessions, sequences, grids, blanked tissue; no image is made yet (paper B.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from vp_model.outcome import InputVolume
from vp_train.datasets.labels import Labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.acquisition import Distortions
from vp_train.synthesis.appearance import FAMILIES
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import draw_placed_grid, draw_tilt
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.scan_geometries import ORIENTATIONS
from vp_train.synthesis.sequences import Sequence, load_sequences
from vp_train.synthesis.sessions import Session, draw_sessions, with_lesions
from vp_train.synthesis.sparsify import Grid
from vp_train.tasks.scene import KINDS, MAXIMUM_VOLUMES, Lesion, Scene

RESIZED = (1.0, 1.5)
"""How much larger the voxels of a resized image are."""
BLANKED = 3
"""Structures that masking blanks at most, each with both its sides."""


@dataclass(frozen=True)
class StudySettings:
    """What studies are like.

    Attributes:
        several: share of studies with two or three sessions.
        protocols: names of those that are drawn (`sequences.json`); all where empty.
        maximum_images: of all sessions together (B.2: 8).
        finest_mm: no voxel is finer along any axis; coarser studies are quicker to make and to learn from.
        budget_voxels: of all images together; sparsification goes on until they fit.
        sparsified: share of studies that are made sparser whether they fit or not (B.2: one half).
        strength: of the subject's deformation; 0 leaves the label map as it is, but for the mirror.
        tilted: images may lie obliquely, CT sheared.
        resized: share of images with voxels up to half as large again as their protocol's.
        lesioned: share of studies with lesions, where the subject's anatomy is given.
        kinds: names of `lesions/kinds.json` that lesions are drawn from; all where empty.
        stripped: share of studies without skull; masked: share of images with up to three structures blanked.
        corrupted: share of images that show nothing of the head (C.5); never the only one of a session.
    """

    several: float = 0.4
    protocols: tuple[str, ...] = ()
    maximum_images: int = MAXIMUM_VOLUMES
    finest_mm: float = 0.8
    budget_voxels: int = 12_000_000
    sparsified: float = 0.5
    strength: float = 1.0
    tilted: bool = True
    resized: float = 0.15
    lesioned: float = 0.6
    kinds: tuple[str, ...] = ()
    stripped: float = 0.3
    masked: float = 0.05
    corrupted: float = 0.02
    distortions: Distortions = field(default_factory=Distortions)


@dataclass(frozen=True, eq=False)
class Scan:
    """One image before it is made.

    Attributes:
        grid: number of the grid in its plan; images of one grid lie voxel on voxel.
        seed: of all that is drawn for its intensities; DWI and ADC of a session share it.
        contrast: seed of its contrast; kinds of a family share it.
        hidden: (labels,) bool: what is blanked.
        corrupted: it shows nothing of the head.
    """

    sequence: Sequence
    session: int
    grid: int
    seed: int
    contrast: int
    b_value: float
    hidden: torch.Tensor
    corrupted: bool


@dataclass(frozen=True, eq=False)
class StudyPlan:
    """A study before its images are made.

    Attributes:
        scene: what α and the tasks are told.
        scans: one for each volume of `scene`, in its order; grids (shape, world, axis of the slices) that they are on.
        seed: of the sparsification.
    """

    scene: Scene
    labels: Labels
    sessions: tuple[Session, ...]
    scans: tuple[Scan, ...]
    grids: tuple[Grid, ...]
    settings: StudySettings
    seed: int

    def known(self, lesions: Iterable[Lesion]) -> tuple[int, ...]:
        """Numbers, as the sessions count them, of lesions of `scene.lesions`.

        Raises:
            ValueError: one of them is none of the scene's.
        """
        present = [number for number, lesion in enumerate(self.sessions[-1].lesions) if lesion is not None]
        numbers = dict(zip(present, self.scene.lesions, strict=True))
        found: list[int] = []
        for lesion in lesions:
            same = [number for number, facts in numbers.items() if facts is lesion]
            same = same or [number for number, facts in numbers.items() if facts == lesion]
            if not same:
                raise ValueError(f"The study shows no such {lesion.structure}.")
            found += same
        return tuple(found)


def plan_study(
    subject: Subject, labels: Labels, chance: Chance, settings: StudySettings, anatomy: Anatomy | None = None
) -> StudyPlan:
    """Sessions, lesions, sequences and grids of a study, and what is told of it; nothing is rendered yet.

    Args:
        anatomy: of the subject, on the device of its labels; without it there are no lesions.
    """
    table = load_sequences().limited_to(settings.protocols)
    sessions = draw_sessions(
        subject, labels, table, chance, settings.several, settings.maximum_images, settings.strength
    )
    if chance.happens(settings.lesioned) and anatomy is not None:
        sessions = with_lesions(sessions, anatomy, chance, settings.kinds or None)
    stripped = _stripped(labels, chance) if chance.happens(settings.stripped) else None
    scans: list[Scan] = []
    grids: list[Grid] = []
    for session in sessions:
        scanner = Chance.seeded(session.scanner)
        contrasts = {kind: scanner.seed() for kind in KINDS}
        b_value = table.b_values[scanner.integer(len(table.b_values))]
        found: dict[str, int] = {}
        for name in session.protocol:
            sequence = table.sequences[name]
            shared = found.get(sequence.same_grid_as)
            grid = _draw_grid(session, sequence, settings, chance)
            seed = chance.seed()
            hidden = _hidden(labels, stripped, settings, chance)
            spoiled = chance.happens(settings.corrupted) and len(session.protocol) > 1 and bool(found)
            if shared is None:
                found[name] = len(scans)
                grids.append(grid)
                number = len(grids) - 1
            else:
                number = scans[shared].grid
                grids[number] = replace(grids[number], images=grids[number].images + 1)
                seed = scans[shared].seed if sequence.kind == "ADC" else seed
                hidden = scans[shared].hidden
            contrast = contrasts[FAMILIES.get(sequence.kind, sequence.kind)]
            scans.append(Scan(sequence, session.number, number, seed, contrast, b_value, hidden, spoiled))
    volumes = tuple(
        InputVolume(f"v{number}", scan.sequence.kind, sessions[scan.session].visit, scan.session)
        for number, scan in enumerate(scans, start=1)
    )
    shown = tuple(
        lesion.facts_in(sessions[-1].scene.deformation) for lesion in sessions[-1].lesions if lesion is not None
    )
    return StudyPlan(Scene(volumes, shown), labels, sessions, tuple(scans), tuple(grids), settings, chance.seed())


def _draw_grid(session: Session, sequence: Sequence, settings: StudySettings, chance: Chance) -> Grid:
    """A grid of the sequence's geometry around the head as it lies in its session."""
    orientation = sequence.draw_orientation(chance)
    resized = chance.number(*RESIZED) if chance.happens(settings.resized) else 1.0
    spacing_mm = sequence.geometry.draw(chance, orientation, settings.finest_mm)
    x, y, z = (step * resized for step in spacing_mm)
    tilt = draw_tilt(load_sequences().tilts, chance, sequence.kind == "CT")
    tilt = tilt if settings.tilted else np.eye(4)
    shape, world = draw_placed_grid(session.scene.subject, (x, y, z), tilt, chance)
    isotropic = sequence.geometry.slices is None
    axis = chance.integer(3) if isotropic else ORIENTATIONS.index(orientation)
    return Grid(shape, session.pose @ world, axis)


def _stripped(labels: Labels, chance: Chance) -> torch.Tensor:
    """(labels,) bool: what skull-stripping removes; the fluid around the brain goes or stays."""
    removed = torch.zeros(len(labels.names), dtype=torch.bool)
    removed[0] = True
    removed[labels.structures + 1 : labels.lesion] = True
    removed[labels.index("cerebrospinal fluid")] = chance.happens(0.6)
    return removed


def _hidden(labels: Labels, stripped: torch.Tensor | None, settings: StudySettings, chance: Chance) -> torch.Tensor:
    """(labels,) bool: what an image does not show."""
    hidden = torch.zeros(len(labels.names), dtype=torch.bool) if stripped is None else stripped.clone()
    masked = chance.happens(settings.masked)
    for _ in range(1 + chance.integer(BLANKED)):
        index = 1 + chance.integer(labels.lesion - 1)
        if masked:
            hidden[[index, int(labels.swap[index])]] = True
    return hidden
