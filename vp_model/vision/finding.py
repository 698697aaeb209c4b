"""Lesions in one patient's volumes: m's anatomy, what it does not explain, and the network that learned from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from vp_model.geometry import Placed, field_of_view, moved_world, resample
from vp_model.vision.config import Refining
from vp_model.vision.departure import around_brain, departures
from vp_model.vision.inference import FeatureCache
from vp_model.vision.lesions import LesionNetwork, lesions_in
from vp_model.vision.network import VisionNetwork
from vp_model.vision.prepare import Prepared, restore
from vp_model.volume import Volume

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


def together(own: Placed, images: Sequence[Placed]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a session on the grid of one of them: (n, c, w, h, d), and (n, w, h, d) bool where each reaches."""
    shape, world = own.shape, own.world
    reached = [field_of_view(image.shape, image.world, shape, world) for image in images]
    return torch.cat([resample(image, shape, world) for image in images]), torch.stack(reached)


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
        for index in shown or range(len(volumes)):
            volume = volumes[index]
            beside = [other for other in volumes if other is not volume and self._beside(volume, other)]
            prepared = self._look(volume)[1]
            found[index] = restore(prepared, self._find_in(volume, beside, phi[:, index]))[0].clamp(0.0, 1.0)
            if volume.kind.upper() == "CT":
                found[index][volume.features[0] > DENSEST_HU] = 0.0
        return found

    def _beside(self, volume: Volume, other: Volume) -> bool:
        """Whether another volume is looked at with this one: of its session, and of a sequence type that is known."""
        return other.session == volume.session and other.kind.upper() in self.network.config.kinds

    @torch.inference_mode()
    def _find_in(self, volume: Volume, beside: Sequence[Volume], phi: torch.Tensor) -> torch.Tensor:
        """Probabilities (1, w, h, d) in an image, on the grid on which m reads it.

        Args:
            beside: images of its session that are looked at with it.
            phi: (1, d).
        """
        _, prepared, departed = self._look(volume)
        whole = torch.zeros(1, *prepared.image.shape)
        place = None if departed is None else around_brain(departed)
        if departed is None or place is None:
            return whole
        heads = [(other.kind, self._brain(other)) for other in (volume, *beside)]
        known = [(self.network.config.kind_of(kind), head) for kind, head in heads if head is not None]
        departures_there, reached = together(known[0][1], [head for _, head in known])
        kinds = torch.cat([kind for kind, _ in known])
        whole[:, *place] = lesions_in(departures_there, kinds, phi.cpu(), self.network, reached)
        return whole

    def _brain(self, volume: Volume) -> Placed | None:
        """(1, CHANNELS, w, h, d) departures around the brain; None where there is none."""
        _, prepared, departed = self._look(volume)
        place = None if departed is None else around_brain(departed)
        if departed is None or place is None:
            return None
        return Placed(departed[:, *place][None], moved_world(prepared.image.world, place))

    @torch.inference_mode()
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
