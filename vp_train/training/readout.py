"""Learning the read-out of m alone, on features of voxels that its trunk made once.

Where each voxel's features are kept, a step costs a thousandth of what it costs with the trunk, so that a CPU can teach
the read-out many regions in minutes. What the trunk does not tell apart stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from vp_model.geometry import Placed, upsample_to
from vp_model.vision.network import VisionNetwork
from vp_train.datasets.maps import Subject
from vp_train.datasets.parcels import load_parcels
from vp_train.synthesis.chance import Chance
from vp_train.training.condition import ConditionTable
from vp_train.training.examples import SEED_STRIDE, LesionSource, draw_example
from vp_train.training.recipe import Recipe

ANYWHERE = 0.25
"""Share of the kept voxels that lie anywhere in the image; the others lie in some target."""


@dataclass(frozen=True)
class ReadoutRecipe:
    """How the read-out learns.

    Attributes:
        images: whose voxels are kept; `voxels`: of each.
        steps: each on `at_once` voxels of one image; rate: highest, falling to nothing along a cosine.
        voxelwise: weight of the cross-entropy beside Dice, as in `loss.whole_map_loss`.
        decay: of the moving average of the weights.
    """

    images: int = 160
    voxels: int = 60_000
    at_once: int = 12_000
    steps: int = 4_000
    rate: float = 2e-3
    voxelwise: float = 0.5
    decay: float = 0.995
    seed: int = 7


@dataclass(frozen=True, eq=False)
class KeptVoxels:
    """Of one image: features (v, c) of the levels that the read-out sees, finest first, shares (t, v) of the targets,
    and how many voxels of the image each stands for (v,).
    """

    features: torch.Tensor
    shares: torch.Tensor
    weights: torch.Tensor

    def some(self, count: int, chance: Chance) -> KeptVoxels:
        """At most `count` of them, which stand for as much."""
        size = len(self.weights)
        if size <= count:
            return self
        chosen = torch.randperm(size, generator=chance.generator)[:count]
        return KeptVoxels(self.features[chosen], self.shares[:, chosen], self.weights[chosen] * (size / count))


@torch.no_grad()
def keep_voxels(
    network: VisionNetwork,
    subjects: Sequence[Subject],
    recipe: Recipe,
    readout: ReadoutRecipe,
    lesions: LesionSource | None = None,
    say: Callable[[str], None] = print,
) -> list[KeptVoxels]:
    """Voxels of synthetic images, as the recipe draws them, each with every region of the parcellation it knows."""
    whole = replace(recipe, regions=len(load_parcels().names) if recipe.regions else 0, several=0.0)
    kept = []
    for number in range(readout.images):
        example = draw_example(subjects, whole, number, lesions)
        (image,) = example.images
        (decoded,) = network.trunk([image.placed])
        targets = image.targets.flatten(1)
        chance = Chance.seeded(readout.seed + number)
        weight = torch.full((targets.shape[1],), ANYWHERE / targets.shape[1])
        inside = targets.amax(dim=0) > 0.01
        weight[inside] += (1 - ANYWHERE) / max(int(inside.sum()), 1)
        count = min(readout.voxels, len(weight))
        chosen = torch.multinomial(weight, count, replacement=True, generator=chance.generator)
        kept.append(
            KeptVoxels(
                torch.cat([features[:, chosen] for features in _on_the_finest_grid(decoded)]).T.to(torch.float16),
                (targets[:, chosen] * 255).round().to(torch.uint8),
                (1.0 / (weight[chosen] * count)).to(torch.float32),
            )
        )
        if number % 20 == 19:
            say(f"{number + 1} of {readout.images} images")
    return kept


def _on_the_finest_grid(decoded: Sequence[Placed]) -> Iterator[torch.Tensor]:
    """Each level's features (c, v), finest level first, brought up level by level."""
    for level, placed in enumerate(decoded):
        for above in decoded[level - 1 :: -1] if level else ():
            placed = above.with_features(upsample_to(placed, above.shape, above.world))
        yield placed.features[0].flatten(1)


def learn_readout(
    network: VisionNetwork,
    table: ConditionTable,
    names: Sequence[str],
    kept: Sequence[KeptVoxels],
    readout: ReadoutRecipe,
    weight_of: Callable[[str], float],
    say: Callable[[str], None] = print,
) -> None:
    """Change the network's read-out, and nothing else, so that it finds `names` in what was kept.

    Args:
        names: the targets of `kept`, in order.
    """
    part = network.read_out
    parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=readout.rate, weight_decay=1e-4)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, readout.steps)
    phi = table(1).detach()[[table.names.index(name) for name in names], 0]
    importance = torch.tensor([weight_of(name) for name in names])
    average = [parameter.detach().clone() for parameter in parameters]
    recent: list[float] = []
    for step in range(readout.steps):
        chance = Chance.seeded(readout.seed * SEED_STRIDE + step)
        voxels = kept[chance.integer(len(kept))].some(readout.at_once, chance)
        logits = part.of_voxels(voxels.features.float(), phi)
        loss, dice = sampled_loss(logits, voxels.shares.float() / 255, voxels.weights, readout.voxelwise, importance)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        falling.step()
        decay = min(readout.decay, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)
        recent.append(float(dice))
        if step % 200 == 199:
            say(f"step {step + 1}: soft Dice {sum(recent[-200:]) / 200:.4f}")
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=True):
            parameter.copy_(value)


def sampled_loss(
    logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor, voxelwise: float, importance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`loss.whole_map_loss` of an image of which voxels (t, v) were drawn, each standing for `weights` (v,) of it."""
    probability = torch.sigmoid(logits)
    over = 2 * (probability * shares * weights).sum(dim=1) + 1e-3
    under = ((probability.square() + shares.square()) * weights).sum(dim=1) + 1e-3
    dice = over / under
    present = ((shares * weights).sum(dim=1) > 1.0).float()
    weighed = present * importance
    entropy = functional.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(dim=0)
    loss = 1 - (dice * weighed).sum() / weighed.sum().clamp(min=1e-6)
    loss = loss + voxelwise * (entropy * weights).sum() / weights.sum()
    return loss, ((dice * present).sum() / present.sum().clamp(min=1)).detach()
