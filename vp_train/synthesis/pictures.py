"""A contact sheet of a synthetic study: every image in three planes of the patient, outlines of targets over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.geometry import World, spacing
from vp_train.synthesis.study import SyntheticStudy

PLANES = (("axial", (0, -1), (1, 1)), ("coronal", (0, -1), (2, 1)), ("sagittal", (1, -1), (2, 1)))
"""Name, axis of RAS and sign to the right of the picture and to its top: radiological convention."""
HALF_MM = (105.0, 120.0, 110.0)
"""What is shown about the focus along each axis of RAS."""
PIXEL_MM = 1.0
COLOURS = ("#ff5252", "#40c4ff", "#ffd740", "#69f0ae", "#e040fb", "#ffab40")


def contact_sheet(study: SyntheticStudy, regions: Sequence[str], path: Path, focus: str = "") -> None:
    """Writes a PNG: two volumes a row, each cut in the axial, coronal and sagittal plane through the middle of `focus`,
    or of the largest lesion where none is given; the middle of the brain is in the middle of each picture.

    Planes are those of the study's world, so that tilted images stand upright; each pixel shows the voxel it lies in.

    Args:
        regions: outlined where they fill half a voxel, as lesions are.

    Raises:
        ValueError: a region is none of the label maps.
    """
    count = len(study.images)
    across = 2 if count > 2 else 1
    rows = -(-count // across)
    height = 2.55 * rows + 0.6
    figure = Figure(figsize=(2.3 * 3 * across, height), facecolor="black")
    FigureCanvasAgg(figure)
    lesions = sorted(study.scene.lesions, key=lambda lesion: -lesion.volume_mm3)
    focus = focus or (lesions[0].structure if lesions else "left hippocampus")
    places = [
        (study.middle(number, focus), study.middle(number, "brain")) for number in range(len(study.plan.sessions))
    ]
    names = [*regions, *dict.fromkeys(lesion.structure for lesion in lesions)]
    for volume in range(count):
        voxels = study.images[volume].placed.features[0, 0].cpu().numpy()
        world = study.images[volume].placed.world
        outlines = [study.target(volume, region).cpu().numpy() for region in names]
        place, middle = places[study.plan.scans[volume].session]
        for column, (name, right, up) in enumerate(PLANES):
            number = (volume // across) * 3 * across + (volume % across) * 3 + column + 1
            axes = figure.add_subplot(rows, 3 * across, number)
            cut = 3 - right[0] - up[0]
            through = np.where(np.arange(3) == cut, place, middle)
            _draw_plane(axes, voxels, world, outlines, through, right, up)
            axes.set_title(_title(study, volume) if column == 0 else name, color="white", fontsize=6.5, loc="left")
    handles = [Line2D([], [], color=COLOURS[index % len(COLOURS)], lw=1) for index in range(len(names))]
    if handles:
        figure.legend(handles, names, loc="lower center", ncol=6, fontsize=7, labelcolor="white", frameon=False)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.3 / height, top=1 - 0.3 / height, wspace=0.02, hspace=0.12)
    figure.savefig(path, dpi=80, facecolor="black", pil_kwargs={"optimize": True})


def _title(study: SyntheticStudy, volume: int) -> str:
    told, placed = study.scene.volumes[volume], study.images[volume].placed
    steps = " × ".join(f"{step:.1f}" for step in spacing(placed.world))
    return f"{told.name}  {told.kind}  {told.visit}\n{steps} mm"


def _draw_plane(
    axes: Axes,
    voxels: NDArray[np.float32],
    world: World,
    outlines: Sequence[NDArray[np.float32]],
    through: NDArray[np.float64],
    right: tuple[int, int],
    up: tuple[int, int],
) -> None:
    across = np.arange(-HALF_MM[right[0]], HALF_MM[right[0]] + 1, PIXEL_MM)
    upwards = np.arange(-HALF_MM[up[0]], HALF_MM[up[0]] + 1, PIXEL_MM)
    points = np.broadcast_to(through, (len(upwards), len(across), 3)).copy()
    points[..., right[0]] += right[1] * across[None]
    points[..., up[0]] += up[1] * upwards[:, None]
    index = np.moveaxis((points - world[:3, 3]) @ np.linalg.inv(world[:3, :3]).T, -1, 0)
    axes.imshow(ndimage.map_coordinates(voxels, index, order=0), origin="lower", cmap="gray", vmin=0, vmax=1)
    for number, share in enumerate(outlines):
        cut = ndimage.map_coordinates(share, index, order=1)
        if cut.max() > 0.5:
            axes.contour(cut, levels=[0.5], colors=COLOURS[number % len(COLOURS)], linewidths=0.7)
    axes.set_axis_off()
