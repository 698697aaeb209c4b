"""Pictures to look at: a scan in three planes with what m found drawn over it, the reference below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vp_model.vision.inference import FeatureCache, segment_volumes
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import to_ras
from vp_model.volume import Volume
from vp_train.training.condition import ConditionTable


def label_map(network: VisionNetwork, table: ConditionTable, volume: Volume, leave_out: tuple[str, ...]) -> np.ndarray:
    """(w, h, d) int: number of the target that is most probable where one exceeds one half, else 0."""
    cache = FeatureCache()
    best = np.full(volume.shape, 0.5, dtype=np.float32)
    result = np.zeros(volume.shape, dtype=np.int16)
    phi = table().detach()
    for index, name in enumerate(table.names):
        if name in leave_out:
            continue
        probability = segment_volumes(network, [volume], phi[index : index + 1], cache)[0][0].numpy()
        better = probability > best
        best[better], result[better] = probability[better], index + 1
    return result


def draw_overlay(volume: Volume, maps: list[tuple[str, NDArray[np.generic]]], path: Path) -> None:
    """One row for each map, columns axial (two), coronal and sagittal; radiological left-right is not applied."""
    image = to_ras(volume.voxels, volume.world)[0].astype(np.float32)
    turned = [(title, to_ras(labels, volume.world)[0]) for title, labels in maps]
    top = float(np.percentile(image, 99.5))
    w, h, d = image.shape
    cuts = [(2, d * 9 // 20), (2, d * 6 // 10), (1, h // 2), (0, w * 4 // 10)]
    figure = Figure(figsize=(16, 4.2 * (len(turned) + 1)))
    FigureCanvasAgg(figure)
    for row, (title, labels) in enumerate([("image", None), *turned]):
        for column, (axis, at) in enumerate(cuts):
            axes = figure.add_subplot(len(turned) + 1, 4, row * 4 + column + 1)
            axes.imshow(np.take(image, at, axis).T, origin="lower", cmap="gray", vmin=0, vmax=top)
            if labels is not None:
                cut = np.take(labels, at, axis).T
                colours = colormaps["gist_ncar"]((cut * 37 % 97) / 97.0)
                colours[..., 3] = (cut > 0) * 0.55
                axes.imshow(colours, origin="lower")
            axes.set_axis_off()
            axes.set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=60)
