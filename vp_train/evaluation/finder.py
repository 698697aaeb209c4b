"""How well lesions are found in what the tissues do not explain, on synthetic images and studies of held-out heads:
in each image, with those beside it.

There is no real image with a reference for most of them: what is measured here says that they were learned, not how
well they are found in patients. Thresholds and the sequence types in which a lesion is looked for are chosen on one set
of images, and judged on another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.geometry import Placed
from vp_model.vision.finding import together
from vp_model.vision.lesions import LesionNetwork, lesions_in
from vp_train.evaluation.calibration import CANDIDATES
from vp_train.evaluation.pathology import SMALLEST_ML, PathologyScore
from vp_train.training.kept_departures import HALF, Study

LEAST_IMAGES = 8
"""A sequence type that fewer images of the first set are of is not offered."""
SHOWN_FROM = 0.4
"""A lesion is looked for in a sequence type where its mean Dice, less its standard error, is at least this."""
UNSEEN = 0.5
"""Threshold of a lesion that no image shows."""
Shows = dict[str, tuple[str, ...]]
"""Name → sequence types in which it is looked for, best first."""


def choose(
    network: LesionNetwork,
    phi: torch.Tensor,
    names: Sequence[str],
    studies: Sequence[Study],
    voxel_ml: float,
) -> tuple[dict[str, float], Shows]:
    """Thresholds with the largest mean Dice of images that show a lesion, and the sequence types in which it is surely
    found with them, best first: a handful of images tells good from bad luck no better than their standard error says.

    Args:
        phi: (t, d) conditions of `names`, which are the targets of the images.
    """
    images = [image for study in studies for image in study]
    shared = np.zeros((len(images), len(names), len(CANDIDATES)))
    total = np.zeros_like(shared)
    volumes = []
    for row, (_, probability, wanted) in enumerate(_found(network, phi, studies)):
        volumes.append(wanted.sum(axis=1))
        for column, threshold in enumerate(CANDIDATES):
            found = probability > threshold
            shared[row, :, column] = (found & wanted).sum(axis=1)
            total[row, :, column] = found.sum(axis=1) + wanted.sum(axis=1)
    thresholds: dict[str, float] = {}
    shows: Shows = {}
    kinds = [image.kind.upper() for image in images]
    sizes = np.stack(volumes) * voxel_ml
    for index, name in enumerate(names):
        dice = 2 * shared[:, index] / np.maximum(total[:, index], 1)
        large = sizes[:, index] >= SMALLEST_ML
        best = int(dice[large].mean(axis=0).argmax()) if large.any() else CANDIDATES.index(UNSEEN)
        thresholds[name] = CANDIDATES[best]
        sure = {}
        for kind in sorted(set(kinds) & {given.upper() for given in network.config.kinds}):
            shown = dice[[row for row, given in enumerate(kinds) if given == kind and large[row]], best]
            if len(shown) < LEAST_IMAGES:
                continue
            lower = float(shown.mean() - shown.std(ddof=1) / np.sqrt(len(shown)))
            if lower >= SHOWN_FROM:
                sure[kind] = lower
        shows[name] = tuple(sorted(sure, key=lambda kind: -sure[kind]))
    return thresholds, shows


def judge(
    network: LesionNetwork,
    phi: torch.Tensor,
    names: Sequence[str],
    studies: Sequence[Study],
    voxel_ml: float,
    thresholds: Mapping[str, float],
    shows: Mapping[str, Sequence[str]],
) -> dict[str, PathologyScore]:
    """Scores on other images. The mean Dice is that of the sequence types in which a lesion is looked for."""
    dice: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    elsewhere: dict[str, list[float]] = {name: [] for name in names}
    for kind, probability, wanted in _found(network, phi, studies):
        for index, name in enumerate(names):
            found, size = probability[index] > thresholds[name], int(wanted[index].sum())
            if size * voxel_ml >= SMALLEST_ML:
                dice[name][kind].append(float(2 * (found & wanted[index]).sum() / (found.sum() + size)))
            elif not size and kind in shows[name]:
                elsewhere[name].append(float(found.sum()) * voxel_ml)
    scores = {}
    for name in names:
        looked = [value for kind in shows[name] for value in dice[name][kind]]
        scores[name] = PathologyScore(
            thresholds[name],
            float(np.mean(looked)) if looked else None,
            len(looked),
            {kind: float(np.mean(values)) for kind, values in sorted(dice[name].items()) if values},
            float(np.mean(elsewhere[name])) if elsewhere[name] else 0.0,
        )
    return scores


@torch.inference_mode()
def _found(
    network: LesionNetwork, phi: torch.Tensor, studies: Sequence[Study]
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
    """Sequence type, probabilities and truth (t, voxels) of each image, in order."""
    for study in studies:
        known = [image for image in study if image.kind.upper() in network.config.kinds]
        placed = {image: Placed(image.features()[None], np.array(image.world)) for image in study}
        for image in study:
            beside = [image, *(other for other in known if other is not image)]
            departures, inside = together(placed[image], [placed[other] for other in beside])
            kinds = torch.cat([network.config.kind_of(other.kind) for other in beside])
            found = lesions_in(departures, kinds, phi, network, inside)
            wanted = (image.shares() > HALF / 255).flatten(1).numpy()
            yield image.kind.upper(), found.flatten(1).numpy(), wanted
