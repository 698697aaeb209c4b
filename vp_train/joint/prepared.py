"""Examples of joint training from prepared public data: which numbers take them, and what is asked of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vp_train.datasets.public.plans import PreparedPlan, plan_prepared
from vp_train.datasets.public.pool import CasePool, read_pool
from vp_train.joint.recipe import JointRecipe
from vp_train.synthesis.chance import Chance
from vp_train.tasks.context import Context
from vp_train.tasks.scene import known_structures

PREPARED_FILE = "prepared.json"
OF_PREPARED = 7_919
"""Added to an example's seed for what is drawn of prepared data: the synthetic studies stay as they were."""


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Cases of one part, and the share of examples that are made of them.

    Attributes:
        device: that studies are rendered on.
        cache: folder for the anatomy of heads that lesions are drawn into; None keeps none.
    """

    pool: CasePool
    share: float
    device: torch.device
    cache: Path | None = None

    def plan(self, seed: int, recipe: JointRecipe, whole: Context) -> tuple[PreparedPlan, Context] | None:
        """The study of an example's seed, and what tasks may ask of it; None where a synthetic one is made of it.

        Args:
            whole: what the weights learn.
        """
        chance = Chance.seeded(seed + OF_PREPARED)
        if not chance.happens(self.share) or not self.pool.places:
            return None
        case = self.pool.case(chance.integer(len(self.pool.places)))
        plan = plan_prepared(case, chance, recipe.study, self.device, self.cache)
        context = asked_of(plan, whole)
        return (plan, context) if context.structures else None


def asked_of(plan: PreparedPlan, whole: Context) -> Context:
    """What tasks draw from on a study of a case: structures that its masks tell of and the weights learn. What is
    unknown stays what the weights do not know.
    """
    known = {structure.name for structure in whole.structures}
    return replace(whole, structures=known_structures([name for name in plan.regions if _bare(name) in known]))


def _bare(region: str) -> str:
    return region.removeprefix("left ").removeprefix("right ")


def with_prepared(regions: Sequence[str], data: PreparedData) -> tuple[str, ...]:
    """Regions that are learned, with those that prepared cases mark."""
    return tuple(dict.fromkeys((*regions, *data.pool.regions)))


def read_prepared(
    folder: Path, recipe: JointRecipe, device: torch.device, cache: Path | None
) -> tuple[PreparedData, PreparedData]:
    """Cases to train on, and those of the part for validation.

    Raises:
        ValueError: there is none to train on.
    """
    training, validation = read_pool(folder, "training"), read_pool(folder, "validation")
    if not training.places:
        raise ValueError(f"{folder} holds no prepared case with a label map in the part to train on.")
    share = recipe.prepared_share
    return PreparedData(training, share, device, cache), PreparedData(validation, share, device, cache)


def note_cases(data: Sequence[PreparedData] | None, folder: Path) -> None:
    """Notes in a new run's folder which cases it draws from."""
    (folder / PREPARED_FILE).write_text(json.dumps(_digests(data)) + "\n", encoding="utf-8")


def compare_cases(data: Sequence[PreparedData] | None, folder: Path) -> None:
    """Whether a run that goes on has the cases that it began with: of others the same examples would not come.

    Raises:
        ValueError: it has not.
    """
    path = folder / PREPARED_FILE
    noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if noted != _digests(data):
        raise ValueError(f"The run in {folder} was begun with other prepared cases: give those, or another folder.")


def _digests(data: Sequence[PreparedData] | None) -> list[str]:
    return [one.pool.digest for one in data or ()]
