"""Overlay pictures show tissue in grey levels, whatever share of the image is air, skin or skull."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as pictures
from numpy.typing import NDArray

from vp_model.rendering import render_overlay

SHAPE = (40, 44, 36)
WORLD = np.diag([4.0, 4.0, 4.0, 1.0])
GRAY, WHITE = 65.0, 103.0


def _ball(radius: float) -> NDArray[np.bool_]:
    indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return np.asarray(np.linalg.norm(indices - (np.asarray(SHAPE) - 1) / 2, axis=-1) < radius)


def _brain(skin: float) -> NDArray[np.float32]:
    """White matter within grey matter within CSF, in air, with a bright skin around where one is given."""
    voxels = np.zeros(SHAPE)
    for radius, value in ((16.3, skin), (15.5, 2.0), (15.0, 20.0), (14.0, GRAY), (11.0, WHITE)):
        if radius < 16 or skin:
            voxels[_ball(radius)] = value
    return voxels.astype(np.float32)


def _axial(voxels: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """The grey levels of the axial picture that are no air."""
    render_overlay(voxels, WORLD, [], path)
    picture = np.asarray(pictures.imread(path), dtype=np.float32)[..., :3].mean(axis=-1)
    axial = picture[60:-90, : picture.shape[1] // 3]
    found: NDArray[np.float32] = axial[axial > 0.1]
    return found


@pytest.mark.parametrize("skin", [0.0, 250.0], ids=["skull-stripped", "with a bright skin"])
def test_white_matter_is_neither_white_nor_dark(skin: float, tmp_path: Path) -> None:
    levels, counts = np.unique(np.round(_axial(_brain(skin), tmp_path / "a.png"), 2), return_counts=True)
    gray, white = np.sort(levels[np.argsort(counts)[::-1][:2]])
    assert 0.4 < white < 0.85
    assert white - gray > 0.1
    assert gray / white == pytest.approx(GRAY / WHITE, abs=0.03)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_an_image_of_one_value_is_drawn(value: float, tmp_path: Path) -> None:
    render_overlay(np.full(SHAPE, value, np.float32), WORLD, [], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
