"""A contact sheet of lesions: a row a kind, a column a sequence type, outlines of the lesion and its components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vp_model.geometry import Shape, World
from vp_train.datasets.labels import load_labels
from vp_train.synthesis.acquisition import Distortions, fine_signal, measured
from vp_train.synthesis.appearance import FAMILIES, draw_appearance
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import places_in
from vp_train.synthesis.lesions.painting import Layer, shares
from vp_train.synthesis.pathology import painted
from vp_train.synthesis.scene import Scene
from vp_train.synthesis.space import grid_axes, look_up

GREYS = 22
SLAB = 5
"""Slices that are rendered, of which the middle one is shown."""
B_VALUE = 1000.0
COLOURS = ("#ffd740", "#ff5252", "#40c4ff", "#69f0ae", "#e040fb")
CLEAN = Distortions(smoothing=(0.5, 0.6), bias=0.1, noise=(0.008, 0.012), noise_hu=(2.0, 3.0), exponent=0.05, kspace=0)


@dataclass(frozen=True, eq=False)
class Row:
    """One lesion: `title`; `images` (w, h) of each sequence type; `masks` (w, h) share, by name, the lesion first."""

    title: str
    images: tuple[NDArray[np.float32], ...]
    masks: dict[str, NDArray[np.float32]]


def draw_row(scene: Scene, lesion: int, kinds: Sequence[str], seed: int, title: str) -> Row:
    """The axial slice of 1 mm in which a scene's lesion is largest, on each sequence type of one scanner."""
    layer = Layer.of(scene.synthetic, scene.subject)
    shape, world = _slab(scene, layer, lesion)
    labels = load_labels()
    device = scene.subject.labels.device
    voxels = scene.deformation.voxels(grid_axes(shape, world, (1, 1, 1), device))
    found = labels.plain.to(device)[look_up(scene.subject, voxels)]
    if scene.deformation.mirrored:
        found = labels.swap.to(device)[found]
    places = places_in(scene.subject, voxels)
    codes, _ = layer.at(voxels)
    images = []
    for number, kind in enumerate(kinds):
        family = FAMILIES.get(kind, kind)
        appearance = draw_appearance(labels, kind, seed + kinds.index(family) if family in kinds else seed + number)
        chance = Chance.seeded(seed + number, device)
        signal, diffusion = fine_signal(found, appearance, chance)
        signal, diffusion = painted(signal, diffusion, layer, places, appearance, B_VALUE)
        seen = torch.ones_like(found, dtype=torch.bool)
        image = measured(signal, diffusion, seen, kind, B_VALUE, (1, 1, 1), (shape, world), CLEAN, chance)
        images.append(image[:, :, SLAB // 2].cpu().numpy())
    masks = {name: share[:, :, SLAB // 2].cpu().numpy() for name, share in shares(layer, lesion, codes).items()}
    return Row(title, tuple(images), masks)


def _slab(scene: Scene, layer: Layer, lesion: int) -> tuple[Shape, World]:
    """A few slices around that in which a lesion is largest, 1 mm, the whole head in-plane."""
    size = np.asarray(scene.subject.high) - np.asarray(scene.subject.low) + 36
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    w, h, d = (int(value) for value in size // 2)
    coarse[:3, 3] = -(np.asarray((w, h, d)) - 1.0)
    axes = grid_axes((w, h, d), coarse, (1, 1, 1), scene.subject.labels.device)
    share = next(iter(shares(layer, lesion, layer.at(scene.deformation.voxels(axes))[0]).values()))
    middle = float(coarse[2, 3]) + 2.0 * int(share.sum(dim=(0, 1)).argmax())
    world = np.eye(4)
    world[:3, 3] = -(size[0] - 1) / 2, -(size[1] - 1) / 2, middle - SLAB // 2
    return (int(size[0]), int(size[1]), SLAB), world


def contact_sheet(rows: Sequence[Row], kinds: Sequence[str], path: Path, dpi: int = 70) -> None:
    """Writes a PNG: the first column with outlines, then every sequence type; radiological convention."""
    columns = len(kinds) + 1
    figure = Figure(figsize=(1.35 * columns, 1.75 * len(rows) + 0.3), facecolor="black")
    canvas = FigureCanvasAgg(figure)
    for number, row in enumerate(rows):
        for column in range(columns):
            axes = figure.add_subplot(len(rows), columns, number * columns + column + 1)
            image = row.images[max(column - 1, 0)]
            axes.imshow(image[::-1].T, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            if column == 0:
                axes.set_title(row.title, color="white", fontsize=6, loc="left", pad=2)
                for index, mask in enumerate(row.masks.values()):
                    if mask.max() > 0.5:
                        axes.contour(mask[::-1].T, [0.5], colors=[COLOURS[index % len(COLOURS)]], linewidths=0.7)
            else:
                axes.set_title(kinds[column - 1], color="white", fontsize=6, pad=2)
    names = ["lesion", "its components, in order"]
    handles = [Line2D([], [], color=COLOURS[index], lw=1) for index in range(2)]
    figure.legend(handles, names, loc="lower center", ncol=2, fontsize=7, labelcolor="white", frameon=False)
    height = 1.75 * len(rows) + 0.3
    figure.subplots_adjust(left=0.003, right=0.997, bottom=0.3 / height, top=1 - 0.3 / height, wspace=0.02, hspace=0.12)
    figure.set_dpi(dpi)
    canvas.draw()
    sheet = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(palette=_palette(), dither=PIL.Image.Dither.NONE).save(path, optimize=True)


def _palette() -> PIL.Image.Image:
    """Greys and the outlines' colours: few, to keep the file small."""
    greys = [round(255 * step / (GREYS - 1)) for step in range(GREYS)]
    colours = [(int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)) for text in COLOURS]
    shades = [tuple(round(value * dim) for value in colour) for colour in colours for dim in (0.55, 1.0)]
    flat = [value for grey in greys for value in (grey, grey, grey)] + [value for shade in shades for value in shade]
    palette = PIL.Image.new("P", (1, 1))
    palette.putpalette(flat + [0] * (768 - len(flat)))
    return palette
