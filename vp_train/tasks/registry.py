"""All tasks, with how often each is drawn. Adding a task is adding its module, its templates and a row here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vp_model.ontology.places import load_places
from vp_train.tasks import (
    characterisation,
    extents,
    images,
    intensities,
    lesions,
    moments,
    placed,
    refusals,
    relations,
    segmentation,
    volumes,
)
from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example

Task = Callable[[Context, random.Random], Example]


def always(context: Context) -> bool:
    return bool(context.structures)


def knows_brain(context: Context) -> bool:
    return any(structure.name == "brain" for structure in context.structures)


def knows_lesions(context: Context) -> bool:
    return bool(context.pathologies)


def knows_places(context: Context) -> bool:
    """Lesions, and the hemispheres to place them in."""
    return knows_lesions(context) and any(item.name == "cerebral white matter" for item in context.structures)


def knows_lobes(context: Context) -> bool:
    """Lesions, and the lobes that they lie in."""
    known = {item.name for item in context.structures}
    return knows_places(context) and known.issuperset(load_places()["lobe"].cortex)


def knows_several(context: Context) -> bool:
    return len(context.structures) > 1


def knows_pairs(context: Context) -> bool:
    return any(structure.paired for structure in context.structures)


def knows_wholes(context: Context) -> bool:
    return knows_several(context) and any(structure.name in volumes.WHOLES for structure in context.structures)


@dataclass(frozen=True)
class Row:
    """A task, how often it is drawn, and whether weights with what they know can serve it."""

    task: Task
    weight: float
    possible: Callable[[Context], bool] = always


TASKS: tuple[Row, ...] = (
    Row(segmentation.segmentation, 10),
    Row(volumes.volume_analysis, 12),
    Row(volumes.volume_change, 10),
    Row(volumes.volume_asymmetry, 6, knows_pairs),
    Row(volumes.volume_comparison, 5, knows_several),
    Row(volumes.relative_volume_analysis, 5, knows_wholes),
    Row(extents.extent_analysis, 8),
    Row(extents.extent_change, 6),
    Row(extents.center_of_mass, 5),
    Row(intensities.intensity_analysis, 6),
    Row(intensities.intensity_comparison, 5, knows_several),
    Row(intensities.intensity_change, 5),
    Row(images.image_cropping, 6),
    Row(images.tissue_removal, 4),
    Row(images.tissue_isolation, 4),
    Row(images.skull_stripping, 2, knows_brain),
    Row(lesions.lesion_count, 4, knows_lesions),
    Row(lesions.lesion_share, 3, knows_places),
    Row(lesions.bright_share, 4),
    Row(lesions.brightness_to_surroundings, 3),
    Row(lesions.hemisphere, 4, knows_places),
    Row(lesions.location, 4, knows_lobes),
    Row(lesions.vascular_territory, 3, knows_lobes),
    Row(placed.named_location, 3, knows_lobes),
    Row(placed.named_territory, 1, knows_lobes),
    Row(placed.of_signal, 3, knows_places),
    Row(lesions.describe_whole, 2),
    Row(moments.volume_at_visit, 4),
    Row(moments.several_changes, 3),
    Row(moments.asymmetry_change, 3, knows_pairs),
    Row(moments.further_statistics, 3),
    Row(moments.surface, 2),
    Row(characterisation.signal_intensity, 5),
    Row(characterisation.diffusion_restriction, 4),
    Row(characterisation.enhancement, 4),
    Row(relations.distance_between, 4, knows_several),
    Row(relations.direction_between, 3, knows_several),
    Row(relations.plane_measure, 5),
    Row(relations.extreme_intensity, 3),
    Row(refusals.unknown_structure, 18),
    Row(refusals.not_a_brain_question, 6),
    Row(refusals.not_understood, 5),
    Row(refusals.not_characterised, 6),
    Row(refusals.lesions_within, 3, knows_lesions),
)


def examples(context: Context, seed: int) -> Iterator[Example]:
    """Examples without end, the same for the same seed."""
    chance = random.Random(seed)
    rows = [row for row in TASKS if row.possible(context)]
    weights = [row.weight for row in rows]
    while True:
        yield chance.choices(rows, weights)[0].task(context, chance)
