"""Lesions of a study over its sessions: what is there at first, what becomes of it, what appears later (paper B.6); and
how it is seen in each image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from vp_model.vision.prepare import CT_WINDOW_HU
from vp_train.datasets.maps import Subject
from vp_train.synthesis.appearance import Appearance
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.draw import draw_lesions
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.lesions.painting import Layer, paint, references
from vp_train.synthesis.lesions.shapes import NEVER
from vp_train.synthesis.lesions.times import another_time

PAINTED_AS: Mapping[str, str] = {"PERFUSION": "GRE", "TOF": "T1"}
"""Kinds in which lesions look as in another kind."""

FILLED = 0.6
"""Share of the voxels where a lesion may be that it fills at most when it grows."""

History = tuple[SyntheticLesion | None, ...]
"""A lesion in each session; None before it appears and after it is gone."""


@dataclass(frozen=True)
class LesionChanges:
    """`changes.json`, lesions.

    Attributes:
        counts: how often one, two, … kinds are drawn.
        new: share of later sessions with a lesion that was not there before.
        growth: share and range of the factor of volume, of each course.
        settled: kinds that no longer change.
        ages_after_days, ages: an interval, and how often after it a lesion has become the later kind of its own.
        aged_after_days: an interval after which all have.
    """

    counts: tuple[float, ...]
    new: float
    growth: tuple[tuple[float, tuple[float, float]], ...]
    settled: frozenset[str]
    ages_after_days: int
    ages: float
    aged_after_days: int


@cache
def load_lesion_changes() -> LesionChanges:
    table = json.loads(files("vp_train.synthesis").joinpath("changes.json").read_text(encoding="utf-8"))["lesions"]
    return LesionChanges(
        tuple(table["counts"]),
        table["new"],
        tuple((float(course["share"]), tuple(course["growth"])) for course in table["courses"].values()),
        frozenset(table["settled"]),
        table["ages_after_days"],
        table["ages"],
        table["aged_after_days"],
    )


def draw_histories(
    subject: Subject,
    anatomy: Anatomy,
    intervals_days: Sequence[int],
    chance: Chance,
    kinds: Sequence[str] | None = None,
) -> tuple[History, ...]:
    """Lesions of a subject in a first session and after each interval.

    Args:
        anatomy: of the subject, on the device of `chance`.
        kinds: names of `kinds.json` to draw from; by their weights where None.
    """
    changes = load_lesion_changes()
    first = draw_lesions(subject, anatomy, chance, 1 + chance.choice(changes.counts), kinds)
    histories: list[list[SyntheticLesion | None]] = [[lesion] for lesion in first]
    for session, interval in enumerate(intervals_days, start=1):
        for history in histories:
            history.append(_later(history[-1], interval, changes, chance))
        if chance.happens(changes.new):
            present = [lesion for history in histories if (lesion := history[-1] or history[-2]) is not None]
            for lesion in draw_lesions(subject, anatomy, chance, 1, kinds, present, session=session):
                histories.append([*[None] * session, lesion])
    return tuple(tuple(history) for history in histories)


def _later(
    lesion: SyntheticLesion | None, interval_days: int, changes: LesionChanges, chance: Chance
) -> SyntheticLesion | None:
    _, limits = changes.growth[chance.choice([share for share, _ in changes.growth])]
    growth, ages = chance.number(*limits), chance.happens(changes.ages)
    if lesion is None or lesion.kind in changes.settled:
        return lesion
    ages = (ages and interval_days >= changes.ages_after_days) or interval_days >= changes.aged_after_days
    aged = load_kinds()[lesion.kind].later if ages else lesion.kind
    growth = min(growth, max(1.0, _room(lesion)))
    if growth == 1.0 and aged == lesion.kind:
        return lesion
    return another_time(lesion, growth, aged)


def _room(lesion: SyntheticLesion) -> float:
    """By what factor every focus of a lesion may grow before it would take the form of its surroundings' borders."""
    possible = [float((focus.level > NEVER).sum()) / max(1, focus.volume) for focus in lesion.foci]
    return FILLED * min(possible, default=1.0)


def painted(
    signal: torch.Tensor,
    diffusion: torch.Tensor | None,
    layer: Layer,
    places: torch.Tensor,
    appearance: Appearance,
    b_value: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Fine signal (and diffusion coefficient) with the lesions of a session.

    Shifts are relative to brain: of CT on the scale of the brain window, not in HU. Of sequences that show diffusion,
    the weighted signal and the coefficient are painted, and the signal without weighting follows from both.

    Args:
        places: (w·p, h·q, d·r) position in the label map of each part of each voxel.
        b_value: s/mm².
    """
    codes = layer.codes.labels.flatten()[places]
    if not bool(codes.any()):
        return signal, diffusion
    texture = layer.texture.flatten()[places].float()
    means = appearance.contrast.means

    def laid(image: torch.Tensor, means: torch.Tensor, kind: str) -> torch.Tensor:
        return paint(image, codes, texture, layer, kind, references(layer.lesions, means))

    if appearance.kind == "CT":
        low, high = CT_WINDOW_HU
        window = high - low
        return laid((signal - low) / window, (means - low) / window, "CT") * window + low, None
    if diffusion is None or appearance.diffusion is None:
        return laid(signal, means, PAINTED_AS.get(appearance.kind, appearance.kind)), None
    weight = -1e-6 * b_value
    weighted = laid(signal * torch.exp(weight * diffusion), means * torch.exp(weight * appearance.diffusion), "DWI")
    diffusion = laid(diffusion, appearance.diffusion, "ADC")
    return weighted * torch.exp(-weight * diffusion), diffusion
