"""A set of volumes as a run takes it: in order of session, under names that programs write, in numbers that m reads.

Whoever brings volumes may call them what they like (`baseline`, `sub-01_T1w`) or nothing at all, and may leave sessions
to their dates. Programs know them as v1, v2, …; the transcript says which is which, and the outcome speaks of them by
the names that they came with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import corners
from vp_model.language.reading import KINDS
from vp_model.outcome import InputVolume, Outcome
from vp_model.volume import Volume

PROGRAM_NAME = re.compile(r"v[1-9][0-9]?")
"""Names that α writes; whoever uses them already keeps them."""
SMALLEST_FIELD_MM = 30.0
"""Nothing of a head that could be recognised is smaller: the matrix is more likely in metres."""
LARGEST_FIELD_MM = 3000.0
"""Nor is a patient longer: the matrix is more likely in micrometres."""

_KINDS: Mapping[str, str] = {kind.upper(): kind for kind in KINDS}


@dataclass(frozen=True, eq=False)
class Arranged:
    """Volumes in order of session.

    Attributes:
        volumes: named as programs write them.
        given: name in programs → name that the volume came with, which may be `""`.
        notes: what is odd about them, for whoever reads the outcome.
        blank: every volume holds a single value: there is nothing to see.
    """

    volumes: tuple[Volume, ...]
    given: Mapping[str, str]
    notes: tuple[str, ...] = ()
    blank: bool = False

    @property
    def inputs(self) -> tuple[InputVolume, ...]:
        """What α is told about the volumes."""
        return tuple(
            InputVolume(
                name=volume.name,
                kind=volume.kind,
                visit=volume.visit.isoformat() if volume.visit else "",
                session=volume.session,
            )
            for volume in self.volumes
        )

    @property
    def apart(self) -> tuple[str, ...]:
        """What is to be said of volumes of one session that have no place in common, where they lie now."""
        return tuple(
            f"{self._called(one)} and {self._called(other)} are of one session, but do not overlap in space."
            for one, other in combinations(self.volumes, 2)
            if one.session == other.session and not _overlap(one, other)
        )

    def returned(self, outcome: Outcome) -> Outcome:
        """An outcome that speaks of the volumes by the names that they came with; the program keeps its own."""
        own = {name: given or name for name, given in self.given.items()}
        if all(name == given for name, given in own.items()):
            return outcome
        told = (replace(item, given=own[item.name] if own[item.name] != item.name else "") for item in self.inputs)
        return replace(
            outcome,
            transcript=replace(outcome.transcript, volumes=tuple(told)),
            masks=tuple(replace(mask, volume=own[mask.volume]) for mask in outcome.masks),
            measurements=tuple(
                replace(item, volume=own[item.volume]) if item.volume else item for item in outcome.measurements
            ),
            derived=tuple(replace(item, source=own[item.source]) for item in outcome.derived),
            alignments=tuple(
                replace(item, volume=own[item.volume], reference=own[item.reference]) for item in outcome.alignments
            ),
        )

    def _called(self, volume: Volume) -> str:
        return self.given[volume.name] or volume.name


def arranged(volumes: Sequence[Volume]) -> Arranged:
    """Volumes of one patient, ready for a run. One that needs no change stays the object that it is.

    Where all have one session and their dates differ, each date becomes a session. Sequence types may be in small
    letters (`flair`). Values that are no finite numbers become 0, as `read_nifti` has them.

    Raises:
        ValueError: there is no volume, two have one name, one has several features or a sequence type that α does not
            know, or sessions and dates contradict each other.
    """
    if not volumes:
        raise ValueError("A prompt needs at least one volume.")
    known = [_read(volume, number) for number, volume in enumerate(volumes, 1)]
    ordered = sorted(_in_sessions([volume for volume, *_ in known]), key=lambda volume: volume.session)
    given = [volume.name for volume in ordered]
    twice = sorted({name for name in given if name and given.count(name) > 1})
    if twice:
        raise ValueError(f"Two volumes are named {twice[0]!r}: give each a name of its own, or none.")
    kept = all(PROGRAM_NAME.fullmatch(name) for name in given)
    names = given if kept else [f"v{number}" for number in range(1, len(given) + 1)]
    placed = tuple(
        volume if volume.name == name else volume.named(name) for volume, name in zip(ordered, names, strict=True)
    )
    notes = [note for _, _, said in known for note in said]
    return Arranged(placed, dict(zip(names, given, strict=True)), tuple(notes), all(blank for _, blank, _ in known))


def _read(volume: Volume, number: int) -> tuple[Volume, bool, list[str]]:
    """The volume in finite numbers and under a known sequence type; whether it is blank; what is odd about it."""
    called = volume.name or f"volume {number}"
    if volume.features.shape[0] != 1:
        count = volume.features.shape[0]
        raise ValueError(f"{called} holds {count} features for each voxel, and m reads images of one: choose one.")
    kind = _KINDS.get(volume.kind.strip().upper())
    if kind is None:
        raise ValueError(f"{called} is of the kind {volume.kind!r}, which is none of these: {', '.join(KINDS)}.")
    if kind != volume.kind:
        volume = replace(volume, kind=kind)
    notes: list[str] = []
    low, high = torch.aminmax(volume.features)
    if not torch.isfinite(low) or not torch.isfinite(high):
        finite = torch.isfinite(volume.features)
        notes.append(f"Voxels of {called} that hold no finite number count as 0: {int((~finite).sum())}.")
        volume = replace(volume, features=torch.where(finite, volume.features, 0.0))
        low, high = torch.aminmax(volume.features)
    blank = bool(low == high)
    if blank:
        notes.append(f"All voxels of {called} have one value: there is nothing to see in it.")
    field = volume.spacing * np.asarray(volume.shape)
    if field.max() < SMALLEST_FIELD_MM or field.max() > LARGEST_FIELD_MM:
        size = " × ".join(f"{length:.6g}" for length in field)
        notes.append(f"{called} covers {size} mm, which is no head: is its world matrix in millimetres?")
    return volume, blank, notes


def _in_sessions(volumes: Sequence[Volume]) -> list[Volume]:
    """The volumes with a number of session each, which agrees with their dates."""
    dates = sorted({volume.visit for volume in volumes if volume.visit is not None})
    if len({volume.session for volume in volumes}) == 1 and len(dates) > 1:
        undated = [volume for volume in volumes if volume.visit is None]
        if undated:
            called = undated[0].name or "A volume"
            raise ValueError(f"{called} has no date beside others that have: say of which session each volume is.")
        return [replace(volume, session=dates.index(volume.visit)) for volume in volumes if volume.visit is not None]
    for one, other in combinations(volumes, 2):
        first, second = (one, other) if one.session < other.session else (other, one)
        if first.session != second.session and first.visit and second.visit and first.visit > second.visit:
            raise ValueError(
                f"Session {second.session} is of {second.visit} and session {first.session} of {first.visit}: "
                "a later session has a later date."
            )
    return list(volumes)


def _overlap(one: Volume, other: Volume) -> bool:
    """Whether the boxes around two volumes, along the axes of the world, have something in common."""
    (low, high), (start, end) = _box(one), _box(other)
    return bool((low <= end).all() and (start <= high).all())


def _box(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = corners(volume.shape, volume.world)
    return points.min(axis=0), points.max(axis=0)
