"""What a training run of m does, as data (`recipes/*.json`)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vp_train.datasets.labels import load_labels
from vp_train.datasets.parcels import load_parcels
from vp_train.language.optimisation import ADAMW, MUON

OPTIMIZERS = ADAMW, MUON


@dataclass(frozen=True)
class Scale:
    """A kind of training image: isotropic `spacing` in mm, the whole head or a cube of `crop` mm, how often.

    With `field_mm` its field of view has this size whatever the head's: a GPU prefers shapes that it knows.
    """

    spacing: float
    crop: float | None
    weight: float
    field_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class LesionDrawing:
    """Lesions of many kinds in training images (paper B.6).

    Attributes:
        pathologies: names of the ontology that are learned beside the label maps' targets.
        share: of scenes with lesions; `counts` how often one, two, … kinds are drawn into one.
        contrasts: how often such a scene is seen in each sequence type; the rest of 1 is drawn as any other image.
        kinds: weights of kinds (`lesions/kinds.json`) where they are not the file's own; 0 leaves a kind out.
    """

    pathologies: tuple[str, ...]
    share: float
    counts: tuple[float, ...]
    contrasts: dict[str, float]
    kinds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        preset: configuration of the network.
        seed: every step draws from a generator seeded by this and the step's number.
        rate, floor, warmup, steps: learning rate, the share of it that is left at the end of a cosine of `steps` steps,
            steps of its linear rise.
        by_time: the rate falls with the minutes that a run is given instead of its steps, for a machine whose speed is
            not known; stopped and resumed, such a run is another one.
        optimizer: `adamw`, or `muon`: convolutions change by orthogonal steps (`convolution_muon.py`).
        averaging: decay of the moving average of the weights, which is what is exported.
        thick: share of images with one thick axis; `several`: share of steps with two or three images of one head (at
            the coarsest scale, unless `several_anywhere`); `corrupted`: share of these with one image that shows
            nothing (paper C.5).
        emphasis: weight of a target in the mean of Dice where it is not 1.
        voxelwise: weight of a cross-entropy summed over the targets (`loss.whole_map_loss`); where 0, `cross_entropy`
            weighs one that is averaged over them.
        balanced: weight of `loss.balanced_entropy` of the pathologies, in which their voxels count `balanced_share`; 0,
            none. With it lesions of all kinds begin to be found within a few hundred steps, without it none does.
        condition_noise: standard deviation of what is added to φ, so that m bears what a language model emits instead.
        lesions: of many kinds, drawn into the label maps; None: only the white matter lesions of every scene.
        table_learns: whether conditions of the label maps' targets and of `regions` still change; off once a language
            model has learned them. Those of `lesions` always learn, unless `fixed`.
        fixed: no condition changes, that of a pathology neither.
        regions: how many regions of the parcellation (`parcels.json`) are asked for at a step beside all other
            targets; 0: they are not learned. `region_emphasis`: their weight in the mean of Dice.
        part_mm: how finely label maps are looked at (`scene.parts_of`).
        bf16: autocast to bfloat16 where the device is a GPU.
    """

    preset: str
    seed: int
    rate: float
    floor: float
    warmup: int
    steps: int
    weight_decay: float
    clip: float
    cross_entropy: float
    averaging: float
    mix: tuple[Scale, ...]
    thick: float
    several: float
    corrupted: float
    emphasis: dict[str, float] = field(default_factory=dict)
    voxelwise: float = 0.0
    condition_noise: float = 0.0
    table_learns: bool = True
    lesions: LesionDrawing | None = None
    fixed: bool = False
    regions: int = 0
    region_emphasis: float = 1.0
    several_anywhere: bool = False
    part_mm: float | None = None
    bf16: bool = True
    by_time: bool = False
    balanced: float = 0.0
    balanced_share: float = 0.1
    optimizer: str = ADAMW

    @property
    def pathologies(self) -> tuple[str, ...]:
        """What is learned beside the targets of the label maps."""
        return self.lesions.pathologies if self.lesions is not None else ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of everything that is learned, as the condition table has them."""
        regions = load_parcels().names if self.regions else ()
        return (*load_labels().targets, *regions, *self.pathologies)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"There is no optimizer {self.optimizer!r}: {' and '.join(OPTIMIZERS)}.")
        if self.balanced and not (self.lesions and self.voxelwise):
            raise ValueError("balanced weighs pathologies beside voxelwise: a recipe needs both lesions and voxelwise.")

    @property
    def can_be_recorded(self) -> bool:
        """Whether a step's gradients are those of the network alone, of a loss that never waits for a GPU."""
        return self.fixed and not self.table_learns and self.voxelwise > 0

    def weight_of(self, target: str) -> float:
        """In the mean of Dice."""
        region = bool(self.regions) and target in load_parcels().names
        return self.emphasis.get(target, self.region_emphasis if region else 1.0)

    def rate_at(self, step: int, spent: float = 0.0) -> float:
        """The learning rate of a step; `spent`: share of the run's time that is over, where the rate falls with it."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, spent if self.by_time else step / self.steps)))
        return self.rate * rise * (self.floor + (1 - self.floor) * fall)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_recipe(path: Path) -> Recipe:
    values = json.loads(path.read_text(encoding="utf-8"))
    for scale in values["mix"]:
        if scale.get("field_mm"):
            scale["field_mm"] = tuple(scale["field_mm"])
    values["mix"] = tuple(Scale(**scale) for scale in values["mix"])
    if values.get("lesions"):
        drawn = values["lesions"]
        lists = {name: tuple(drawn[name]) for name in ("pathologies", "counts")}
        values["lesions"] = LesionDrawing(**{**drawn, **lists})
    return Recipe(**values)


def bundled_recipe(name: str) -> Path:
    """The path of a recipe that comes with the project."""
    path = Path(__file__).parent / "recipes" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.json")))
        raise ValueError(f"There is no recipe {name!r}; there are: {known}.")
    return path
