"""Overlay pictures of a run, drawn by a process of their own.

What a peer sent is decoded in confined processes only: this one has no network and bounded memory, and reads its job
from standard input. It answers with the paths of the pictures, or with why there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vp_node.config import ComputeSection
    from vp_node.studies.model import ChosenVolume

GIGABYTE = 1 << 30
LARGEST_PICTURE = 64 << 20
TIME_LIMIT_SECONDS = 300


class DrawingError(RuntimeError):
    """No picture could be drawn; the message says why."""


def draw(
    outcome: Path, volumes: Sequence[ChosenVolume], folder: Path, prefix: str, limits: ComputeSection
) -> list[Path]:
    """Draws the masks of an outcome on the volumes that they lie on: one PNG for each volume with masks.

    Args:
        outcome: folder of a saved `Outcome`.
        folder: where the pictures go; exists.
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
    command = [sys.executable, "-m", "vp_node.cli.drawing"]
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
    return [folder / name for name in answer["pictures"]]


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


def _draw(job: dict[str, Any]) -> list[str]:
    from vp_model.outcome import Outcome
    from vp_model.rendering import render_overlay
    from vp_node.compute.codec import volume_from_json
    from vp_node.results.codes import structure_codes
    from vp_node.studies.pixels import load_voxels

    outcome = Outcome.load(Path(job["outcome"]))
    names = []
    for item in job["volumes"]:
        masks = [mask for mask in outcome.masks if mask.volume == item["name"]]
        if masks:
            volume = volume_from_json(item["volume"])
            name = f"{job['prefix']}-{item['name']}.png"
            drawn = [(mask.label, structure_codes(mask.structure, mask.side).color, mask.voxels) for mask in masks]
            render_overlay(load_voxels(volume), volume.world, drawn, Path(job["folder"]) / name)
            names.append(name)
    return names


if __name__ == "__main__":
    main()
