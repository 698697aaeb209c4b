"""The read-out that sees several levels of the decoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.vp_model.test_vision import ISOTROPIC, SMALL, THICK, conditions, network, volumes
from tests.vp_model.test_vision_streamed import trained
from vp_model.geometry import upsample_to
from vp_model.vision.network import VisionNetwork

SEEING = replace(
    SMALL, conditioning="readout", readout_hidden=6, readout_size=5, key_hidden=4, readout_levels=3, depth=2
)
GRIDS = (((17, 12, 14), ISOTROPIC), ((12, 13, 4), THICK))


def test_what_is_computed_slab_by_slab_is_what_has_a_gradient() -> None:
    built = trained(SEEING)
    given, phi = volumes(*GRIDS), conditions(3, 2)
    with torch.inference_mode():
        quiet = built(given, phi)
    learning = built(given, phi)
    for found, expected in zip(quiet, learning, strict=True):
        torch.testing.assert_close(found, expected.detach(), atol=2e-5, rtol=1e-4)
    sum(logits.sum() for logits in learning).backward()
    assert all(bool((layer.weight.grad != 0).any()) for layer in built.read_out.below if layer.weight.grad is not None)
    assert all(layer.weight.grad is not None for layer in built.read_out.below)


def test_voxels_apart_are_read_as_in_the_image() -> None:
    """Projecting a level and bringing it to the finest grid is the same in either order."""
    built = trained(SEEING)
    given, phi = volumes(GRIDS[0]), conditions(3, 1)
    with torch.inference_mode():
        (decoded,) = built.trunk(given)
        features = [decoded[0].features]
        for level in (1, 2):
            up = decoded[level]
            for above in decoded[level - 1 :: -1]:
                up = above.with_features(upsample_to(up, above.shape, above.world))
            features.append(up.features)
        voxels = torch.cat(features, dim=1)[0].flatten(1).T
        found = built.read_out.of_voxels(voxels, phi[:, 0])
        torch.testing.assert_close(found, built(given, phi)[0].flatten(1), atol=2e-5, rtol=1e-4)


def test_a_read_out_that_begins_to_see_more_levels_says_what_it_said() -> None:
    few = network(replace(SEEING, readout_levels=1))
    more = VisionNetwork(SEEING).eval()
    missing, unexpected = more.load_state_dict(few.state_dict(), strict=False)
    assert not unexpected
    assert missing and all(name.startswith("read_out.below.") for name in missing)
    given, phi = volumes(*GRIDS), conditions(2, 2)
    for found, expected in zip(more(given, phi), few(given, phi), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readout_levels": 0}, "1 to 3 levels"),
        ({"readout_levels": 3, "channels": (4, 8)}, "1 to 2 levels"),
        ({"readout_hidden": 0, "readout_size": 0, "key_hidden": 0}, "perceptron"),
        ({"conditioning": "all", "key_hidden": 0}, "perceptron"),
    ],
)
def test_levels_that_it_cannot_see_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SEEING, **changes)  # type: ignore[arg-type]
