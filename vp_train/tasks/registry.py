"""All tasks, with how often each is drawn. Adding a task is adding its module, its templates and a row here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from vp_train.tasks import extents, images, intensities, refusals, segmentation, volumes
from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example

Task = Callable[[Context, random.Random], Example]

TASKS: tuple[tuple[Task, float], ...] = (
    (segmentation.segmentation, 10),
    (volumes.volume_analysis, 12),
    (volumes.volume_change, 10),
    (volumes.volume_asymmetry, 6),
    (volumes.volume_comparison, 5),
    (volumes.relative_volume_analysis, 5),
    (extents.extent_analysis, 8),
    (extents.extent_change, 6),
    (extents.center_of_mass, 5),
    (intensities.intensity_analysis, 6),
    (intensities.intensity_comparison, 5),
    (intensities.intensity_change, 5),
    (images.image_cropping, 6),
    (images.tissue_removal, 3),
    (images.tissue_isolation, 3),
    (refusals.unknown_structure, 14),
    (refusals.not_a_brain_question, 6),
    (refusals.not_understood, 4),
    (refusals.not_characterised, 3),
)


def examples(context: Context, seed: int) -> Iterator[Example]:
    """Examples without end, the same for the same seed."""
    chance = random.Random(seed)
    tasks = [task for task, _ in TASKS]
    weights = [weight for _, weight in TASKS]
    while True:
        yield chance.choices(tasks, weights)[0](context, chance)
