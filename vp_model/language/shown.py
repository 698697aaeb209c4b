"""Lesions that can be asked for in the images at hand: each is looked for in the sequence types that show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vp_model.language.asked import mentions_of
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume
from vp_model.program.inspection import Inspection
from vp_model.vision.finding import shown_in

Shows = Mapping[str, Sequence[str]]
"""Lesion → sequence types in which it is looked for, best first."""


def names_in(prompt: str, volumes: Sequence[InputVolume], names: Collection[str], shows: Shows) -> frozenset[str]:
    """Structures that a prompt can ask for in these images.

    Where none shows lesions of all kinds, "lesion" means the one kind that can be found, as in weights that know no
    others; kinds that none shows either are not meant unless the prompt names them, which is refused with the reason.
    """
    images = [(volume.session, volume.kind) for volume in volumes]
    hidden = {name for name, kinds in shows.items() if not shown_in(kinds, images)}
    known = frozenset(names)
    unnamed = hidden - {mention.name for mention in mentions_of(prompt) if mention.sort == "structure"}
    instead = {name for name in hidden if load_ontology().meant(name, name, known - hidden) is not None}
    return known - instead - unnamed if instead else known


def unseen(inspection: Inspection, volumes: Sequence[InputVolume], shows: Shows) -> str:
    """Which lesion that a program asks for no image of a session shows; an empty text where all may be seen."""
    images = [(volume.session, volume.kind) for volume in volumes if volume.name in inspection.volumes]
    for name, _ in inspection.structures:
        kinds = shows.get(name)
        if kinds and images and not shown_in(kinds, images):
            return f"{name} is looked for in images of these kinds alone: {', '.join(kinds)}"
    return ""
