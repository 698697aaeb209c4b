"""Tiny networks, a tokenizer and made-up heads for the tests of joint training."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer

from tests.vp_train.heads import head
from vp_train.datasets.labels import load_labels
from vp_train.joint.drawing import Source
from vp_train.joint.examples import JointExample, build_example
from vp_train.joint.recipe import JointRecipe
from vp_train.joint.state import JointState, new_state
from vp_train.language.training import learn_tokenizer
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.planning import StudySettings
from vp_train.synthesis.scene import Image
from vp_train.synthesis.study import SyntheticStudy, draw_study
from vp_train.tasks.context import Context, make_context
from vp_train.tasks.scene import Example, Lesion, Scene

REGIONS = (
    "left cerebral white matter",
    "right cerebral white matter",
    "left hippocampus",
    "right hippocampus",
    "third ventricle",
    "brain",
)
VISION: dict[str, Any] = {
    "channels": [4, 8, 8],
    "conditioning": "all",
    "interaction_size": 8,
    "interaction_heads": 2,
    "encoding_size": 6,
    "reference": "axis",
}
LANGUAGE: dict[str, Any] = {"layers": 2, "hidden_size": 32, "linear_size": 48, "heads": 2, "encoding_size": 6}
STUDIES = StudySettings(
    finest_mm=5.0,
    several=0.0,
    maximum_images=3,
    lesioned=0.0,
    budget_voxels=6000,
    tilted=False,
    masked=0.0,
    corrupted=0.0,
)
RECIPE = JointRecipe(
    name="tiny",
    vision=VISION,
    language=LANGUAGE,
    vocabulary=500,
    seed=3,
    rate=0.003,
    patience=100,
    reductions=4,
    accumulation=2,
    segmentation_weight=0.1,
    voxelwise=0.1,
    clip=1.0,
    described=0.5,
    validate_every=4,
    validation_examples=2,
    conditions_at_once=0,
    recomputed_levels=0,
    bf16=False,
    study=STUDIES,
)


@cache
def tokenizer() -> Tokenizer:
    return learn_tokenizer(make_context(REGIONS), RECIPE.vocabulary, RECIPE.seed, 200)


def source(recipe: JointRecipe = RECIPE, regions: Sequence[str] = REGIONS) -> Source:
    return Source([(head(), None)], regions, tokenizer(), recipe, 2048)


def state(recipe: JointRecipe = RECIPE) -> JointState:
    return new_state(recipe, REGIONS, tokenizer())


def awake(made: JointState) -> JointState:
    """With interactions whose residual does not start at nothing: otherwise φ has no effect yet."""
    torch.manual_seed(0)
    for name, parameter in made.model.vision.named_parameters():
        if "expand" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return made


@dataclass(frozen=True, eq=False)
class LesionedStudy:
    """A study of a head, one of whose lesions is known: its left hippocampus."""

    plain: SyntheticStudy

    @property
    def scene(self) -> Scene:
        return replace(self.plain.scene, lesions=(GLIOMA,))

    @property
    def images(self) -> tuple[Image, ...]:
        return self.plain.images

    def target(self, volume: int, region: str) -> torch.Tensor:
        return self.plain.target(volume, region)

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "") -> torch.Tensor:
        share = self.plain.target(volume, "left hippocampus")
        return share * 0.5 if component else share


GLIOMA = Lesion(
    "glioma",
    side="left",
    lobe="temporal lobe",
    compartment="parenchymal",
    volume_mm3=900.0,
    signal={"FLAIR": "hyperintense", "T1": "hypointense"},
    components=("edema",),
)


def lesioned_study(seed: int = 5) -> LesionedStudy:
    """One session of one to four MR images."""
    settings = replace(STUDIES, several=0.0, maximum_images=4)
    return LesionedStudy(draw_study(head(), load_labels(), Chance.seeded(seed), settings))


def described(
    task: Callable[[Context, Scene, random.Random], Example | None], study: LesionedStudy, seed: int = 1
) -> JointExample:
    """A task on a study's known lesion."""
    example = task(make_context((*REGIONS, "glioma", "edema")), study.scene, random.Random(seed))
    assert example is not None
    return build_example(tokenizer(), example, lambda _: study, ("glioma", "edema"))
