"""What α is held to is what target programs do: rules that contradict them would spoil right answers."""

from __future__ import annotations

from itertools import islice

import pytest

from vp_model.checkpoint import open_checkpoint
from vp_model.language.held import Held
from vp_train.language.training import known_names
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples

SHARE = 0.985
"""Of programs; a name in a patient's history ("hippocampal sclerosis") is taken for what is asked about."""


@pytest.mark.parametrize("held_out", [False, True])
def test_target_programs_agree_with_their_prompts_and_studies(held_out: bool) -> None:
    context = make_context(open_checkpoint().regions, held_out)
    known = known_names(context)
    contradicting = []
    drawn = list(islice(examples(context, 31), 400))
    for example in drawn:
        held, lines = Held(example.prompt, example.scene.volumes, known), example.program.splitlines()
        agree = all(held.agrees(line, lines[:number]) for number, line in enumerate(lines))
        possible = not any(held.impossible(line, lines[:number]) for number, line in enumerate(lines))
        if not (agree and possible and held.may_end(lines)):
            contradicting.append((example.prompt, example.program))
    assert len(contradicting) <= (1 - SHARE) * len(drawn), contradicting
