"""The loop of steps: what α is told between them, what ends it, and what is said where it does not end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.vp_model.program_cases import BoxVision
from vp_model import agent as agent_module
from vp_model.agent import MAXIMUM_STEPS, Agent
from vp_model.imaging.intensity import Image
from vp_model.language.decoding import WrittenStep
from vp_model.language.held import Held
from vp_model.language.tokens import CODE, FEEDBACK, PROMPT, SESSION
from vp_model.outcome import InputVolume
from vp_model.program.checker import Known
from vp_model.program.refusals import refusal
from vp_model.program.types import Type
from vp_model.program.vocabulary import REFUSALS, TASKS
from vp_model.vision.sight import Sight
from vp_model.volume import Volume

WORLD = np.array([[2.0, 0, 0, -10], [0, 2.0, 0, -10], [0, 0, 2.0, -10], [0, 0, 0, 1.0]])
SEGMENT = 'task("volume analysis")\nroi = segment("brainstem", v1<MOD>)\nsize = volume(roi)\nprint(size)\n'


class Scripted:
    """In place of α: writes the steps that it is given, and keeps what it was told."""

    def __init__(self, steps: Sequence[tuple[str, bool]]) -> None:
        self.steps = list(steps)
        self.told: list[tuple[str, list[NDArray[np.float32]]]] = []
        self.known: list[Known] = []

    def read(self, text: str, encodings: Sequence[NDArray[np.float32]] = ()) -> None:
        self.told.append((text, list(encodings)))

    def write(self, known: Known, wanted: Counter[str] | None = None, held: Held | None = None) -> WrittenStep:
        self.known.append(known)
        code, final = self.steps[min(len(self.known), len(self.steps)) - 1]
        return WrittenStep(code, np.ones((code.count("<MOD>"), 32), np.float32), final)


@pytest.fixture(scope="module")
def loaded() -> Agent:
    return Agent.load()


@pytest.fixture
def volume() -> Volume:
    features = torch.rand(1, 10, 10, 10, generator=torch.Generator().manual_seed(0)) * 100
    return Volume(features, WORLD, name="v1", kind="T1", visit=date(2024, 3, 1))


def boxes(volume: Volume) -> Sight:
    """A vision network that needs no time: what it finds is not the question here."""
    return BoxVision({"v1": Image(volume.voxels, volume.world)})  # type: ignore[return-value]


def scripted(monkeypatch: pytest.MonkeyPatch, *steps: tuple[str, bool]) -> Scripted:
    script = Scripted(steps)
    monkeypatch.setattr(agent_module, "Writer", lambda *_: script)
    return script


@pytest.mark.requirement(
    "variables persist from step to step, and what a step printed and encoded is read before the next"
)
def test_a_second_step_knows_the_first_and_reads_what_it_printed_and_encoded(
    loaded: Agent, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 'report("volume", size)\nshow(roi)\n'
    script = scripted(monkeypatch, (SEGMENT + "features = encode(v1<MOD>)\n", False), (second, True))
    outcome = loaded.run("volume of the brainstem", [volume])
    assert outcome.status == "answered"
    assert [step.code for step in outcome.transcript.steps] == [SEGMENT + "features = encode(v1<MOD>)\n", second]
    assert (script.known[1].names["roi"], script.known[1].units["size"]) == (Type.ROI, "ml")
    first, feedback = script.told
    assert first[0].startswith(f"{SESSION}2024-03-01") and PROMPT in first[0] and first[1] == []
    printed = outcome.transcript.steps[0].output
    assert printed.endswith(" ml") and feedback[0] == f"{FEEDBACK}{printed}{CODE}"
    (encoding,) = feedback[1]
    assert encoding.shape == (1, loaded.checkpoint.language["encoding_size"])


@pytest.mark.requirement("a stop token ends the loop")
def test_the_step_that_ends_with_the_stop_token_is_the_last(
    loaded: Agent, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = scripted(monkeypatch, (SEGMENT, True), ("x = 1\n", True))
    outcome = loaded.run("volume of the brainstem", [volume], sight=boxes(volume))
    assert len(script.known) == len(outcome.transcript.steps) == 1


@pytest.mark.requirement("a limit on steps ends the loop with a clear error")
def test_a_program_that_does_not_stop_fails_at_the_limit_of_steps_and_says_so(
    loaded: Agent, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = scripted(monkeypatch, (SEGMENT, False), ("print(size)\n", False))
    outcome = loaded.run("volume of the brainstem", [volume], sight=boxes(volume))
    assert outcome.status == "failed"
    assert outcome.reason == f"The program did not end within {MAXIMUM_STEPS} steps."
    assert len(script.known) == len(outcome.transcript.steps) == MAXIMUM_STEPS


def test_a_mistake_ends_the_loop_and_names_its_line(
    loaded: Agent, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, (SEGMENT, False), ("x = bounding_box(roi)[2]\ny = visits(roi)[7]\n", False))
    outcome = loaded.run("volume of the brainstem", [volume], sight=boxes(volume))
    assert outcome.status == "failed" and "line 2" in outcome.transcript.steps[-1].error
    assert len(outcome.transcript.steps) == 2


def test_a_refusal_in_a_later_step_ends_the_loop(
    loaded: Agent, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, (SEGMENT, False), ('refuse("missing session")\n', True))
    outcome = loaded.run("has the brainstem changed?", [volume], sight=boxes(volume))
    assert outcome.status == "refused" and "T1 of 2024-03-01" in outcome.reason
    assert outcome.measurements == () and outcome.masks == ()


def test_a_state_that_is_too_long_for_alpha_is_refused_not_raised(loaded: Agent, volume: Volume) -> None:
    many = [replace(volume, name=f"v{number}") for number in range(1, 900)]
    inputs = tuple(InputVolume(item.name, item.kind, "2024-03-01", 0) for item in many)
    plan = loaded.plan("segment the brainstem", inputs)
    assert plan.status == "refused" and "tokens of this model" in plan.reason
    outcome = loaded.run("segment the brainstem", many)
    assert outcome.status == "refused" and "tokens of this model" in outcome.reason


@pytest.mark.requirement("a refusal says what is possible")
@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_says_what_is_possible(reason: str) -> None:
    volumes = (
        InputVolume("v1", "T1", "2024-03-01", 0),
        InputVolume("v2", "FLAIR", "2024-03-01", 0),
        InputVolume("v3", "unknown", "", 1),
    )
    said = refusal(reason, volumes, ["thalamus", "brainstem"])
    assert said.startswith(REFUSALS[reason])
    if reason in ("missing session", "missing image"):
        assert "Given: T1 and FLAIR of 2024-03-01; an image of unknown kind of no known date." in said
    else:
        assert "It can find: brainstem, thalamus." in said
    if reason in ("not understood", "not a brain question"):
        assert all(task in said for task in TASKS)
    assert "(why)" in refusal(reason, volumes, [], "why")
