"""What crosses the pipe between the node and its compute process, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from vp_model.outcome import InputVolume
from vp_node.config import AlignmentSection
from vp_node.studies.kind import UNKNOWN
from vp_node.studies.model import (
    MISSING_FRAME,
    ChosenVolume,
    FrameReference,
    SourceVolume,
    StoredFrame,
    StoredLayout,
)


@dataclass(frozen=True)
class RunJob:
    """A prompt to run on volumes, and where to write the outcome."""

    prompt: str
    volumes: tuple[ChosenVolume, ...]
    output: Path
    """A folder that exists and is empty."""
    alignment: AlignmentSection = field(default_factory=AlignmentSection)
    notes: tuple[str, ...] = ()
    """For the person who asked: they become warnings of the outcome."""

    def to_json(self) -> dict[str, Any]:
        volumes = [
            {"name": item.name, "session": item.session, "volume": volume_to_json(item.volume)} for item in self.volumes
        ]
        return {
            "prompt": self.prompt,
            "volumes": volumes,
            "output": str(self.output),
            "alignment": self.alignment.model_dump(),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunJob:
        volumes = tuple(
            ChosenVolume(item["name"], item["session"], volume_from_json(item["volume"])) for item in data["volumes"]
        )
        alignment = AlignmentSection.model_validate(data["alignment"])
        return cls(data["prompt"], volumes, Path(data["output"]), alignment, tuple(data["notes"]))


@dataclass(frozen=True)
class PlanJob:
    """A prompt to plan, without pixels: a dry run."""

    prompt: str
    volumes: tuple[InputVolume, ...]

    def to_json(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "volumes": [asdict(volume) for volume in self.volumes]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PlanJob:
        return cls(data["prompt"], tuple(InputVolume(**item) for item in data["volumes"]))


MODEL_KINDS = frozenset(
    {"T1", "T1+C", "T2", "FLAIR", "PD", "GRE", "SWI", "DWI", "ADC", "CT", "STIR", "TOF", "PERFUSION"}
)
"""The kinds that α has met in training; another one is `unknown` to it."""
_AS_MODEL_KIND = {"TRACE": "DWI"}
"""A trace-weighted image is what a radiologist reads as the DWI."""


def kind_for_model(volume: SourceVolume) -> str:
    """The kind as the model is told it: `T1+C` is a T1 with contrast agent, and what it never met is `unknown`."""
    kind = _AS_MODEL_KIND.get(volume.kind, volume.kind)
    if kind == "T1" and volume.contrast == "post":
        kind = "T1+C"
    return kind if kind in MODEL_KINDS else UNKNOWN


def input_volumes(chosen: tuple[ChosenVolume, ...]) -> tuple[InputVolume, ...]:
    """What the model is told about the volumes of a set."""
    return tuple(
        InputVolume(
            name=item.name,
            kind=kind_for_model(item.volume),
            visit=item.volume.visit.isoformat() if item.volume.visit else "",
            session=item.session,
        )
        for item in chosen
    )


def volume_to_json(volume: SourceVolume, relative_to: Path | None = None) -> dict[str, Any]:
    """`SourceVolume` as plain values.

    Args:
        relative_to: the node's data folder, where paths in it are to be written relative to it.
    """
    layouts: dict[StoredLayout, int] = {}
    frames = [_frame_to_json(frame, relative_to, layouts) for frame in volume.frames]
    return {
        **{name: getattr(volume, name) for name in _PLAIN_FIELDS},
        "evidence": list(volume.evidence),
        "shape": list(volume.shape),
        "world": volume.world.tolist(),
        "frames": frames,
        "uneven": [[place, _frame_to_json(frame, relative_to, layouts)] for place, frame in volume.uneven],
        "layouts": [asdict(layout) for layout in layouts],
        "visit": volume.visit.isoformat() if volume.visit else None,
        "head": volume.head,
        "order_key": volume.order_key,
        "flags": list(volume.flags),
        "splits": [list(split) for split in volume.splits],
    }


def volume_from_json(data: dict[str, Any], folder: Path | None = None) -> SourceVolume:
    """The inverse of `volume_to_json`.

    Args:
        folder: what relative paths are relative to.
    """
    base = folder or Path()
    layouts = [
        StoredLayout(**{**item, "padding": tuple(item["padding"]) if item["padding"] else None})
        for item in data.get("layouts", ())
    ]
    columns, rows, slices = data["shape"]
    return SourceVolume(
        **{name: data[name] for name in _PLAIN_FIELDS},
        evidence=tuple(data["evidence"]),
        shape=(columns, rows, slices),
        world=np.asarray(data["world"], dtype=np.float64),
        frames=tuple(_frame_from_json(frame, base, layouts) for frame in data["frames"]),
        visit=date.fromisoformat(data["visit"]) if data["visit"] else None,
        flags=tuple(data["flags"]),
        splits=tuple((what, value) for what, value in data["splits"]),
        head=data.get("head", "unknown"),
        order_key=data.get("order_key", ""),
        uneven=tuple((place, _frame_from_json(frame, base, layouts)) for place, frame in data.get("uneven", ())),
    )


def _frame_to_json(frame: FrameReference, folder: Path | None, layouts: dict[StoredLayout, int]) -> list[Any]:
    """A short list, for there may be thousands; layouts that frames share stand once, and are added where new."""
    said: list[Any] = [
        frame.sop_instance_uid,
        frame.sop_class_uid,
        str(_relative(frame.path, folder)),
        frame.frame_number,
    ]
    stored = frame.stored
    if stored is not None or frame.tile is not None:
        said.append(frame.tile)
    if stored is not None:
        number = layouts.setdefault(stored.layout, len(layouts))
        said += [number, stored.offset, stored.slope, stored.intercept, *stored.file_state]
    return said


def _frame_from_json(data: list[Any], base: Path, layouts: Sequence[StoredLayout]) -> FrameReference:
    instance, sop_class, path, number, *more = data
    if not instance:
        return MISSING_FRAME
    tile = tuple(more[0]) if more and more[0] else None
    stored = None
    if len(more) > 1:
        layout, offset, slope, intercept, size, modified = more[1:]
        stored = StoredFrame(layouts[layout], offset, slope, intercept, (size, modified))
    return FrameReference(instance, sop_class, base / path, number, stored, tile)


_PLAIN_FIELDS = (
    "identifier",
    "patient_key",
    "study_instance_uid",
    "series_instance_uid",
    "series_number",
    "series_description",
    "frame_of_reference_uid",
    "modality",
    "kind",
    "contrast",
)


def _relative(path: Path, folder: Path | None) -> Path:
    if folder is not None and path.is_relative_to(folder):
        return path.relative_to(folder)
    return path
