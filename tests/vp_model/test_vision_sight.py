"""What programs see of m beyond single regions: which of several landmarks fills each voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.vp_model.test_vision_refinement import REGIONS, tiny
from vp_model.vision.inference import FeatureCache
from vp_model.vision.sight import LANDMARK_FROM, Sight
from vp_model.volume import Volume

WORLD = np.array([[0.0, -3.0, 0.2, 40.0], [3.0, 0.0, 0.0, -50.0], [0.0, 0.3, 4.0, -30.0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("turn", [1, 2, 64])
def test_a_landmark_is_the_region_most_probable_at_a_voxel_if_any_is_probable(turn: int) -> None:
    network, conditions = tiny()
    image = Volume(torch.rand(1, 30, 26, 20, generator=torch.Generator().manual_seed(1)) * 500, WORLD, kind="T1")
    sight = Sight(network, {"v1": image}, {}, FeatureCache(), conditions=conditions)
    seen = sight.cache.look(network, [image])
    sight.cache._entries[next(iter(sight.cache._entries))] = type(seen)(seen.volumes, seen.prepared, seen.look, turn)
    wanted = ["brainstem", "left thalamus", "nowhere", "right thalamus"]
    found = sight.landmarks("v1", wanted)
    assert found.names == ("brainstem", "left thalamus", "right thalamus")
    assert np.array_equal(found.world, seen.prepared[0].image.world)
    phi = torch.stack([conditions[name] for name in found.names])[:, None]
    with torch.inference_mode():
        probabilities = torch.sigmoid(seen.look.logits(phi)[0])
    best, which = probabilities.max(dim=0)
    expected = torch.where(best > LANDMARK_FROM, which + 1, 0)
    assert np.array_equal(found.labels, expected.numpy())
    assert len(np.unique(found.labels)) > 1


def test_a_head_of_which_nothing_is_known_has_no_landmarks() -> None:
    network, _ = tiny()
    image = Volume(torch.rand(1, 12, 12, 12), np.eye(4), kind="T1")
    sight = Sight(network, {"v1": image}, {}, FeatureCache())
    found = sight.landmarks("v1", list(REGIONS))
    assert found.names == () and not found.labels.any()
    assert found.nearest(np.zeros((3, 3)), REGIONS) == []
