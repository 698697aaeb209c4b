"""What the masks of a prepared case tell of its lesions: which there are, components, signal (paper B.5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import ndimage

from vp_model.geometry import World, spacing
from vp_model.ontology import load_ontology
from vp_train.datasets.public.cases import LabelMasks, PreparedImage
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.tasks.characterisation import AROUND_MM
from vp_train.tasks.scene import Lesion, Signal

LEAST_VOXELS = 20
"""Of a lesion, and of the tissue around it, for a word about its signal."""


def is_lesion(region: str) -> bool:
    structure = load_ontology().structures.get(region)
    return structure is not None and structure.kind == "pathology"


@cache
def component_names() -> frozenset[str]:
    """What is part of another lesion wherever both are marked: edema, necrosis, enhancing tumor…"""
    return frozenset(part.name for kind in load_kinds().values() for part in kind.parts if part.name)


def lesions_of_masks(masks: LabelMasks, world: World) -> tuple[Lesion, ...]:
    """The lesions that masks (w, h, d) of one session show, one for each structure, with their components.

    A wider name (hemorrhage) counts only where none of its kinds (subdural hemorrhage) is marked.

    Args:
        world: voxel → mm.
    """
    ontology = load_ontology()
    shown = [region for region in masks if is_lesion(region) and region in masks.marked]
    wider = {name for region in shown for name in ontology.ancestors(region)}
    leaves = [region for region in shown if region not in wider]
    lesions = [region for region in leaves if region not in component_names()] or leaves
    components = [region for region in shown if region not in lesions and region in component_names()]
    voxel = float(np.prod(spacing(world)))
    found = []
    for region in lesions:
        own = tuple(name for name in components if len(lesions) == 1 or bool((masks[name] & masks[region]).any()))
        enhancing = True if "enhancing tumor" in own else None
        volume = float(masks[region].sum()) * voxel
        found.append(Lesion(region, volume_mm3=volume, enhancing=enhancing, components=own))
    return tuple(found)


def signals(
    masks: LabelMasks, lesion: Lesion, images: Sequence[tuple[str, PreparedImage]], world: World
) -> dict[str, Signal]:
    """Signal of a lesion in each sequence type of images that lie on the grid of its masks, by the rule of the answers
    (`vp_train.tasks.characterisation`): beyond one standard deviation of the tissue within 5 mm.

    Args:
        images: with the kind that α is told.
    """
    inside = masks[lesion.structure]
    marked = inside.copy()
    for name in lesion.components:
        marked |= masks[name]
    steps = spacing(world)
    reach = np.ceil(AROUND_MM / steps).astype(int)
    box = tuple(
        slice(max(int(places.min()) - margin, 0), int(places.max()) + margin + 1)
        for places, margin in zip(np.nonzero(marked), reach, strict=True)
    )
    near = ndimage.distance_transform_edt(~marked[box], sampling=tuple(steps)) <= AROUND_MM
    found: dict[str, Signal] = {}
    for kind, image in images:
        if kind in found or image.volume.shape != inside.shape:
            continue
        voxels = image.volume.voxels[box]
        around = voxels[near & ~marked[box] & (voxels > 0)]
        own = voxels[inside[box]]
        if len(around) < LEAST_VOXELS or len(own) < LEAST_VOXELS:
            continue
        difference, spread = float(own.mean() - around.mean()), float(around.std())
        found[kind] = "hyperintense" if difference > spread else "hypointense" if difference < -spread else "isointense"
    return found
