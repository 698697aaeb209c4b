"""A lesion at another date: grown, shrunken, of another stage, gone."""

from __future__ import annotations

from dataclasses import replace

import torch

from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.draw import centred, draw_parts
from vp_train.synthesis.lesions.growth import grow, merge, with_parts
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.lesions.model import Focus, Part, SyntheticLesion


def another_time(lesion: SyntheticLesion, growth: float, kind: str | None = None) -> SyntheticLesion | None:
    """The same lesion, `growth` times as large, from the same fields: each voxel that it keeps is one it had, and what
    it gains lies at its border. Its signal stays, unless it becomes another kind. None where nothing is left.

    Args:
        growth: of its volume; more than there is room for is cut off there. Each focus grows alike.
        kind: the kind that it has become (`load_kinds()[lesion.kind].later`: an acute infarct becomes a chronic one).
    """
    table = load_kinds()
    now = table[lesion.kind if kind is None else kind]
    parts = lesion.parts
    foci = [replace(focus, volume=round(focus.volume * growth)) for focus in lesion.foci]
    if now.name != lesion.kind:
        parts = draw_parts(now, Chance.seeded(lesion.seed, lesion.codes.device))
        foci = [replace(focus, inner=_fitted(focus, parts, lesion.seed)) for focus in foci]
    foci = [focus for focus in foci if focus.volume >= 1]
    if not foci:
        return None
    codes, origin = merge([grow(focus, parts) for focus in foci], [focus.origin for focus in foci])
    texture, _ = merge([focus.texture for focus in foci], [focus.origin for focus in foci])
    return replace(
        lesion,
        kind=now.name,
        facts=with_parts(lesion.facts, now, parts, codes),
        parts=parts,
        origin=origin,
        codes=codes,
        texture=centred(texture, codes, len(parts)),
        replaces=now.replaces,
        foci=tuple(foci),
    )


def _fitted(focus: Focus, parts: tuple[Part, ...], seed: int) -> torch.Tensor:
    """Noise for as many parts as there are now: that of the parts before, and mirror images of the texture beyond."""
    missing = len(parts) - 1 - len(focus.inner)
    if missing <= 0:
        return focus.inner[: len(parts) - 1]
    extra = [focus.texture.flip(index % 3) for index in range(missing)]
    return torch.cat([focus.inner, torch.stack(extra)])
