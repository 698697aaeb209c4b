"""Parts of a pathology against each other in one program: acute against chronic, enhancing against the rest."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.vp_train import joint_runs
from vp_model.imaging.intensity import Image
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, ModelIdentity
from vp_model.program.environment import ProgramEnvironment, region_targets
from vp_model.program.results import build_outcome
from vp_train.joint.examples import build_example
from vp_train.tasks.context import make_context
from vp_train.tasks.parts import parts_compared
from vp_train.tasks.scene import Example, Lesion, Scene

REGIONS = ("brain", "glioma", "infarct", "edema", "necrosis", "enhancing tumor")
VOLUMES = (InputVolume("v1", "T1", "2024-01-05", 0), InputVolume("v2", "FLAIR", "2024-01-05", 0))
ACUTE = Lesion("infarct", side="left", lobe="frontal lobe", stage="acute", volume_mm3=300.0)
OLD = Lesion("infarct", side="right", lobe="parietal lobe", stage="chronic", volume_mm3=700.0)
OLDER = Lesion("infarct", side="left", lobe="occipital lobe", stage="chronic", volume_mm3=100.0)
GLIOMA = Lesion("glioma", side="left", components=("enhancing tumor", "edema"))
BOXES = {
    "acute": (slice(0, 3), 3),
    "chronic": (slice(3, 9), 6),
    "glioma": (slice(2, 8), 6),
    "enhancing": (slice(6, 8), 2),
}
"""Planes of a grid of 10 × 4 × 5 voxels of 6 mm³, and how many."""
PLANE_ML = 4 * 5 * 6.0 / 1000


def asked(lesions: Sequence[Lesion], seed: int, held_out: bool = False) -> Example:
    example = parts_compared(make_context(REGIONS, held_out), Scene(VOLUMES, tuple(lesions)), random.Random(seed))
    assert example is not None
    return example


@dataclass
class Truth:
    """Each call of `segment` gets the part that it means, by its number."""

    example: Example
    calls: int = 0

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        (one, *_) = self.example.meant[self.calls]
        self.calls += 1
        part = "enhancing" if name == "enhancing tumor" else one.stage or one.structure
        voxels = np.zeros((10, 4, 5), np.float32)
        voxels[BOXES[part][0]] = 1.0
        return dict.fromkeys(volumes, voxels)

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("Nothing is encoded to measure volumes.")


def measured(example: Example) -> list[tuple[float, str]]:
    images = {item.name: Image(np.ones((10, 4, 5), np.float32), np.diag([2.0, 1.0, 3.0, 1.0])) for item in VOLUMES}
    environment = ProgramEnvironment(VOLUMES, images, Truth(example), region_targets(load_ontology(), REGIONS))
    result = environment.step(example.program, np.zeros((example.program.count("<MOD>"), 32), np.float32))
    assert not result.error, result.error
    outcome = build_outcome(environment, example.prompt, (), ModelIdentity("truth", "0", "0" * 64))
    assert outcome.status == "answered"
    return [(float(item.value), item.unit) for item in outcome.measurements]


@pytest.mark.requirement("target programs of all tasks run and give the expected values on the synthetic truth")
@pytest.mark.parametrize("seed", range(4))
def test_acute_and_chronic_parts_are_measured_in_one_program(seed: int) -> None:
    example = asked((ACUTE, OLD, OLDER), seed)
    assert example.program.count('segment("infarct"') == 2
    first = example.meant[0][0].stage
    assert example.meant == (((ACUTE,), (OLD, OLDER)) if first == "acute" else ((OLD, OLDER), (ACUTE,)))
    one, other = (BOXES[stage][1] * PLANE_ML for stage in (first, "chronic" if first == "acute" else "acute"))
    values = measured(example)
    assert values[:2] == [(pytest.approx(one), "ml"), (pytest.approx(other), "ml")]
    assert values[2] == (pytest.approx(100 * one / (one + other)), "%")


@pytest.mark.requirement("target programs of all tasks run and give the expected values on the synthetic truth")
def test_enhancing_part_is_measured_against_the_rest_of_its_lesion() -> None:
    example = asked((GLIOMA, ACUTE), 1)
    assert [call.split('"')[1] for call in example.program.split("segment(")[1:]] == ["glioma", "enhancing tumor"]
    assert example.targets == (GLIOMA,)
    values = measured(example)
    assert values[:2] == [(pytest.approx(2 * PLANE_ML), "ml"), (pytest.approx(4 * PLANE_ML), "ml")]
    assert values[2] == (pytest.approx(100 / 3), "%")


def test_lesions_without_parts_are_not_asked_about() -> None:
    context = make_context(REGIONS)
    for lesions in ((), (ACUTE,), (ACUTE, replace(ACUTE, side="right")), (replace(GLIOMA, components=("edema",)),)):
        assert parts_compared(context, Scene(VOLUMES, lesions), random.Random(0)) is None
    stages = (ACUTE, OLD, replace(OLD, stage="subacute"))
    assert parts_compared(context, Scene(VOLUMES, stages), random.Random(0)) is None  # which two are meant?


@pytest.mark.parametrize("held_out", [False, True])
def test_prompts_name_both_parts_in_many_ways(held_out: bool) -> None:
    prompts = [asked((ACUTE, OLD), seed, held_out).prompt for seed in range(60)]
    assert len(set(prompts)) > 45
    assert not any(set(prompt) & set("{}") for prompt in prompts)


@dataclass(frozen=True, eq=False)
class TwoInfarcts(joint_runs.LesionedStudy):
    """A study with an acute infarct, the left hippocampus, and a chronic one, the right."""

    @property
    def scene(self) -> Scene:
        return replace(self.plain.scene, lesions=(ACUTE, OLD))

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "") -> torch.Tensor:
        sides = ["left" if lesion is ACUTE else "right" for lesion in lesions]
        return torch.stack([self.plain.target(volume, f"{side} hippocampus") for side in sides]).amax(dim=0)


@pytest.mark.requirement("Two calls on one structure are trained on the lesions that each means")
def test_two_calls_on_one_structure_have_the_targets_that_each_means() -> None:
    study = TwoInfarcts(joint_runs.lesioned_study().plain)
    context = make_context((*joint_runs.REGIONS, "infarct"))
    example = parts_compared(context, study.scene, random.Random(2))
    assert example is not None
    built = build_example(joint_runs.tokenizer(), example, lambda _: study, ("infarct",))
    (both,) = built.passes
    assert both.regions == ("infarct", "infarct")
    assert len(set(both.markers)) == 2
    for volume, targets in zip(both.volumes, both.targets, strict=True):
        for target, lesions in zip(targets, example.meant, strict=True):
            assert torch.equal(target, study.lesion_target(volume, lesions))
    assert not torch.equal(both.targets[0][0], both.targets[0][1])
