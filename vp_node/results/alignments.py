"""How the volumes of a run were laid on each other, in words for who reads the report."""

from __future__ import annotations

from vp_model.outcome import Alignment, InputVolume, Outcome


def alignment_words(outcome: Outcome) -> list[str]:
    """A sentence for each volume that was laid on another, with how well it fits there."""
    told = {volume.name: volume for volume in outcome.transcript.volumes}
    return [_sentence(item, told) for item in outcome.alignments if item.method != "reference"]


def _sentence(item: Alignment, told: dict[str, InputVolume]) -> str:
    pair = f"{_named(item.volume, told)} on {_named(item.reference, told)}"
    if item.method == "failed":
        return f"{pair}: registration failed, the place is the one in the header. {item.note}".strip()
    if item.method == "header":
        return f"{pair}: as the headers have it. {item.note}".strip()
    return (
        f"{pair}: by rigid registration, which moves the middle of the head by {item.motion_mm:.1f} mm and turns it by "
        f"{item.rotation_degrees:.1f}°. Overlap of the heads (Dice) {item.overlap:.3f}; mutual information "
        f"{item.metric_before:.3f} before, {item.metric_after:.3f} after. {item.note}"
    ).strip()


def _named(name: str, told: dict[str, InputVolume]) -> str:
    volume = told.get(name)
    return f"{name} ({volume.kind}, {volume.visit or 'no date'})" if volume is not None else name
