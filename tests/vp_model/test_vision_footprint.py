"""How much memory m will take is known before it looks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.vp_model.test_vision import conditions, network
from vp_model.geometry import Placed
from vp_model.vision.config import Reference, VisionConfig
from vp_model.vision.footprint import dense_bytes
from vp_model.vision.inference import DenseLook

MIB = 1 << 20
CONFIG = VisionConfig(channels=(16, 48, 48), interaction_size=16, condition_size=6, encoding_size=5)
Grids = Sequence[tuple[tuple[int, int, int], tuple[float, float, float]]]
ALONE: Grids = (((44, 48, 40), (1.0, 1.0, 1.0)),)
THICK: Grids = (((64, 72, 14), (0.8, 0.8, 4.0)),)
ALIKE: Grids = ALONE * 3
TWO: Grids = (*ALONE, ((52, 60, 12), (0.9, 0.9, 4.0)))


@dataclass(eq=False)
class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most there were; those of `given` are not counted."""

    given: Sequence[torch.Tensor]
    peak: int = 0
    _alive: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._given = {tensor.untyped_storage()._cdata for tensor in self.given}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._alive and key not in self._given:
                    self._alive[key] = storage.nbytes()
                    weakref.finalize(storage, self._alive.pop, key)
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def placed(grids: Grids) -> list[Placed]:
    found = []
    for shape, spacing in grids:
        world = np.diag([*spacing, 1.0])
        world[:3, 3] = [-(size - 1) * step / 2 for size, step in zip(shape, spacing, strict=True)]
        found.append(Placed(torch.rand(1, 1, *shape), world))
    return found


def peak_of(config: VisionConfig, volumes: Sequence[Placed]) -> int:
    built = network(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    phi = conditions(1, len(volumes))
    held = Held([*built.parameters(), phi, *(volume.features for volume in volumes)])
    with torch.inference_mode(), held:
        DenseLook(built, built.shared(volumes)).logits(phi)
    return held.peak


@pytest.mark.requirement("the memory that a pass of the vision network takes is estimated to a fifth before it is made")
@pytest.mark.parametrize(
    ("grids", "reference"),
    [(ALONE, "isotropic"), (THICK, "isotropic"), (ALIKE, "isotropic"), *((TWO, kind) for kind in get_args(Reference))],
    ids=["alone", "thick", "alike", *(f"two, {kind}" for kind in get_args(Reference))],
)
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, conditioning="decoder", interaction="mean"),
        replace(CONFIG, conditioning="readout", depth=2, interaction_from=2, readout_hidden=48, readout_size=40),
        replace(CONFIG, conditioning="readout"),
        replace(CONFIG, conditioning="readout", depth=2, readout_hidden=32),
        replace(CONFIG, conditioning="readout", depth=2, readout_hidden=48, readout_size=40, readout_levels=2),
        replace(CONFIG, conditioning="readout", depth=2, readout_hidden=48, readout_size=32, readout_levels=3),
    ],
    ids=[
        "all",
        "decoder",
        "readout",
        "plain readout",
        "residual readout",
        "readout of two levels",
        "readout of three levels",
    ],
)
def test_the_estimate_is_what_a_pass_takes(config: VisionConfig, grids: Grids, reference: Reference) -> None:
    config = replace(config, reference=reference)
    volumes = placed(grids)
    estimate, peak = dense_bytes(config, volumes), peak_of(config, volumes)
    assert peak / 1.05 < estimate < peak * 1.2, (estimate / MIB, peak / MIB)


def test_the_estimate_grows_with_the_volumes() -> None:
    assert 0 < dense_bytes(CONFIG, placed(ALONE)) < dense_bytes(CONFIG, placed(TWO))
