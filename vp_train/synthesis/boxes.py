"""Where the labels of a subject lie, found once for each subject."""

from __future__ import annotations

from functools import lru_cache

from scipy import ndimage

from vp_train.datasets.maps import Subject

Box = tuple[slice, ...]


@lru_cache(maxsize=256)
def label_boxes(subject: Subject) -> tuple[Box | None, ...]:
    """The block that holds all voxels of each label of a subject's map, by its index; None where it has none."""
    labels = subject.labels.cpu().numpy()
    return (None, *ndimage.find_objects(labels, max_label=255))


def union(boxes: list[Box]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and one past the last index of the block that holds them all."""
    low = [min(box[axis].start for box in boxes) for axis in range(3)]
    high = [max(box[axis].stop for box in boxes) for axis in range(3)]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
