"""What the rest of the system asks of m: probabilities and encodings of volumes, with φ-independent work done once.

Sets of volumes whose features fit into the memory go through m as they are; larger ones slab by slab (`streamed.py`),
with the same result.
"""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from vp_model.geometry import Placed
from vp_model.vision.footprint import dense_bytes
from vp_model.vision.network import Shared, VisionNetwork
from vp_model.vision.prepare import Prepared, prepare, restore
from vp_model.vision.streamed import Memory, StreamedLook, look_streamed
from vp_model.volume import Volume

MAXIMUM_LOGITS = 64_000_000
"""Logits computed at once (256 MB); more conditions go through in turns."""
DEFAULT_MEMORY_BYTES = 6_000_000_000
"""For features of m, on a CPU; images, masks and the program come on top."""
LIMITED_SHARE = 0.5
"""Of the memory that the process may have at all, where it is limited (RLIMIT_DATA)."""
CUDA_SHARE = 0.7
"""Of a GPU's free memory, that features may take."""


Precision = Literal["float32", "bfloat16"]
"""Of the multiplications in m. `bfloat16` halves their time where the processor has it; masks then differ in a few
voxels of their border, and from one kind of processor to another.
"""


@dataclass(frozen=True, eq=False)
class DenseLook:
    """What m knows of a set of volumes before φ, all levels in memory."""

    network: VisionNetwork
    shared: Shared

    def logits(self, phi: torch.Tensor) -> list[torch.Tensor]:
        return self.network.finish(self.shared, phi)

    def encodings(self, phi: torch.Tensor) -> torch.Tensor:
        return self.network.encodings(self.shared, phi)


@dataclass(frozen=True, eq=False)
class Seen:
    """A set of volumes that m has looked at: the volumes, as prepared, and what it knows of them before φ.

    Attributes:
        turn: conditions that may go through together.
    """

    volumes: tuple[Volume, ...]
    prepared: tuple[Prepared, ...]
    look: DenseLook | StreamedLook
    turn: int

    @property
    def size(self) -> int:
        """Bytes of the features that it holds."""
        if isinstance(self.look, StreamedLook):
            return self.look.memory.limit - self.look.memory.free
        shared = self.look.shared
        held = [placed for level in shared.levels for placed in level] + (shared.decoded or [])
        return sum(placed.features.nbytes for placed in held)


@dataclass(eq=False)
class FeatureCache:
    """The sets of volumes last seen: at most `capacity`, in at most `memory_bytes`; one cache belongs to one network.

    Attributes:
        memory_bytes: for features, those being computed included; None: what `default_memory` gives.
        precision: with which features are computed.
    """

    capacity: int = 4
    memory_bytes: int | None = None
    precision: Precision = "float32"
    _entries: OrderedDict[tuple[int, ...], Seen] = field(default_factory=OrderedDict)

    def look(self, network: VisionNetwork, volumes: Sequence[Volume]) -> Seen:
        """What m knows of the set, from the cache or computed now."""
        key = tuple(id(volume) for volume in volumes)  # entries hold their volumes, so an id cannot be used again
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        limit = default_memory(network) if self.memory_bytes is None else self.memory_bytes
        prepared = _prepared(network, volumes)
        needed = dense_bytes(network.config, [item.image for item in prepared])
        while self._entries and (len(self._entries) >= self.capacity or self._held() + needed > limit):
            self._entries.popitem(last=False)
        with computing(network, self.precision):
            self._entries[key] = _looked(network, volumes, prepared, needed, limit)
        return self._entries[key]

    def _held(self) -> int:
        return sum(seen.size for seen in self._entries.values())


def computing(network: VisionNetwork, precision: Precision) -> AbstractContextManager[Any]:
    """The context in which m computes with a precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(next(network.parameters()).device.type, torch.bfloat16)


def default_memory(network: VisionNetwork) -> int:
    """Bytes for features on the device where the network is."""
    device = next(network.parameters()).device
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch keeps what it had
        return int(CUDA_SHARE * (torch.cuda.mem_get_info(device)[0] + unused))
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return DEFAULT_MEMORY_BYTES if limit < 0 else min(DEFAULT_MEMORY_BYTES, int(LIMITED_SHARE * limit))


def _voxels(placed: Placed) -> int:
    return placed.features[0, 0].numel()


def _prepared(network: VisionNetwork, volumes: Sequence[Volume]) -> tuple[Prepared, ...]:
    device = next(network.parameters()).device
    found = [prepare(volume, network.config.working_spacing_mm) for volume in volumes]
    return tuple(Prepared(item.image.to(device), item.shape, item.world) for item in found)


@torch.inference_mode()
def _looked(
    network: VisionNetwork, volumes: Sequence[Volume], prepared: tuple[Prepared, ...], needed: int, limit: int
) -> Seen:
    images = [item.image for item in prepared]
    turn = max(1, MAXIMUM_LOGITS // max(_voxels(image) for image in images))
    if needed > limit:
        return Seen(tuple(volumes), prepared, look_streamed(network, images, Memory(limit)), 1)
    if network.config.conditioning != "readout":
        turn = min(turn, max(1, limit // needed))
    return Seen(tuple(volumes), prepared, DenseLook(network, network.shared(images)), turn)


def look(network: VisionNetwork, volumes: Sequence[Volume], memory_bytes: int | None = None) -> Seen:
    """Prepare the volumes and compute all that does not depend on φ."""
    return FeatureCache(1, memory_bytes).look(network, volumes)


@torch.inference_mode()
def each_condition(
    network: VisionNetwork, volumes: Sequence[Volume], phi: torch.Tensor, cache: FeatureCache | None = None
) -> Iterator[list[torch.Tensor]]:
    """Probabilities of one condition after the other, in n volumes: what is asked for many structures of large volumes
    holds no more than one of them at a time.

    Args:
        network: m, in evaluation mode.
        volumes: n volumes of one patient, in one frame of reference, any geometry.
        phi: (k, n, d), after SiLU.
        cache: where φ-independent features of the same set are kept between calls.

    Yields:
        k times, for each volume float32 (w, h, d) in [0, 1] on its own grid, on the CPU.
    """
    cache = cache or FeatureCache()
    seen = cache.look(network, volumes)
    phi = phi.to(seen.prepared[0].image.features.device)
    for start in range(0, phi.shape[0], seen.turn):
        with computing(network, cache.precision):
            found = [logits.float() for logits in seen.look.logits(phi[start : start + seen.turn])]
        for number in range(found[0].shape[0]):
            yield [
                restore(prepared, torch.sigmoid(logits[number : number + 1])).clamp_(0.0, 1.0)[0].cpu()
                for prepared, logits in zip(seen.prepared, found, strict=True)
            ]


def segment_volumes(
    network: VisionNetwork, volumes: Sequence[Volume], phi: torch.Tensor, cache: FeatureCache | None = None
) -> list[torch.Tensor]:
    """Probabilities of k conditions in n volumes, as `each_condition` gives them: for each volume (k, w, h, d)."""
    found = [torch.empty((phi.shape[0], *volume.shape)) for volume in volumes]
    for number, probabilities in enumerate(each_condition(network, volumes, phi, cache)):
        for index, probability in enumerate(probabilities):
            found[index][number] = probability
    return found


def recalibrated(probability: torch.Tensor, threshold: float) -> torch.Tensor:
    """Probabilities whose odds are scaled so that `threshold` becomes one half."""
    if threshold == 0.5:
        return probability
    inside, outside = probability * (1 - threshold), (1 - probability) * threshold
    return inside / (inside + outside)


@torch.inference_mode()
def encode_volumes(
    network: VisionNetwork, volumes: Sequence[Volume], phi: torch.Tensor, cache: FeatureCache | None = None
) -> torch.Tensor:
    """Encodings ε (n, b) of n volumes for φ (n, d) (paper A.3)."""
    cache = cache or FeatureCache()
    seen = cache.look(network, volumes)
    with computing(network, cache.precision):
        return seen.look.encodings(phi[None].to(seen.prepared[0].image.features.device))[0].float().cpu()
