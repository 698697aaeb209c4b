"""A prompt on images as they were acquired: laid on each other first, answered on the grid of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vp_model.agent import Agent, Progress
from vp_model.arrangement import arranged
from vp_model.imaging.alignment import Origin, Settings, align, bring_back
from vp_model.outcome import Outcome
from vp_model.volume import Volume


def ask(
    agent: Agent, prompt: str, volumes: Sequence[Volume], register: bool = True, progress: Progress | None = None
) -> Outcome:
    """Answers a prompt on volumes of any geometry, in any order, under any names.

    Args:
        volumes: of one patient: one or several sequence types of one or several dates. Sessions follow from the dates
            where they are not given. Names are free, or may be left out: programs write v1, v2, … in order of session.
        register: lay them on each other by rigid registration before m sees them. Images of one session are taken to
            share the scanner's coordinates, which is checked. False believes the world matrices.

    Returns:
        The outcome: masks on each volume's own grid, measurements, words, the transcript, and warnings. It speaks of
        the volumes by the names that they came with.

    Raises:
        ValueError: the volumes are no set that a prompt can be about (see `arrangement.arranged`).
    """
    found = arranged(volumes)
    # What they came with is no frame of reference: images of one session are taken to share the scanner's.
    origins = {item.name: Origin(item.kind.removesuffix("+C"), f"session {item.session}") for item in found.volumes}
    aligned = align(found.volumes, origins, Settings(within_sessions=register, across_sessions=register))
    outcome = agent.answer(prompt, replace(found, volumes=aligned.volumes), progress)
    return found.returned(bring_back(outcome, found.volumes, aligned))
