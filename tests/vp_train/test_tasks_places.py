"""Where lesions lie, in words: target programs on a made-up brain give what is computed here from its masks."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from tests.vp_train.truth import LESIONS, REGIONS, SHAPE, SPACING, Truth
from vp_model.imaging.landmarks import Landmarks
from vp_model.ontology import load_ontology
from vp_model.ontology.places import load_places
from vp_model.outcome import ModelIdentity, Outcome
from vp_model.program.environment import ProgramEnvironment, region_targets
from vp_model.program.results import build_outcome
from vp_train.prompts.data import phrases
from vp_train.tasks.context import Context, make_context
from vp_train.tasks.lesions import hemisphere, lesion_share, location, vascular_territory
from vp_train.tasks.placed import SIGNALS, named_location, named_territory, of_signal
from vp_train.tasks.registry import TASKS, knows_lobes
from vp_train.tasks.scene import Example

CORTEX = {"left occipital lobe": ((2, 20), (4, 16)), "left parietal lobe": ((2, 20), (16, 40))}
"""Columns of the left side of the brain: everything on it is nearest to one of them."""
LOBE = re.compile(r'in_lobe\(part_all, "(?P<lobe>[a-z ]+)"\)')
LOBES = tuple(f"{side} {name}" for name in load_places()["lobe"].cortex for side in ("left", "right"))
KNOWN = make_context((*REGIONS, *LOBES))


@dataclass(frozen=True)
class WithLobes(Truth):
    """Cortex of the left lobes on the outside of the brain, and white matter within."""

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        labels = np.zeros(SHAPE, np.uint8)
        names = [name for name in regions if name in CORTEX or name.endswith("cerebral white matter")]
        for number, name in enumerate(names, start=1):
            if name in CORTEX:
                (a, b), (c, d) = CORTEX[name]
                labels[a:b, c:d, 30:32] = number
            else:
                labels[self.mask(name) & (labels == 0)] = number
        return Landmarks(tuple(names), labels, self.world)


def outcome_of(example: Example) -> Outcome:
    truth = WithLobes(example.scene.volumes)
    targets = region_targets(load_ontology(), REGIONS)
    environment = ProgramEnvironment(truth.volumes, truth.images, truth, targets)
    result = environment.step(example.program, np.zeros((example.program.count("<MOD>"), 32), np.float32))
    assert not result.error, f"{example.program}\n{result.error}"
    return build_outcome(environment, example.prompt, (), ModelIdentity("truth", "0", "0" * 64))


def whole_load(task: Callable[[Context, random.Random], Example], count: int = 40) -> list[Example]:
    """Examples about all lesions of white matter."""
    chance = random.Random(5)
    drawn = [task(KNOWN, chance) for _ in range(count)]
    return [item for item in drawn if 'roi = segment("white matter lesion"' in item.program]


def expected_lobe(session: int) -> str:
    """Of the nearest cortex, by the voxels of all lesions, as they are in a session."""
    lobes = {name: np.zeros(SHAPE, bool) for name in CORTEX}
    for name, ((a, b), (c, d)) in CORTEX.items():
        lobes[name][a:b, c:d, 30:32] = True
    far = {name: ndimage.distance_transform_edt(~mask, sampling=SPACING) for name, mask in lobes.items()}
    nearest = {"left occipital lobe": 0, "left parietal lobe": 0}
    for (a, b), (c, d), (e, f) in LESIONS:
        box = (slice(a, b), slice(c, d + session), slice(e, f))
        ahead = far["left occipital lobe"][box] < far["left parietal lobe"][box]
        nearest["left occipital lobe"] += int(ahead.sum())
        nearest["left parietal lobe"] += int((~ahead).sum())
    return max(nearest, key=lambda name: nearest[name]).removeprefix("left ")


@pytest.mark.requirement("Characterisation: the anatomical location of a lesion is told by its lobe")
def test_a_location_is_the_lobe_of_most_of_the_lesions() -> None:
    examples = whole_load(location)
    assert examples
    for example in examples:
        session = max(volume.session for volume in example.scene.volumes)
        (said,) = outcome_of(example).texts
        assert said.topic == "location" and said.structure == "white matter lesion"
        assert said.text.removeprefix("left ") == expected_lobe(session), example.program


@pytest.mark.requirement("Characterisation: the vascular territory of a lesion")
def test_a_territory_that_cannot_be_told_is_said_to_be_unknown() -> None:
    """The landmarks of this brain tell lobes; of the territories' gyri it has the occipital lobe alone."""
    for example in whole_load(vascular_territory):
        (said,) = outcome_of(example).texts
        assert said.text == "posterior cerebral artery territory"


def test_sides_and_places_are_asked_in_other_words() -> None:
    for held_out in (False, True):
        places, sides = (
            {text for texts in phrases(task, held_out).values() for text in texts}
            for task in ("location", "hemisphere")
        )
        assert places and sides and not places & sides
    for example in whole_load(hemisphere):
        (said,) = outcome_of(example).texts
        assert said.text == "left hemisphere"


def test_places_are_asked_of_weights_alone_that_know_the_lobes() -> None:
    rows = {row.task: row for row in TASKS}
    for task in (location, vascular_territory):
        assert rows[task].possible is knows_lobes
    assert knows_lobes(KNOWN)
    assert not knows_lobes(make_context(REGIONS))
    assert not knows_lobes(make_context([name for name in (*REGIONS, *LOBES) if name != "white matter lesion"]))


@pytest.mark.requirement("Lesions can be selected by side, lobe, size and signal")
def test_lesions_of_a_lobe_are_measured_where_the_lobe_is() -> None:
    chance = random.Random(11)
    drawn = [lesion_share(KNOWN, chance) for _ in range(400)]
    examples = [item for item in drawn if 'in_lobe(part_all, "left' in item.program and "at(" not in item.program]
    told = Counter[str]()
    for example in examples:
        lobe = LOBE.search(example.program)
        assert lobe is not None
        shares = [item.value for item in outcome_of(example).measurements if item.name == "percent of region"]
        told[lobe["lobe"]] += round(shares[0] or 0)
    assert told["left parietal lobe"] > 0 == told["left frontal lobe"]


@pytest.mark.parametrize(
    ("task", "call"), [(named_location, "lobe_of"), (named_territory, "territory_of"), (location, "lobe_of")]
)
def test_a_place_that_is_asked_about_is_answered_by_the_place_of_the_lesions(
    task: Callable[[Context, random.Random], Example], call: str
) -> None:
    for example in whole_load(task):
        assert example.program.endswith(f"answer({call}(roi), roi)\n")
        (said,) = outcome_of(example).texts
        assert said.topic == "location" and said.text


def test_lesions_of_a_signal_are_those_of_that_signal() -> None:
    chance = random.Random(3)
    drawn = [of_signal(KNOWN, chance) for _ in range(60)]
    asked = {signal: [item for item in drawn if f'"{signal}"' in item.program] for signal in SIGNALS}
    assert all(asked[signal] for signal in ("hyperintense", "hypointense"))
    refused = [item for item in drawn if "with_signal" not in item.program]
    assert refused and all(item.program == 'refuse("missing image")\n' for item in refused)
    for items in asked.values():
        for item in items:
            outcome_of(item)
