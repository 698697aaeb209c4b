"""Lesions told apart by metadata, their parts, and questions that are answered from an encoding."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.ontology import load_ontology, normalise
from vp_model.outcome import InputVolume, ModelIdentity
from vp_model.program.environment import ProgramEnvironment, initial_known, region_targets
from vp_model.program.inspection import inspect_program
from vp_model.program.results import build_outcome
from vp_train.tasks.context import Context, make_context
from vp_train.tasks.described import DESCRIBED_TASKS, described_example, signal_from_encoding
from vp_train.tasks.descriptions import describe, metadata
from vp_train.tasks.scene import Lesion, Scene

REGIONS = ("brain", "glioma", "infarct", "meningioma", "white matter lesion", "edema", "necrosis", "hemorrhage")
VOLUMES = (
    InputVolume("v1", "T1", "2024-01-05", 0),
    InputVolume("v2", "T1+C", "2024-01-05", 0),
    InputVolume("v3", "DWI", "2024-01-05", 0),
    InputVolume("v4", "ADC", "2024-01-05", 0),
    InputVolume("v5", "FLAIR", "2024-01-05", 0),
)
CONTEXT = make_context(REGIONS)


def lesion(chance: random.Random) -> Lesion:
    name = chance.choice(("glioma", "infarct", "meningioma", "white matter lesion", "hemorrhage"))
    lobe = chance.choice(("frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe", "cerebellum"))
    return Lesion(
        structure=name,
        side=chance.choice(("left", "right")),
        lobe=lobe,
        territory=chance.choice(("middle cerebral artery", "anterior cerebral artery")) if name == "infarct" else "",
        volume_mm3=float(chance.randrange(10, 9000)),
        signal={"FLAIR": chance.choice(("hyperintense", "hypointense")), "T1": "hypointense"},
        enhancing=chance.choice((True, False, None)),
        restricted=chance.choice((True, False, None)),
        stage=chance.choice(("acute", "chronic", "")),
        components=("edema", "necrosis") if name == "glioma" else (),
    )


def scene(chance: random.Random, count: int) -> Scene:
    return Scene(VOLUMES, tuple(lesion(chance) for _ in range(count)))


@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_a_description_is_true_of_one_lesion_alone(seed: int, count: int) -> None:
    chance = random.Random(seed)
    lesions = scene(chance, count).lesions
    found = describe(lesions[0], lesions, chance)
    if found is not None:
        assert found.fits(lesions[0], lesions)
        assert not any(found.fits(other, lesions) for other in lesions[1:])
        assert found.words.strip() == found.words
        assert not set(found.words) & set("{}")


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_all_metadata_are_said_where_there_are_several_lesions(seed: int) -> None:
    chance = random.Random(seed)
    lesions = scene(chance, 3).lesions
    found = describe(lesions[0], lesions, chance)
    if found is not None:
        assert dict(found.said) == metadata(lesions[0], lesions)
        assert lesions[0].side in found.words


def test_a_wider_name_stands_only_where_one_lesion_has_it() -> None:
    glioma, meningioma = Lesion("glioma", side="left"), Lesion("meningioma", side="left", lobe="frontal lobe")
    alone = {describe(glioma, (glioma,), random.Random(seed)).name for seed in range(60)}  # type: ignore[union-attr]
    assert {"glioma", "neoplasm", "mass", "lesion"} <= alone
    beside = {
        found.name for seed in range(60) if (found := describe(glioma, (glioma, meningioma), random.Random(seed)))
    }
    assert beside == {"glioma"}


def test_two_lesions_that_nothing_tells_apart_are_not_asked_about() -> None:
    first, second = Lesion("infarct", side="left"), Lesion("infarct", side="left")
    assert describe(first, (first, second), random.Random(0)) is None


@pytest.mark.parametrize("held_out", [False, True])
def test_programs_of_described_lesions_are_valid_and_answer_after_the_encoding(held_out: bool) -> None:
    context = make_context(REGIONS, held_out)
    targets = region_targets(load_ontology(), REGIONS)
    tasks = set()
    for seed in range(400):
        chance = random.Random(seed)
        example = described_example(context, scene(chance, chance.choice((1, 1, 2, 3))), chance)
        if example is None:
            continue
        assert example.prompt.strip()
        assert len(example.targets) == 1 or example.meant
        known = initial_known(example.scene.volumes, targets)
        inspection = inspect_program(example.program + "".join(example.later), known, targets)
        tasks.add(inspection.task)
        if example.later:
            assert "print(features)" in example.program
            assert example.later[0].startswith("answer(")
        elif not example.meant:
            (name, _), *rest = inspection.structures
            assert not rest
            assert name in (example.targets[0].structure, *example.targets[0].components)
    assert tasks >= {"location", "signal intensity", "enhancement", "diffusion restriction", "segmentation"}


class OneBox:
    """Every region is the same box; an encoding says nothing."""

    shape = (10, 12, 8)

    @property
    def box(self) -> NDArray[np.bool_]:
        voxels = np.zeros(self.shape, bool)
        voxels[2:5, 3:7, 1:6] = True
        return voxels

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        return {volume: self.box.astype(np.float32) for volume in volumes}

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(volumes), 4), np.float32)


@pytest.mark.requirement("target programs of all tasks run and give the expected values on the synthetic truth")
def test_programs_of_described_lesions_run_and_give_what_is_known() -> None:
    vision = OneBox()
    world = np.diag([2.0, 1.0, 3.0, 1.0])
    images = {item.name: Image(np.ones(vision.shape, np.float32), world) for item in VOLUMES}
    tasks = Counter[str]()
    for seed in range(120):
        chance = random.Random(seed)
        example = described_example(CONTEXT, scene(chance, chance.choice((1, 1, 2))), chance)
        if example is None or example.meant:  # those that compare parts have tests of their own
            continue
        environment = ProgramEnvironment(VOLUMES, images, vision, region_targets(load_ontology(), REGIONS))
        for code in (example.program, *example.later):
            result = environment.step(code, np.zeros((code.count("<MOD>"), 32), np.float32))
            assert not result.error, (code, result.error)
        outcome = build_outcome(environment, example.prompt, (), ModelIdentity("truth", "0", "0" * 64))
        assert outcome.status == "answered"
        tasks[example.task] += 1
        if example.later:
            (said,) = outcome.texts
            assert said.text == re.findall(r'answer\("([^"]+)"\)', example.later[0])[0]
            assert said.topic == example.task
            continue
        assert all(np.array_equal(mask.voxels, vision.box) for mask in outcome.masks)
        assert {mask.volume for mask in outcome.masks} == {item.name for item in VOLUMES}
        if example.task == "volume analysis":
            (measured,) = outcome.measurements
            assert measured.value == pytest.approx(vision.box.sum() * 6.0 / 1000)
            assert measured.unit == "ml"
    assert set(tasks) >= {"segmentation", "volume analysis", "signal intensity", "location", "enhancement"}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_a_question_does_not_give_its_answer_away(seed: int) -> None:
    chance = random.Random(seed)
    lesions = scene(chance, 1).lesions
    found = describe(lesions[0], lesions, chance, avoid=("lobe", "side", "territory"))
    assert found is not None
    words = set(normalise(found.words).split())
    assert not words & {"left", "right", "frontal", "parietal", "temporal", "occipital", "cerebellar", "mca", "aca"}


def test_a_scene_without_lesions_has_no_described_task() -> None:
    assert described_example(CONTEXT, Scene(VOLUMES), random.Random(1)) is None
    assert len(DESCRIBED_TASKS) == 8
    assert isinstance(CONTEXT, Context)


def test_the_signal_is_not_asked_for_in_an_image_that_has_no_spoken_name() -> None:
    shown = Lesion("infarct", signal={"STIR": "hyperintense", "T1": "hypointense"})
    stir, plain = InputVolume("v1", "STIR", "2024-01-05", 0), InputVolume("v2", "T1", "2024-01-05", 0)
    assert signal_from_encoding(CONTEXT, Scene((stir,), (shown,)), random.Random(1)) is None
    for seed in range(8):
        example = signal_from_encoding(CONTEXT, Scene((stir, plain), (shown,)), random.Random(seed))
        assert example is not None and "encode(v2<MOD>)" in example.program
