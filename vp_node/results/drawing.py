"""Pictures of a run, drawn by a process of their own: overlays of its findings, and values over time.

What a peer sent is decoded in confined processes only: this one has no network and bounded memory, and reads its job
from standard input. It answers with the names and captions of the pictures, or with why there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vp_node.results.model import Picture

if TYPE_CHECKING:
    from vp_model.outcome import Mask, Outcome
    from vp_node.config import ComputeSection
    from vp_node.studies.model import ChosenVolume, SourceVolume

GIGABYTE = 1 << 30
LARGEST_PICTURE = 64 << 20
TIME_LIMIT_SECONDS = 300
MOST_PICTURES = 40
"""Of findings: more than a person looks at; the largest are drawn."""


class DrawingError(RuntimeError):
    """No picture could be drawn; the message says why."""


def draw(
    outcome: Path, volumes: Sequence[ChosenVolume], folder: Path, prefix: str, limits: ComputeSection
) -> tuple[Picture, ...]:
    """Draws three planes through each finding on each volume that it lies on, and values that have several dates.

    Args:
        outcome: folder of a saved `Outcome`.
        folder: where the pictures (PNG) go; exists.
        prefix: begins their names.

    Raises:
        DrawingError
    """
    from vp_node.compute.codec import volume_to_json

    job = {
        "outcome": str(outcome),
        "volumes": [{"name": item.name, "volume": volume_to_json(item.volume)} for item in volumes],
        "folder": str(folder.resolve()),
        "prefix": prefix,
        "memory_bytes": int(limits.memory_limit_gb * GIGABYTE),
    }
    command = [sys.executable, "-m", "vp_node.results.drawing"]
    try:
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, timeout=TIME_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DrawingError(f"Drawing took longer than {TIME_LIMIT_SECONDS} s.") from error
    if done.returncode != 0:
        raise DrawingError(f"The process that draws ended with {done.returncode}.")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise DrawingError(answer["error"])
    return tuple(Picture(folder / name, caption) for name, caption in answer["pictures"])


def main() -> None:
    from vp_node.compute.confinement import confine

    job = json.load(sys.stdin)
    confine(job["memory_bytes"], LARGEST_PICTURE, on_accelerator=False)
    from vp_node.compute.failure import place_of
    from vp_node.studies.pixels import PixelError

    try:
        answer: dict[str, Any] = {"pictures": _draw(job)}
    except PixelError as error:
        answer = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 (the boundary of the process: the parent raises it, without its text)
        answer = {"error": f"The pictures could not be drawn: {type(error).__name__} in {place_of(error)}."}
    print(json.dumps(answer))


def _draw(job: dict[str, Any]) -> list[tuple[str, str]]:
    from vp_model.outcome import Outcome
    from vp_node.compute.codec import volume_from_json

    outcome, folder = Outcome.load(Path(job["outcome"])), Path(job["folder"])
    drawn: list[tuple[str, str]] = []
    for item in job["volumes"]:
        masks = [mask for mask in outcome.masks if mask.volume == item["name"]]
        room = MOST_PICTURES - len(drawn)
        if masks and room > 0:
            drawn += _of_volume(volume_from_json(item["volume"]), masks, folder, job["prefix"], room)
    return drawn + _over_time(outcome, folder, job["prefix"])


def _of_volume(
    volume: SourceVolume, masks: Sequence[Mask], folder: Path, prefix: str, room: int
) -> list[tuple[str, str]]:
    """One picture for each finding, all findings drawn in it; the largest findings where there are too many."""
    from vp_model.rendering import CT_WINDOW, render_overlay
    from vp_node.results.codes import structure_codes
    from vp_node.studies.pixels import load_voxels

    voxels = load_voxels(volume)
    drawn = [(mask.label, structure_codes(mask.structure, mask.side).color, mask.voxels) for mask in masks]
    sizes = [int(mask.voxels.sum()) for mask in masks]
    largest = sorted(sorted(range(len(masks)), key=lambda index: -sizes[index])[:room])
    pictures = []
    for index in largest:
        mask = masks[index]
        name = f"{prefix}-{mask.volume}-{index + 1:02}.png"
        caption = f"{mask.label} on {mask.volume} ({volume.kind}" + (f", {mask.visit})" if mask.visit else ")")
        window = CT_WINDOW if volume.modality == "CT" else None
        render_overlay(voxels, volume.world, drawn, folder / name, focus=index, title=caption, window=window)
        pictures.append((name, caption))
    return pictures


def _over_time(outcome: Outcome, folder: Path, prefix: str) -> list[tuple[str, str]]:
    """A curve for each measurement that has several dates."""
    from vp_model.rendering import render_series

    curves: dict[tuple[str, str, str], dict[str, float]] = {}
    for item in outcome.measurements:
        if item.visit and not item.visits:
            curves.setdefault((item.label or item.structure, item.name, item.unit), {})[item.visit] = item.value
    pictures: list[tuple[str, str]] = []
    for number, ((label, name, unit), values) in enumerate(curves.items(), 1):
        if len(values) > 1 and len(pictures) < MOST_PICTURES:
            caption = f"{label}: {name} over time"
            file = f"{prefix}-time-{number:02}.png"
            render_series(sorted(values.items()), f"{name} ({unit})" if unit != "1" else name, folder / file, caption)
            pictures.append((file, caption))
    return pictures


if __name__ == "__main__":
    main()
