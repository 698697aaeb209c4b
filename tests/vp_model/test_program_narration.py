"""A radiologist can read what a program does."""

from __future__ import annotations

import re

from tests.vp_model.program_cases import CHANGE, PROGRAMS, VOLUMES
from tests.vp_model.test_program_grammar import example_line
from vp_model.outcome import Step, Transcript
from vp_model.program.narration import narrate, phrases, readable
from vp_model.program.operations import OPERATIONS


def test_every_operation_has_words_for_all_its_arguments() -> None:
    assert set(phrases()) == set(OPERATIONS)
    for name, operation in OPERATIONS.items():
        places = set(re.findall(r"{(\w+)}", phrases()[name]))
        fixed = [parameter for parameter in operation.parameters if not (parameter.repeated or parameter.optional)]
        assert {str(number) for number in range(len(fixed))} <= places, name
        assert ("rest" in places) == any(parameter.repeated for parameter in operation.parameters), name


def test_a_change_reads_as_sentences() -> None:
    assert narrate(CHANGE, VOLUMES) == [
        "The task: volume change.",
        "Finds the left hippocampus on v1 (T1, 2024-03-01) and v2 (FLAIR, 2024-03-01) and v3 (T1, 2025-03-01): roi.",
        "Shows the left hippocampus.",
        "Takes the volume of the left hippocampus in its first session: before.",
        "Takes the volume of the left hippocampus in its last session: after.",
        "Reports the volume of the left hippocampus in its first session as volume.",
        "Reports the volume of the left hippocampus in its last session as volume.",
        "Reports the volume of the left hippocampus in its last session minus the volume of the left hippocampus in its"
        " first session as volume change.",
        "Reports the change from the volume of the left hippocampus in its first session to the volume of the left"
        " hippocampus in its last session in percent as relative volume change.",
        "Reports the volume of the left hippocampus in its last session minus the volume of the left hippocampus in its"
        " first session, per year as annual volume change.",
    ]


def test_blocks_are_indented_and_conditions_read_aloud() -> None:
    lines = narrate(PROGRAMS[5], VOLUMES)
    assert "If inside is above around times 1.1:" in lines
    assert "Otherwise:" in lines
    assert any(line.startswith("  Answers: hyperintense") for line in lines)


def test_no_program_of_the_tests_and_no_operation_leaves_code_behind() -> None:
    codes = [*PROGRAMS, *map(example_line, OPERATIONS)]
    for code in codes:
        text = "\n".join(narrate(code, VOLUMES))
        assert text and "(roi" not in text and "<MOD>" not in text and "{" not in text, text


def test_what_is_no_program_comes_back_as_it_stands() -> None:
    assert narrate("import os", VOLUMES) == ["import os"]


def test_transcript_tells_prompt_steps_output_and_error() -> None:
    steps = (
        Step('roi = segment("brainstem", v1<MOD>)\nprint(volume(roi))', "3.20 ml"),
        Step("show(roi)\n", "", "line 1: it stopped"),
    )
    assert readable(Transcript("how big?", VOLUMES[:1], steps)).splitlines() == [
        "Asked: how big?",
        "Given: v1 (T1, 2024-03-01)",
        "Step 1",
        "  Finds the brainstem on v1 (T1, 2024-03-01): roi.",
        "  Looks at the volume of the brainstem before going on.",
        "  It saw:",
        "    3.20 ml",
        "Step 2",
        "  Shows the brainstem.",
        "  It stopped: line 1: it stopped",
    ]
