"""An overlay picture of one volume and its masks, for a person to look at: no patient data in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy import ndimage

Color = tuple[int, int, int]
LabelledMask = tuple[str, Color, NDArray[np.bool_]]
"""Label, sRGB 0–255, voxels on the volume's grid."""

CAPTION = "Made by software, for research use only, not verified by a person"
OPACITY = 0.4
LEGEND_ENTRIES = 15
CT_WINDOW = (0.0, 80.0)
"""Hounsfield units shown black and white: the brain window (level 40, width 80)."""
AIR = 0.04
"""Share of the highest values below which a voxel counts as empty."""
BULK = 75
"""Percentile of the tissue that is kept between the two shares of white below."""
BRIGHTEST_BULK, DARKEST_BULK = 0.65, 0.45
_SCALE_BAR_MM = (10, 20, 50, 100)


@dataclass(frozen=True)
class _Plane:
    """An anatomical plane as it is looked at: RAS directions to the right of the picture and to its top.

    Radiological convention: an axial picture is seen from the feet and a coronal one from the front, so that the
    patient's left is on the right of the picture; a sagittal one is seen from the left, the face to the left.
    """

    name: str
    right: tuple[int, int]
    """Axis of RAS and sign."""
    up: tuple[int, int]

    @property
    def cut(self) -> int:
        return 3 - self.right[0] - self.up[0]


PLANES = (_Plane("axial", (0, -1), (1, 1)), _Plane("coronal", (0, -1), (2, 1)), _Plane("sagittal", (1, -1), (2, 1)))
_LETTERS = {(0, 1): "R", (0, -1): "L", (1, 1): "A", (1, -1): "P", (2, 1): "S", (2, -1): "I"}


def render_overlay(
    voxels: NDArray[np.floating],
    world: NDArray[np.float64],
    masks: Sequence[LabelledMask],
    path: Path,
    *,
    focus: int | None = None,
    title: str = "",
    window: tuple[float, float] | None = None,
) -> None:
    """Writes a PNG of three planes through the middle of a mask, or of the volume where there is none.

    Each picture is sampled in the anatomical planes of the patient, so that an oblique or tilted volume stands upright
    and the letters at its edges are true; intensities linearly, masks by their nearest voxel.

    Args:
        voxels: (w, h, d).
        world: 4×4, voxel index → RAS mm.
        masks: drawn in their order.
        path: of the PNG.
        focus: index of the mask through which the planes go; None: the largest.
        title: over the picture, such as the finding and the volume.
        window: values shown black and white; None: chosen so that tissue keeps its grey levels.

    Raises:
        ValueError: a mask has another shape than the volume.
    """
    for label, _, mask in masks:
        if mask.shape != voxels.shape:
            raise ValueError(f"The mask {label!r} has the shape {mask.shape}, the volume {voxels.shape}.")
    center = _center(voxels.shape, world, masks if focus is None else [masks[focus]])
    low, high = window or _window(voxels)
    figure = Figure(figsize=(13, 5.2), facecolor="black")
    FigureCanvasAgg(figure)
    for axes, plane in zip(figure.subplots(1, 3), PLANES, strict=True):
        _draw(axes, plane, voxels, world, masks, center, (low, high))
    if masks:
        figure.legend(
            handles=[Patch(color=_rgb(color), label=label) for label, color in _legend(masks).items()],
            loc="lower center",
            bbox_to_anchor=(0.5, 0.045),
            ncols=5 if len(masks) > 5 else len(masks),
            frameon=False,
            labelcolor="white",
            fontsize=9,
        )
    if title:
        figure.text(0.5, 0.965, title, ha="center", color="white", fontsize=11, parse_math=False)
    figure.text(0.5, 0.015, CAPTION, ha="center", color="gray", fontsize=8)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.89 if title else 0.93, bottom=0.15, wspace=0.03)
    figure.savefig(path, format="png", facecolor="black", metadata={"Software": "voxelprompt-node"})


def render_series(values: Sequence[tuple[str, float]], name: str, path: Path, title: str) -> None:
    """Writes a PNG of one value over time.

    Args:
        values: ISO dates, in order, with the value at each.
        name: of the value, with its unit.
    """
    days = [date.fromisoformat(day) for day, _ in values]
    figure = Figure(figsize=(7, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(np.asarray(days, dtype="datetime64[D]"), [value for _, value in values], marker="o", color="tab:blue")
    for day, (_, value) in zip(days, values, strict=True):
        axes.annotate(
            f"{value:.4g}", (mdates.date2num(day), value), textcoords="offset points", xytext=(0, 7), fontsize=8
        )
    axes.set_xticks(mdates.date2num(days), [day for day, _ in values], rotation=20, fontsize=8)
    axes.set_ylabel(name)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    figure.text(0.5, 0.01, CAPTION, ha="center", color="gray", fontsize=8)
    figure.subplots_adjust(bottom=0.2, left=0.14, right=0.97)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": "voxelprompt-node"})


def _draw(
    axes: Axes,
    plane: _Plane,
    voxels: NDArray[np.floating],
    world: NDArray[np.float64],
    masks: Sequence[LabelledMask],
    center: NDArray[np.float64],
    window: tuple[float, float],
) -> None:
    points, size = _grid(plane, voxels.shape, world, center)
    index = (np.linalg.inv(world) @ np.concatenate([points, np.ones((1, points.shape[1]))]))[:3]
    low, high = window
    picture = ndimage.map_coordinates(voxels.astype(np.float32), index, order=1, cval=low).reshape(size)
    colors = np.repeat(np.clip((picture - low) / (high - low), 0, 1)[..., None], 3, axis=-1)
    for _, color, mask in masks:
        inside = ndimage.map_coordinates(mask.astype(np.uint8), index, order=0, cval=0).reshape(size).astype(bool)
        edge = inside & ~ndimage.binary_erosion(inside)
        colors[inside] = (1 - OPACITY) * colors[inside] + OPACITY * np.asarray(_rgb(color))
        colors[edge] = _rgb(color)
    axes.imshow(colors, origin="lower", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(plane.name, color="white", fontsize=10)
    rows, columns = size
    marks = (
        (0.98, 0.5, plane.right),
        (0.02, 0.5, (plane.right[0], -plane.right[1])),
        (0.5, 0.97, plane.up),
        (0.5, 0.03, (plane.up[0], -plane.up[1])),
    )
    for x, y, direction in marks:
        axes.text(
            x, y, _LETTERS[direction], transform=axes.transAxes, color="white", fontsize=11, ha="center", va="center"
        )
    fitting = [length for length in _SCALE_BAR_MM if length <= 0.4 * columns] or [_SCALE_BAR_MM[0]]
    axes.plot([0.04 * columns, 0.04 * columns + fitting[-1]], [0.07 * rows] * 2, color="white", linewidth=2)
    axes.text(0.04 * columns, 0.09 * rows, f"{fitting[-1]} mm", color="white", fontsize=8)


def _grid(
    plane: _Plane, shape: tuple[int, ...], world: NDArray[np.float64], center: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """RAS points (3, n) of a picture with pixels of 1 mm that shows the whole volume, and its (rows, columns)."""
    corners = np.array(np.meshgrid(*([-0.5, size - 0.5] for size in shape), indexing="ij")).reshape(3, -1)
    ras = world[:3, :3] @ corners + world[:3, 3:]
    low, high = ras.min(axis=1), ras.max(axis=1)
    across = np.arange(low[plane.right[0]] + 0.5, high[plane.right[0]], 1.0)[:: plane.right[1]]
    upward = np.arange(low[plane.up[0]] + 0.5, high[plane.up[0]], 1.0)[:: plane.up[1]]
    points = np.empty((3, len(upward), len(across)))
    points[plane.right[0]] = across[None, :]
    points[plane.up[0]] = upward[:, None]
    points[plane.cut] = center[plane.cut]
    return points.reshape(3, -1), (len(upward), len(across))


def _center(shape: tuple[int, ...], world: NDArray[np.float64], masks: Sequence[LabelledMask]) -> NDArray[np.float64]:
    """RAS mm of the voxel of the largest mask that lies nearest to its middle."""
    index = (np.asarray(shape) - 1) / 2
    largest = max((mask for _, _, mask in masks), key=lambda mask: int(mask.sum()), default=None)
    if largest is not None and largest.any():
        inside = np.argwhere(largest)
        middle = inside.mean(axis=0)
        index = inside[np.argmin(((inside - middle) ** 2).sum(axis=1))].astype(np.float64)
    center: NDArray[np.float64] = world[:3, :3] @ index + world[:3, 3]
    return center


def _window(voxels: NDArray[np.floating]) -> tuple[float, float]:
    """Values shown black and white: air, and what leaves tissue between its grey levels.

    The percentile that is white in a head with skin and marrow is white matter itself in a brain without its skull or
    in an average of many, whose brightest tissue it is. `BULK` of what is no air is therefore kept from white, and,
    where little shines, from darkness.
    """
    low, bright = (float(value) for value in np.percentile(voxels, (1, 99.9)))
    tissue = voxels[voxels - low > AIR * (bright - low)]
    if not tissue.size:
        return low, low + 1.0
    bulk, high = (float(value) - low for value in np.percentile(tissue, (BULK, 99.5)))
    high = min(max(high, bulk / BRIGHTEST_BULK), bulk / DARKEST_BULK)
    return (low, low + high) if high > 0 else (low, low + 1.0)


def _legend(masks: Sequence[LabelledMask]) -> dict[str, Color]:
    shown = {label: color for label, color, mask in masks if mask.any()}
    return dict(list(shown.items())[:LEGEND_ENTRIES])


def _rgb(color: Color) -> tuple[float, float, float]:
    return (color[0] / 255, color[1] / 255, color[2] / 255)
