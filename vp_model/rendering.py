"""An overlay picture of an outcome: three planes through the largest mask of each volume, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nibabel.orientations import apply_orientation, io_orientation

from vp_model.ontology import load_ontology
from vp_model.outcome import Mask, Outcome
from vp_model.volume import Volume

PLANES = (
    ("sagittal", 0, ("P", "A", "I", "S")),
    ("coronal", 1, ("R", "L", "I", "S")),
    ("axial", 2, ("R", "L", "P", "A")),
)
"""Name, axis that is cut, and what stands at the left, right, lower and upper edge (radiological convention)."""
FALLBACK_COLOR = (255, 200, 0)


def render_overlay(outcome: Outcome, volumes: Sequence[Volume], path: Path) -> None:
    """Writes a PNG with a row for each volume that has masks. Axes are those of the voxel grid nearest to RAS.

    The patient's left is on the right side of axial and coronal pictures.
    """
    rows = [(volume, [mask for mask in outcome.masks if mask.volume == volume.name]) for volume in volumes]
    rows = [(volume, masks) for volume, masks in rows if masks]
    with matplotlib.rc_context({"font.size": 8, "text.color": "white", "axes.facecolor": "black"}):
        figure = Figure(figsize=(10, 3.4 * len(rows) + 0.5), facecolor="black")
        axes = figure.subplots(len(rows), 3, squeeze=False)
        for row, (volume, masks) in zip(axes, rows, strict=True):
            _row(row, volume, masks)
        legend = {mask.label: _color(mask) for _, masks in rows for mask in masks}
        patches = [Patch(color=color, label=label) for label, color in legend.items()]
        figure.legend(
            handles=patches, loc="lower center", ncols=4, facecolor="black", frameon=False, labelcolor="white"
        )
        figure.text(0.5, 0.995, "Made by software, for research use, unverified", ha="center", va="top", color="gray")
        figure.savefig(path, dpi=110, facecolor="black", bbox_inches="tight")


def _row(axes: Sequence[object], volume: Volume, masks: Sequence[Mask]) -> None:
    orientation = io_orientation(volume.world)
    image = apply_orientation(volume.voxels, orientation)
    shown = [(mask, apply_orientation(mask.voxels, orientation)) for mask in masks]
    spacing = np.asarray(volume.spacing)[np.argsort(orientation[:, 0])]
    largest = max((voxels for _, voxels in shown), key=lambda voxels: int(voxels.sum()))
    center = [int(value) for value in np.median(np.argwhere(largest), axis=0)]
    low, high = np.percentile(image, (1, 99.5))
    for axis, (name, cut, edges) in zip(axes, PLANES, strict=True):
        across, up = (index for index in range(3) if index != cut)
        extent = (0, image.shape[across] * spacing[across], 0, image.shape[up] * spacing[up])
        plane = image.take(center[cut], axis=cut).T
        axis.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent)  # type: ignore[attr-defined]
        for mask, voxels in shown:
            colored = np.zeros((*plane.shape, 4))
            colored[..., :3] = _color(mask)
            colored[..., 3] = 0.45 * voxels.take(center[cut], axis=cut).T
            axis.imshow(colored, origin="lower", extent=extent, interpolation="nearest")  # type: ignore[attr-defined]
        if edges[0] == "R":
            axis.invert_xaxis()  # type: ignore[attr-defined]
        _edges(axis, edges, f"{volume.name} {volume.kind} {volume.visit or ''} {name}")


def _edges(axis: object, edges: tuple[str, str, str, str], title: str) -> None:
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98))
    for letter, (x, y) in zip(edges, places, strict=True):
        axis.text(x, y, letter, transform=axis.transAxes, ha="center", va="center", color="yellow")  # type: ignore[attr-defined]
    axis.set_title(title, color="white")  # type: ignore[attr-defined]
    axis.set_axis_off()  # type: ignore[attr-defined]


def _color(mask: Mask) -> tuple[float, float, float]:
    structure = load_ontology().structures.get(mask.structure)
    red, green, blue = structure.color if structure else FALLBACK_COLOR
    return (red / 255, green / 255, blue / 255)
