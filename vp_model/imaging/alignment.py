"""Laying the volumes of a run on each other before the model sees them, and bringing its outcome back.

Within a session every volume is laid on the session's reference, and the reference of every earlier session on that
of the latest (paper, B.2: all images of a subject are co-registered). What the model gets is the same voxels under
moved world matrices; nothing is resampled. Masks, images and points of the outcome are put back into each volume's own
geometry, so that they lie on what was given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vp_model.outcome import Alignment, DerivedVolume, Mask, Measurement, Outcome

if TYPE_CHECKING:
    from vp_model.imaging.registration import Registration
    from vp_model.volume import Volume

REGISTERED_KINDS = ("T1", "T2", "FLAIR", "PD", "GRE", "SWI", "STIR", "CT", "TOF", "unknown")
"""Kinds whose images show enough of the head to be registered; others lie as their session does."""
REFERENCE_KINDS = ("T1", "FLAIR", "T2", "CT", "PD")
"""In this order, what a session's other volumes are laid on."""
SAME_PLACE_MM = 1.0
SAME_PLACE_DEGREES = 0.75
"""Within one frame of reference, less than this is the registration's error, not the patient's motion: the scanner's
own coordinates are kept."""
LEAST_OVERLAP = 0.6
"""Dice of the heads below which a result is not believed."""
COARSE_MM = 3.0
"""Of the check within one frame of reference."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What is registered, and how finely."""

    within_sessions: bool = True
    across_sessions: bool = True
    finest_mm: float = 1.5
    """Grid spacing of the last level of registration."""


@dataclass(frozen=True)
class Origin:
    """What is known of a volume beside its voxels."""

    kind: str
    """Sequence type, without what α is told of contrast agent."""
    frame: str = ""
    """Volumes of one frame are in one coordinate system of the scanner (Frame of Reference UID); `""`: not known."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """Volumes under moved world matrices, and how they got there."""

    volumes: tuple[Volume, ...]
    alignments: tuple[Alignment, ...]


def align(
    volumes: Sequence[Volume],
    source: Mapping[str, Origin],
    settings: Settings,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Aligned:
    """Lays volumes on each other.

    Args:
        volumes: as the model would get them, in their own geometry.
        source: what is known of each, by name.
        threads: for the registration.
    """
    if len(volumes) < 2 or not (settings.within_sessions or settings.across_sessions):
        return Aligned(tuple(volumes), ())
    sessions: dict[int, list[Volume]] = defaultdict(list)
    for volume in volumes:
        sessions[volume.session].append(volume)
    last = max(sessions)
    common = _reference(sessions[last], source)
    found: dict[str, Alignment] = {common.name: _stays(common, common.name, "reference")}
    for number in sorted(sessions, reverse=True):
        reference = common if number == last else _counterpart(common, sessions[number], source)
        if number != last:
            found[reference.name] = _across(common, reference, settings, threads, progress)
        place = found[reference.name].world_transform
        for volume in sessions[number]:
            if volume is not reference:
                within = _within(reference, volume, source, settings, threads, progress)
                found[volume.name] = replace(within, world_transform=place @ within.world_transform)
    moved = tuple(replace(volume, world=found[volume.name].world_transform @ volume.world) for volume in volumes)
    return Aligned(moved, tuple(found[volume.name] for volume in volumes))


def bring_back(outcome: Outcome, volumes: Sequence[Volume], aligned: Aligned) -> Outcome:
    """The outcome in each volume's own geometry, with the alignments written into it.

    Args:
        volumes: in their own geometry.
    """
    if not aligned.alignments:
        return outcome
    own = {volume.name: volume.world for volume in volumes}
    back: dict[str, Matrix] = {
        item.volume: np.asarray(np.linalg.inv(item.world_transform), dtype=np.float64) for item in aligned.alignments
    }
    masks = {mask.identifier: mask for mask in outcome.masks}
    doubtful = [item for item in aligned.alignments if item.method == "failed"]
    warnings = tuple(
        f"{item.volume} could not be laid on {item.reference}: {item.note} Its place is the one in its header."
        for item in doubtful
    )
    return replace(
        outcome,
        masks=tuple(replace(mask, world=own[mask.volume]) for mask in outcome.masks),
        derived=tuple(_derived(item, back) for item in outcome.derived),
        measurements=tuple(_measurement(item, masks, volumes, back) for item in outcome.measurements),
        alignments=aligned.alignments,
        warnings=(*outcome.warnings, *warnings),
    )


def _reference(volumes: Sequence[Volume], source: Mapping[str, Origin]) -> Volume:
    """The volume of a session that the others are laid on: by kind, then the finest."""

    def order(volume: Volume) -> tuple[int, float]:
        kind = source[volume.name].kind
        known = REFERENCE_KINDS.index(kind) if kind in REFERENCE_KINDS else len(REFERENCE_KINDS)
        return known if kind in REGISTERED_KINDS else len(REFERENCE_KINDS) + 1, float(volume.spacing.max())

    return min(volumes, key=order)


def _counterpart(common: Volume, volumes: Sequence[Volume], source: Mapping[str, Origin]) -> Volume:
    """Of an earlier session, the volume that is most like the common one: same kind, then nearest in spacing."""
    kind = source[common.name].kind
    alike = [volume for volume in volumes if source[volume.name].kind == kind]
    if not alike:
        return _reference(volumes, source)
    return min(alike, key=lambda volume: float(np.abs(volume.spacing - common.spacing).sum()))


def _across(
    common: Volume, reference: Volume, settings: Settings, threads: int, progress: Callable[[str], None]
) -> Alignment:
    """The reference of an earlier session on that of the latest."""
    if not settings.across_sessions:
        return _stays(reference, common.name, "header", "Sessions are not registered here (alignment.across_sessions).")
    progress(f"laying {reference.name} on {common.name}")
    result = _register(common, reference, threads, settings.finest_mm)
    return _verdict(result, reference.name, common.name)


def _within(
    reference: Volume,
    volume: Volume,
    source: Mapping[str, Origin],
    settings: Settings,
    threads: int,
    progress: Callable[[str], None],
) -> Alignment:
    """A volume on the reference of its own session. The scanner's coordinates hold unless the patient moved."""
    mine, other = source[volume.name], source[reference.name]
    if not settings.within_sessions:
        return _stays(volume, reference.name, "header")
    if mine.kind not in REGISTERED_KINDS or other.kind not in REGISTERED_KINDS:
        return _stays(volume, reference.name, "header", f"{mine.kind} lies as its session does.")
    one_frame = bool(mine.frame) and mine.frame == other.frame
    progress(f"laying {volume.name} on {reference.name}")
    result = _register(
        reference, volume, threads, max(COARSE_MM, settings.finest_mm) if one_frame else settings.finest_mm
    )
    if not one_frame:
        return _verdict(result, volume.name, reference.name)
    if isinstance(result, str) or not _is_believed(result):
        return _stays(volume, reference.name, "header", "One frame of reference; registration could not confirm it.")
    if _is_small(result):
        return replace(
            _described(result, volume.name, reference.name),
            method="header",
            world_transform=np.eye(4),
            note="One frame of reference, confirmed by registration.",
        )
    finer = _register(reference, volume, threads, settings.finest_mm)
    if isinstance(finer, str) or not _is_believed(finer) or _is_small(finer):
        return _stays(volume, reference.name, "header", "One frame of reference.")
    return replace(_described(finer, volume.name, reference.name), note="The patient moved between the two series.")


def _verdict(result: Registration | str, name: str, reference: str) -> Alignment:
    if isinstance(result, str):
        return Alignment(name, reference, "failed", np.eye(4), note=result)
    if not _is_believed(result):
        note = f"The heads overlap too little afterwards (Dice {result.overlap:.2f})."
        return replace(_described(result, name, reference), method="failed", world_transform=np.eye(4), note=note)
    return _described(result, name, reference)


def _register(fixed: Volume, moving: Volume, threads: int, finest_mm: float) -> Registration | str:
    """The registration, or the sentence that says why there is none."""
    from vp_model.imaging.registration import RegistrationError, register

    try:
        return register(fixed, moving, threads=threads, finest_mm=finest_mm)
    except RegistrationError as error:
        return str(error)


def _is_believed(result: Registration) -> bool:
    return result.overlap >= LEAST_OVERLAP and result.metric_after >= result.metric_before


def _is_small(result: Registration) -> bool:
    return result.head_motion_mm < SAME_PLACE_MM and result.rotation_degrees < SAME_PLACE_DEGREES


def _described(result: Registration, name: str, reference: str) -> Alignment:
    return Alignment(
        volume=name,
        reference=reference,
        method="rigid",
        world_transform=result.world_transform,
        metric_before=result.metric_before,
        metric_after=result.metric_after,
        overlap=result.overlap,
        motion_mm=result.head_motion_mm,
        rotation_degrees=result.rotation_degrees,
    )


def _stays(volume: Volume, reference: str, method: str, note: str = "") -> Alignment:
    return Alignment(volume.name, reference, method, np.eye(4), note=note)  # type: ignore[arg-type]


def _derived(item: DerivedVolume, back: Mapping[str, Matrix]) -> DerivedVolume:
    return replace(item, world=back[item.source] @ item.world)


def _measurement(
    item: Measurement, masks: Mapping[str, Mask], volumes: Sequence[Volume], back: Mapping[str, Matrix]
) -> Measurement:
    """Points where they lie in the geometry of the volume that they were measured on."""
    if not item.points:
        return item
    named = item.volume or next((masks[one].volume for one in item.masks if one in masks), "")
    if not named:
        dated = [one for one in volumes if (one.visit.isoformat() if one.visit else "") == item.visit]
        named = dated[0].name if dated else volumes[-1].name
    matrix = back[named]
    points = tuple(_moved(point, matrix) for point in item.points)
    value = item.value
    if len(points) == 1 and item.unit == "mm":
        # A coordinate of this point, reported by itself.
        axis = next((axis for axis, before in enumerate(item.points[0]) if np.isclose(before, value)), None)
        if axis is not None and item.name.startswith(("center of mass", "coordinate")):
            value = points[0][axis]
    return replace(item, points=points, value=float(value))


def _moved(point: tuple[float, float, float], matrix: Matrix) -> tuple[float, float, float]:
    x, y, z = (matrix @ np.array([*point, 1.0]))[:3]
    return (float(x), float(y), float(z))
