"""m on a GPU finds what it finds on a CPU, and leaves nothing behind on another device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests.vp_model.test_vision import ISOTROPIC, SMALL, THICK, conditions, network, volumes
from vp_model.geometry import Placed
from vp_model.interpolation import interpolated
from vp_model.vision.config import VisionConfig
from vp_model.vision.inference import FeatureCache, encode_volumes, segment_volumes
from vp_model.vision.network import VisionNetwork
from vp_model.vision.streamed import Memory, look_streamed
from vp_model.volume import Volume

NATIVE = replace(SMALL, working_spacing_mm=None, depth=2)
PLACES = (((12, 11, 10), ISOTROPIC), ((13, 12, 4), THICK))
TIGHT = 20_000
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.fixture
def exact() -> Iterator[None]:
    """Single precision on the GPU, which otherwise convolves with the ten bits of TF32."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def pair() -> list[Volume]:
    return [Volume(placed.features[0], placed.world) for placed in volumes(*PLACES)]


@pytest.mark.requirement("the vision network computes all it makes on the device of its volumes")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("reference", ["isotropic", "axis", "own"])
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_nothing_is_made_on_another_device_than_that_of_the_volumes(
    conditioning: str, reference: str, training: bool
) -> None:
    config = replace(NATIVE, conditioning=conditioning, reference=reference)  # type: ignore[arg-type]
    with torch.device("meta"):  # holds no numbers, and refuses to meet tensors that lie elsewhere
        built = VisionNetwork(config)
    given = [Placed(placed.features.to("meta"), placed.world) for placed in volumes(*PLACES)]
    phi = conditions(2, 2).to("meta")
    with torch.set_grad_enabled(training):
        found = [*built(given, phi), built.encodings(built.shared(given), phi)]
    assert {tensor.device.type for tensor in found} == {"meta"}
    if training:
        torch.stack([tensor.mean() for tensor in found]).sum().backward()  # type: ignore[no-untyped-call]
        assert {parameter.device.type for parameter in built.parameters() if parameter.grad is not None} == {"meta"}


@pytest.mark.parametrize("conditioning", ["all", "readout"])
@pytest.mark.parametrize("reference", ["isotropic", "own"])
def test_slabs_are_made_on_the_device_of_the_volumes(conditioning: str, reference: str) -> None:
    config = replace(NATIVE, conditioning=conditioning, reference=reference)  # type: ignore[arg-type]
    with torch.device("meta"):
        built = VisionNetwork(config)
    given = [Placed(placed.features.to("meta"), placed.world) for placed in volumes(*PLACES)]
    phi = conditions(2, 2).to("meta")
    with torch.inference_mode():
        look = look_streamed(built, given, Memory(TIGHT))
        found = [*look.logits(phi), look.encodings(phi)]
    assert {tensor.device.type for tensor in found} == {"meta"}


@gpu
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("memory_bytes", [None, TIGHT])
@pytest.mark.parametrize("reference", ["isotropic", "own"])
@pytest.mark.parametrize("conditioning", ["all", "readout"])
def test_a_gpu_finds_what_the_cpu_finds(conditioning: str, reference: str, memory_bytes: int | None) -> None:
    built = network(replace(NATIVE, conditioning=conditioning, reference=reference))  # type: ignore[arg-type]
    phi = conditions(2, 2)
    expected = segment_volumes(built, pair(), phi)
    encoded = encode_volumes(built, pair(), phi[0])
    built.to("cuda")
    cache = FeatureCache(memory_bytes=memory_bytes)
    found = segment_volumes(built, pair(), phi, cache)
    for there, here in zip(found, expected, strict=True):
        assert there.device.type == "cpu"
        torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(encode_volumes(built, pair(), phi[0], cache), encoded, atol=1e-3, rtol=1e-3)


@gpu
@pytest.mark.parametrize("memory_bytes", [None, TIGHT])
@pytest.mark.parametrize("conditioning", ["all", "readout"])
def test_half_precision_finds_nearly_the_same_on_a_gpu(conditioning: str, memory_bytes: int | None) -> None:
    built = network(replace(NATIVE, conditioning=conditioning))  # type: ignore[arg-type]
    expected = segment_volumes(built, pair(), conditions(2, 2))
    cache = FeatureCache(memory_bytes=memory_bytes, precision="bfloat16")
    found = segment_volumes(built.to("cuda"), pair(), conditions(2, 2), cache)
    for there, here in zip(found, expected, strict=True):
        assert there.dtype == torch.float32
        assert float((there - here).abs().mean()) < 0.02


@gpu
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("recomputed", [0, 1])
@pytest.mark.parametrize("config", [NATIVE, replace(NATIVE, conditioning="readout", reference="own")])
def test_a_gpu_learns_what_the_cpu_learns(config: VisionConfig, recomputed: int) -> None:
    gradients = []
    for device in ("cpu", "cuda"):
        built = network(config).to(device).train()
        built.recomputed_levels = recomputed
        given = [placed.to(torch.device(device)) for placed in volumes(*PLACES)]
        logits = built(given, conditions(2, 2).to(device))
        torch.stack([torch.sigmoid(found).mean() for found in logits]).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad.cpu() for name, p in built.named_parameters() if p.grad is not None})
    here, there = gradients
    assert here.keys() == there.keys()
    scale = max(float(gradient.abs().max()) for gradient in here.values())
    for name, gradient in here.items():
        torch.testing.assert_close(there[name], gradient, atol=1e-3 * scale, rtol=1e-2)


@gpu
def test_places_keep_their_precision_on_a_gpu_whatever_that_of_the_features() -> None:
    across = torch.arange(200, dtype=torch.float32) - 185
    features = across.view(1, 1, 200, 1, 1).expand(-1, -1, -1, 2, 2).to("cuda", torch.bfloat16).contiguous()
    index = torch.linspace(180.0, 190.0, 41)  # near the border, where bfloat16 would hold every 0.4th voxel
    places = torch.zeros(1, 41, 1, 1, 3)
    places[0, :, 0, 0, 2] = (2 * index + 1) / 200 - 1
    found = interpolated(features, places.to("cuda"))[0, 0, :, 0, 0].float().cpu()
    torch.testing.assert_close(found, index - 185, atol=0.02, rtol=0.0)
