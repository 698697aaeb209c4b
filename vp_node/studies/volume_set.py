"""Sessions become the input of a prompt: at most eight volumes each, with the reason for each one taken or not."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vp_node.studies.model import ChosenVolume, Session, SourceVolume, VolumeChoice, VolumeSet


class SeriesSelection(BaseModel):
    """Which volumes a prompt wants. Everything at its default: the best ones of the latest session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[str, ...] = ()
    """Only these, in this order of preference; empty: any that is an image and no map."""
    contrast: Literal["any", "pre", "post"] = "any"
    """`pre` takes what is not known to be `post`."""
    description_contains: str = ""
    """In the series description, whatever the case."""
    orientation: Literal["any", "axial", "coronal", "sagittal"] = "any"
    min_slices: int = Field(default=1, ge=1)
    max_slice_thickness_mm: float | None = Field(default=None, gt=0)
    """Distance from slice to slice."""
    max_per_session: int = Field(default=8, ge=1, le=8)
    """The model takes up to eight (paper, section 3)."""
    sessions: int = Field(default=1, ge=1)
    """The number of latest sessions."""
    flagged_ok: bool = False
    """Also take volumes with missing slices or irregular spacing."""


def choose(sessions: Sequence[Session], selection: SeriesSelection) -> VolumeSet:
    """The volume set of a prompt: names v1, v2, … in order of session and preference.

    Args:
        sessions: of one patient, in order of date.

    Raises:
        ValueError: the sessions are of several patients.
    """
    if len({session.patient_key for session in sessions}) > 1:
        raise ValueError("A volume set is of one patient; these sessions are of several.")
    used = _used(sessions, selection)
    choices = [
        VolumeChoice(volume, False, _session_reason(selection.sessions))
        for session in sessions
        if session not in used
        for volume in session.volumes
    ]
    chosen: list[ChosenVolume] = []
    for number, session in enumerate(used):
        taken, explained = _choose_in(session, selection)
        choices.extend(explained)
        first = len(chosen) + 1
        chosen.extend(ChosenVolume(f"v{place}", number, volume) for place, volume in enumerate(taken, first))
    return VolumeSet(tuple(chosen), tuple(choices))


def takes_any(volumes: Sequence[SourceVolume], selection: SeriesSelection) -> bool:
    """Whether a prompt could take at least one of these volumes."""
    return any(_why_not(volume, selection) is None for volume in volumes)


def _used(sessions: Sequence[Session], selection: SeriesSelection) -> list[Session]:
    """The latest session, and the latest of the earlier ones that hold something to take."""
    usable = [session for session in sessions[:-1] if takes_any(session.volumes, selection)]
    earlier = selection.sessions - 1
    return [*(usable[-earlier:] if earlier else ()), *sessions[-1:]]


def orientation_of(volume: SourceVolume) -> str:
    """`axial`, `coronal` or `sagittal`, by the axis nearest to the slices' normal."""
    normal = np.cross(volume.world[:3, 0], volume.world[:3, 1])
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]


def _session_reason(count: int) -> str:
    return "its session is not the latest" if count == 1 else f"its session is not among the {count} latest"


def _choose_in(session: Session, selection: SeriesSelection) -> tuple[list[SourceVolume], list[VolumeChoice]]:
    refused: dict[str, str] = {}
    candidates: list[SourceVolume] = []
    repeats = _repeats(session.volumes)
    for volume in session.volumes:
        reason = _why_not(volume, selection) or repeats.get(volume.identifier)
        if reason is None:
            candidates.append(volume)
        else:
            refused[volume.identifier] = reason
    ranked = _ranked(candidates, selection.kinds)
    taken = [volume for volume, _ in ranked[: selection.max_per_session]]
    reasons = {volume.identifier: reason for volume, reason in ranked[: selection.max_per_session]}
    for volume, _ in ranked[selection.max_per_session :]:
        refused[volume.identifier] = f"{selection.max_per_session} volumes of this session come before it"
    explained = [VolumeChoice(volume, True, reasons[volume.identifier]) for volume in taken]
    explained += [
        VolumeChoice(volume, False, refused[volume.identifier])
        for volume in session.volumes
        if volume.identifier in refused
    ]
    return taken, explained


def _why_not(volume: SourceVolume, selection: SeriesSelection) -> str | None:
    """Why the prompt cannot take a volume, or None."""
    preferences = _preferences()
    slices = volume.shape[2]
    step = volume.spacing[2]
    wanted = {kind.casefold() for kind in selection.kinds}
    if volume.head == "no":
        return "it does not show the head"
    if wanted and volume.kind.casefold() not in wanted:
        return f"its kind, {volume.kind}, is not one of {', '.join(selection.kinds)}"
    if not wanted and volume.kind in preferences["only_when_asked"]:
        return f"its kind, {volume.kind}, is taken only where the prompt asks for it"
    if selection.contrast == "post" and volume.contrast != "post":
        return f"contrast is {volume.contrast}, and the prompt asks for post"
    if selection.contrast == "pre" and volume.contrast == "post":
        return "contrast is post, and the prompt asks for pre"
    if selection.description_contains.casefold() not in volume.series_description.casefold():
        return "its series description does not contain what the prompt asks for"
    if selection.orientation not in ("any", orientation_of(volume)):
        return f"it is {orientation_of(volume)}, and the prompt asks for {selection.orientation}"
    if slices < selection.min_slices:
        return f"it has {slices} slices, fewer than {selection.min_slices}"
    if selection.max_slice_thickness_mm is not None and step > selection.max_slice_thickness_mm + 0.01:
        return f"its slices are {step:.2f} mm apart, more than {selection.max_slice_thickness_mm:g} mm"
    blocking = [flag for flag in volume.flags if flag in preferences["blocking_flags"]]
    if blocking and not selection.flagged_ok:
        return f"it is flagged {', '.join(blocking)}: not run unless flagged volumes are asked for"
    return None


_TIME_SPLITS = frozenset({"temporal position", "trigger time", "acquisition number", "acquisition time", "repeat"})


def _repeats(volumes: Sequence[SourceVolume]) -> dict[str, str]:
    """By identifier: volumes that repeat another one of their series, in time or in diffusion direction."""
    found: dict[str, str] = {}
    seen: dict[tuple[object, ...], int] = defaultdict(int)
    for volume in volumes:
        what = dict(volume.splits)
        directional = "gradient direction" in what and what["gradient direction"] != "none"
        timed = not _TIME_SPLITS.isdisjoint(what)
        if not directional and not timed:
            continue
        others = tuple(
            split for split in volume.splits if split[0] not in _TIME_SPLITS and split[0] != "gradient direction"
        )
        key = (volume.series_instance_uid, volume.series_number, others)
        seen[key] += 1
        if seen[key] > 1:
            kind = "diffusion direction" if directional else "repetition"
            found[volume.identifier] = f"a further {kind} of its series; the first stands for it"
    return found


def _ranked(candidates: Sequence[SourceVolume], wanted: Sequence[str]) -> list[tuple[SourceVolume, str]]:
    """The best of each kind first, then the second of each kind, and so on."""
    by_kind: dict[tuple[str, bool], list[SourceVolume]] = defaultdict(list)
    for volume in candidates:
        by_kind[volume.kind, volume.contrast == "post"].append(volume)
    rounds: list[tuple[int, tuple[int, str, bool], SourceVolume, str]] = []
    for (kind, post), members in by_kind.items():
        members.sort(key=_quality)
        for place, volume in enumerate(members):
            rounds.append((place, _kind_order(kind, post, wanted), volume, _why(volume, place, len(members))))
    rounds.sort(key=lambda entry: entry[:2])
    return [(volume, reason) for _, _, volume, reason in rounds]


def _kind_order(kind: str, post: bool, wanted: Sequence[str]) -> tuple[int, str, bool]:
    order = [item.casefold() for item in (wanted or _preferences()["kinds"])]
    folded = kind.casefold()
    return (order.index(folded) if folded in order else len(order), kind, post)


def _quality(volume: SourceVolume) -> tuple[bool, float, float, int, str]:
    """Smaller is better: whole brain, fine in the coarsest direction, small voxels, early in the study."""
    spacing = volume.spacing
    return (
        not _whole_brain(volume),
        round(max(spacing), 2),
        round(float(np.prod(spacing)), 3),
        volume.series_number or 0,
        volume.identifier,
    )


def _whole_brain(volume: SourceVolume) -> bool:
    least: float = _preferences()["whole_brain_mm"]
    return all(count * size >= least for count, size in zip(volume.shape, volume.spacing, strict=True))


def _why(volume: SourceVolume, place: int, of: int) -> str:
    spacing = "×".join(f"{size:.2f}" for size in volume.spacing)
    rank = "the only one" if of == 1 else ("the best" if place == 0 else f"number {place + 1} of {of}")
    post = " with contrast agent" if volume.contrast == "post" else ""
    cover = "whole brain" if _whole_brain(volume) else "part of the brain"
    return f"{rank} of kind {volume.kind}{post}: {cover}, {volume.shape[2]} slices, voxels of {spacing} mm"


@cache
def _preferences() -> Mapping[str, Any]:
    return tomllib.loads((resources.files("vp_node.studies") / "data" / "preferences.toml").read_text(encoding="utf-8"))
