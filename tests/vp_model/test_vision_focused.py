"""Small structures decoded in a box are found as in a full pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vp_model.test_vision import ISOTROPIC, SMALL, THICK, conditions, volumes
from tests.vp_model.test_vision_streamed import AMPLE, trained
from vp_model.geometry import Placed
from vp_model.vision.focused import Focus, decoded_in, look_coarsely, segment_focused
from vp_model.vision.prepare import Prepared
from vp_model.vision.streamed import Memory

BOXES = [((3, 2, 4), (9, 8, 11)), ((1, 5, 0), (7, 9, 3))]


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_a_box_with_the_statistics_of_the_whole_holds_what_a_full_pass_gives(conditioning: str, levels: int) -> None:
    built = trained(replace(SMALL, conditioning=conditioning, depth=2))  # type: ignore[arg-type]
    images, phi = volumes(((17, 12, 14), ISOTROPIC), ((12, 13, 4), THICK)), conditions(1, 2)
    with torch.inference_mode():
        dense = built(images, phi)
        found = decoded_in(built, images, phi, Focus(levels=levels, every=1), Memory(AMPLE), BOXES)
    for logits, whole, (low, high) in zip(found, dense, BOXES, strict=True):
        torch.testing.assert_close(logits, whole[(slice(None), *map(slice, low, high))], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_box_holds_what_a_full_pass_gives_where_the_read_out_sees_several_levels(levels: int) -> None:
    config = replace(SMALL, conditioning="readout", depth=2, readout_hidden=6, readout_size=5, readout_levels=3)
    built = trained(config)
    images, phi = volumes(((17, 12, 14), ISOTROPIC), ((12, 13, 4), THICK)), conditions(1, 2)
    with torch.inference_mode():
        dense = built(images, phi)
        found = decoded_in(built, images, phi, Focus(levels=levels, every=1), Memory(AMPLE), BOXES)
    for logits, whole, (low, high) in zip(found, dense, BOXES, strict=True):
        torch.testing.assert_close(logits, whole[(slice(None), *map(slice, low, high))], atol=2e-5, rtol=1e-4)


def test_estimated_statistics_change_little() -> None:
    built = trained(SMALL)
    images, phi = volumes(((48, 16, 16), ISOTROPIC)), conditions(1, 1)
    box = ((10, 4, 4), (20, 12, 12))
    with torch.inference_mode():
        dense = built(images, phi)[0][:, 10:20, 4:12, 4:12]
        (found,) = decoded_in(built, images, phi, Focus(every=3), Memory(AMPLE), [box])
    assert 0 < (found - dense).abs().max() < 0.2 * dense.std()


def test_the_box_holds_what_the_coarse_look_doubts_with_its_margin() -> None:
    built = trained(SMALL)
    images, phi = volumes(((16, 14, 12), ISOTROPIC)), conditions(1, 1)
    with torch.inference_mode():
        (everything,) = look_coarsely(built, images, phi, Focus(doubt=0.0))
        (nothing,) = look_coarsely(built, images, phi, Focus(doubt=1.0))
        (wide,) = look_coarsely(built, images, phi, Focus(doubt=0.6, margin_mm=8.0))
        (narrow,) = look_coarsely(built, images, phi, Focus(doubt=0.6, margin_mm=0.0))
    assert everything == nothing == ((0, 0, 0), (16, 14, 12))  # where nothing is found, nothing is ruled out
    assert all(a <= b for a, b in zip(wide[0], narrow[0], strict=True))
    assert all(a >= b for a, b in zip(wide[1], narrow[1], strict=True))


def test_outside_its_box_a_structure_is_nowhere() -> None:
    built = trained(SMALL)
    (image,) = volumes(((16, 14, 12), ISOTROPIC))
    prepared = Prepared(Placed(image.features, image.world), image.shape, np.asarray(image.world))
    box = ((2, 3, 4), (8, 9, 10))
    (found,) = segment_focused(built, [prepared], conditions(1, 1), Focus(), Memory(AMPLE), [box])
    inside = torch.zeros(image.shape, dtype=torch.bool)
    inside[2:8, 3:9, 4:10] = True
    assert (found[inside] > 0).all()
    assert (found[~inside] == 0).all()
