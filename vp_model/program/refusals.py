"""Why a prompt was refused, and what is possible instead: what the person who asked reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vp_model.outcome import InputVolume
from vp_model.program.possible import can_find
from vp_model.program.vocabulary import REFUSALS, TASKS

UNKNOWN_STRUCTURE = "unknown structure"
MISSING_SESSION = "missing session"
MISSING_IMAGE = "missing image"
NOT_UNDERSTOOD = "not understood"


def refusal(
    reason: str, volumes: Sequence[InputVolume], structures: Collection[str], detail: str = "", prompt: str = ""
) -> str:
    """The words of a reason to refuse, followed by what is possible.

    Args:
        reason: a key of `REFUSALS`.
        volumes: what the program was given.
        structures: names of what the weights can find, without sides.
        detail: what went wrong with this prompt, for brackets.
        prompt: what was asked; the names nearest to it come first.
    """
    words = REFUSALS[reason] + (f" ({detail})" if detail else "")
    if reason == UNKNOWN_STRUCTURE:
        return f"{words} {can_find(structures, prompt)}"
    if reason == MISSING_SESSION:
        return f"{words} {_given(volumes)} A comparison over time needs two sessions, with their dates."
    if reason == MISSING_IMAGE:
        return f"{words} {_given(volumes)}"
    return f"{words} It can do these: {', '.join(TASKS)}. {can_find(structures, prompt)}"


def _given(volumes: Sequence[InputVolume]) -> str:
    """`Given: T1 and FLAIR of 2024-03-01; T1 of 2025-03-04.`"""
    sessions: dict[tuple[int, str], list[str]] = {}
    for volume in volumes:
        kind = volume.kind if volume.kind != "unknown" else "an image of unknown kind"
        sessions.setdefault((volume.session, volume.visit), []).append(kind)
    written = [f"{' and '.join(kinds)} of {visit or 'no known date'}" for (_, visit), kinds in sorted(sessions.items())]
    return f"Given: {'; '.join(written)}."
