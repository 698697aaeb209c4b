"""A model for tests, loaded in the real compute process by its dotted name: does what the prompt says.

Every outcome is made of the volumes that it was given, so that results are written and checked as real ones are.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vp_model.outcome import (
    InputVolume,
    Mask,
    Measurement,
    ModelIdentity,
    Outcome,
    Step,
    Transcript,
)

IDENTITY = ModelIdentity("test-agent", "1.0", "ab" * 32)


@dataclass(frozen=True)
class TestPlan:
    __test__ = False
    status: str
    reason: str
    task: str
    structures: tuple[str, ...]
    program: str


class TestAgent:
    __test__ = False
    identity = IDENTITY

    def plan(self, prompt: str, volumes: Sequence[InputVolume]) -> TestPlan:
        return TestPlan("answered", "", "segmentation", ("hippocampus",), f"# {len(volumes)} volumes")

    def sight(self, volumes: Sequence[Any]) -> None:
        return None

    def run(
        self,
        prompt: str,
        volumes: Sequence[Any],
        progress: Callable[..., None] | None = None,
        sight: object | None = None,
    ) -> Outcome:
        _misbehave(prompt)
        described = tuple(
            InputVolume(item.name, item.kind, item.visit.isoformat() if item.visit else "", item.session)
            for item in volumes
        )
        if "refuse" in prompt:
            transcript = Transcript(prompt, described, (Step('refuse("not understood")'),))
            reason = "The prompt was not understood. Ask for the volume of a structure."
            return Outcome("refused", transcript, IDENTITY, reason=reason)
        masks = tuple(_bright_half(item) for item in volumes)
        measurements = tuple(
            Measurement(
                name="volume",
                value=float(mask.voxels.sum() * abs(np.linalg.det(mask.world[:3, :3])) / 1000),
                unit="ml",
                structure=mask.structure,
                side=mask.side,
                visit=mask.visit,
                label="left hippocampus volume",
                masks=(mask.identifier,),
            )
            for mask in masks
        )
        return Outcome(
            "answered",
            Transcript(prompt, described, (Step('report("volume", volume(roi))'),)),
            IDENTITY,
            task="segmentation",
            structures=(("hippocampus", "left"),),
            masks=masks,
            measurements=measurements,
        )


def load(checkpoint: Path | None) -> TestAgent:
    if os.environ.get("VP_TEST_BROKEN_CHECKPOINT"):
        raise FileNotFoundError("no weights")
    return TestAgent()


def _bright_half(volume: Any) -> Mask:
    image = volume.features[0].numpy()
    return Mask(
        identifier=f"roi-{volume.name}",
        structure="hippocampus",
        side="left",
        visit=volume.visit.isoformat() if volume.visit else "",
        session=volume.session,
        volume=volume.name,
        label="left hippocampus",
        voxels=np.asarray(image > np.median(image)),
        world=volume.world,
    )


def _misbehave(prompt: str) -> None:
    if "wait for" in prompt:
        _wait_until_gone(Path(prompt.split("wait for ")[1].split()[0]))
    if "sleep" in prompt:
        time.sleep(600)
    if "grow slowly" in prompt:
        kept = []
        while True:
            kept.append(np.ones(1 << 22))
            time.sleep(0.02)
    if "grow at once" in prompt:
        np.ones(1 << 36)
    if "crash" in prompt:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "write much" in prompt:
        raise OSError(27, "File too large")
    if "connect" in prompt:
        socket.create_connection(("127.0.0.1", int(prompt.split()[-1])), timeout=5)
    if "stumble" in prompt:
        raise ValueError("Doe^John was born on 19700101")


def _wait_until_gone(marker: Path) -> None:
    """Tells by a file beside the marker that computing has begun, and waits until the marker is removed."""
    marker.with_suffix(".begun").touch()
    while marker.exists():
        time.sleep(0.05)
