"""Lesions in one patient's volumes: m's anatomy, what it does not explain, and the network that learned from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from vp_model.geometry import Placed, field_of_view, resample
from vp_model.vision.config import Refining
from vp_model.vision.departure import around_brain, departures
from vp_model.vision.inference import FeatureCache
from vp_model.vision.lesions import LesionNetwork, lesions_in
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import Prepared, restore
from vp_model.volume import Volume

OWN = 0.3
"""Weight of an image itself beside the mean over all images of its session. On single lesions in studies of several
images the mean finds more than the FLAIR alone (Dice .53 against .42).
"""
DENSEST_HU = 100.0
"""What is denser on CT is bone, calcium, metal or contrast agent: clotted blood stays below."""
Departed = tuple[Volume, Prepared, torch.Tensor | None]
"""A volume, which is held so that its id stays its own, as m reads it, and what the tissues do not explain in it."""


def shown_in(kinds: Sequence[str], images: Sequence[tuple[int, str]]) -> tuple[int, ...]:
    """Which images a lesion is looked for in, by their index: of each session those of one sequence type, the same in
    all sessions where there is one. None where a session has no image that shows it.

    Args:
        kinds: sequence types that show it, best first.
        images: session and sequence type of each.
    """
    given = [(session, kind.upper()) for session, kind in images]
    sessions = {session for session, _ in given}
    shared = [kind for kind in kinds if all((session, kind) in given for session in sessions)]
    chosen: dict[int, str] = {}
    for session in sessions:
        own = shared or [kind for kind in kinds if (session, kind) in given]
        if not own:
            return ()
        chosen[session] = own[0]
    return tuple(index for index, (session, kind) in enumerate(given) if kind == chosen[session])


def combined(own: Placed, images: Sequence[Placed]) -> torch.Tensor:
    """(1, w, h, d) on the grid of an image: its own probabilities with the mean over all images of its session, itself
    among them, that reach as far.
    """
    shape, world = own.shape, own.world
    total, count = torch.zeros_like(own.features), torch.zeros(shape)
    for image in images:
        total += resample(image, shape, world)
        count += field_of_view(image.shape, image.world, shape, world)
    return (OWN * own.features + (1 - OWN) * total / count.clamp(min=1))[0]


@dataclass(eq=False)
class LesionFinder:
    """Finds lesions of the names in `shows`.

    Attributes:
        network: that learned lesions; `vision`: m, whose anatomy it looks at.
        shows: name → sequence types that show it, best first.
        tissues: region → tissue; `conditions`: region → φ (d,) as m was trained with it.
        cache: of m's features, shared with whoever else asks m.
    """

    network: LesionNetwork
    vision: VisionNetwork
    shows: Mapping[str, Sequence[str]]
    tissues: Mapping[str, str]
    conditions: Mapping[str, torch.Tensor]
    refining: Refining
    cache: FeatureCache
    _departed: dict[int, Departed] = field(default_factory=dict)

    def find(self, name: str, volumes: Sequence[Volume], phi: torch.Tensor) -> list[torch.Tensor]:
        """Probabilities (w, h, d) in each volume: of the images that show the lesion best, 0 in the others; of all of
        them where a session has none that shows it. All images of a session are looked at, of the sequence types that
        the network knows: what one hides another may show. On CT nothing is found where it is denser than blood.

        Args:
            phi: (1, n, d).
        """
        shown = shown_in(self.shows[name], [(volume.session, volume.kind) for volume in volumes])
        found = [torch.zeros(volume.shape) for volume in volumes]
        seen: dict[int, Placed] = {}
        for index in shown or range(len(volumes)):
            beside = [number for number, other in enumerate(volumes) if self._beside(volumes[index], other)]
            together = sorted({index, *beside})
            for number in together:
                if number not in seen:
                    seen[number] = self._find_in(volumes[number], phi[:, number])
            all_of_them = combined(seen[index], [seen[number] for number in together])
            found[index] = restore(self._look(volumes[index])[1], all_of_them)[0].clamp_(0.0, 1.0)
            if volumes[index].kind.upper() == "CT":
                found[index][volumes[index].features[0] > DENSEST_HU] = 0.0
        return found

    def _beside(self, volume: Volume, other: Volume) -> bool:
        """Whether another volume is looked at with this one: of its session, and of a sequence type that is known."""
        return other.session == volume.session and other.kind.upper() in self.network.config.kinds

    @torch.inference_mode()
    def _find_in(self, volume: Volume, phi: torch.Tensor) -> Placed:
        """Probabilities (1, 1, w, h, d) in one image alone, on the grid on which m reads it."""
        _, prepared, departed = self._look(volume)
        whole = torch.zeros(1, *prepared.image.shape)
        place = None if departed is None else around_brain(departed)
        if departed is not None and place is not None:
            box = (slice(None), *place)
            kind = self.network.config.kind_of(volume.kind)
            whole[box] = lesions_in(departed[box], kind, phi.cpu(), self.network)
        return Placed(whole[None], prepared.image.world)

    def _look(self, volume: Volume) -> Departed:
        if id(volume) not in self._departed:
            seen = self.cache.look(self.vision, [volume])
            (prepared,) = seen.prepared
            device = prepared.image.features.device
            regions = [region for region in self.tissues if region in self.conditions]
            phi = torch.stack([self.conditions[region] for region in regions])[:, None].to(device)
            turns = [seen.look.logits(part)[0].float() for part in phi.split(seen.turn)]
            priors = torch.sigmoid(torch.cat(turns)).cpu()
            departed = departures(priors, regions, prepared.image, volume.kind, self.tissues, self.refining)
            self._departed[id(volume)] = (volume, prepared, departed)
        return self._departed[id(volume)]
