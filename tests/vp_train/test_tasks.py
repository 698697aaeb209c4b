"""Prompts and target programs of every task."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice

import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from tests.vp_train.truth import REGIONS as WITH_LESIONS
from vp_model.ontology import load_ontology, normalise
from vp_model.outcome import InputVolume
from vp_model.program.environment import initial_known, region_targets
from vp_model.program.inspection import inspect_program
from vp_model.program.vocabulary import REFUSALS, TASKS
from vp_model.program.writer import ProgramWriter
from vp_train.tasks.context import SPOKEN, make_context
from vp_train.tasks.refusals import lesions_within
from vp_train.tasks.registry import examples
from vp_train.tasks.scene import Example, Scene, sample_structures

REGIONS = ("left hippocampus", "right hippocampus", "left thalamus", "right thalamus", "brainstem", "brain")


def drawn(count: int, seed: int = 3, held_out: bool = False) -> list[Example]:
    return list(islice(examples(make_context(REGIONS, held_out), seed), count))


@pytest.mark.requirement("target programs of all tasks parse and call only what exists")
@pytest.mark.parametrize("held_out", [False, True])
def test_every_target_program_is_valid(held_out: bool) -> None:
    targets = region_targets(load_ontology(), REGIONS)
    for example in drawn(800, held_out=held_out):
        known = initial_known(example.scene.volumes, targets)
        inspection = inspect_program(example.program, known, targets)
        assert inspection.refusal or inspection.task in TASKS


class _Bytes:
    """A tokenizer of single bytes with the special tokens, for the grammar."""

    eos_token_id = 1
    bos_token_id = None
    tokens = (b"<MOD>", b"</s>", *(bytes([byte]) for byte in range(256)))
    special_token_ids = (0, 1)

    def __call__(self, text: bytes) -> list[int]:
        return [2 + byte for byte in text]


def test_decoding_lets_every_line_of_the_target_programs_through() -> None:
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()))
    targets = {name: t for name, t in region_targets(load_ontology(), WITH_LESIONS).items() if len(t.sides) == 1}
    seen = Counter[str]()
    for example in islice(examples(make_context(WITH_LESIONS), 3), 3000):
        if len(example.scene.volumes) > 2 or seen[example.task] or example.program.startswith("refuse("):
            continue
        seen[example.task] += 1
        writer = ProgramWriter(initial_known(example.scene.volumes, targets))
        for line in example.program.splitlines():
            matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(writer.grammar()))
            pieces = (line + "\n").split("<MOD>")
            tokens = [t for n, piece in enumerate(pieces) for t in ([0] * bool(n) + tokenizer.tokenize_str(piece))]
            assert matcher.try_consume_tokens(tokens) == len(tokens), (line, example.program)
            writer.accept(line)
        assert writer.complete
    assert len(seen) > 28


def test_structures_sides_and_refusals_are_drawn_in_balance() -> None:
    asked = Counter[str]()
    refused = Counter[str]()
    every = drawn(6000, seed=17)
    for example in every:
        asked.update(re.findall(r'segment\("((?:left|right) (?:hippocampus|thalamus)|brainstem)"', example.program))
        refused.update(re.findall(r'refuse\("([^"]+)"', example.program))
    assert max(asked.values()) < 1.6 * min(asked.values()), asked
    assert 0.2 < sum(refused.values()) / len(every) < 0.4
    assert set(refused) == set(REFUSALS)
    assert min(refused.values()) > 0.015 * len(every), refused


def test_every_prompt_has_words_and_few_come_twice() -> None:
    prompts = [example.prompt for example in drawn(4000, seed=29)]
    assert all(prompt.strip() for prompt in prompts)
    assert len(set(prompts)) > 0.95 * len(prompts)


def test_held_out_prompts_are_not_among_those_trained_on() -> None:
    trained = {normalise(example.prompt) for example in drawn(12_000, seed=31)}
    kept = [example for example in drawn(1500, seed=37, held_out=True) if not example.program.startswith("refuse(")]
    same = [example.prompt for example in kept if normalise(example.prompt) in trained]
    assert len(same) < 0.002 * len(kept), same


def test_clinical_context_stands_in_the_prompt_and_changes_no_program() -> None:
    told = [example for example in drawn(2000) if example.context]
    assert len(told) > 150
    assert all(len(example.context) < len(example.prompt) for example in told)


@pytest.mark.requirement("a prompt that names a sequence is answered on it, or refused")
def test_images_named_in_a_prompt_are_those_that_the_program_sees() -> None:
    context = make_context(REGIONS)
    scene = Scene((InputVolume("v1", "T1", "2024-01-01", 0), InputVolume("v2", "FLAIR", "2024-01-01", 0)))
    kinds = {"v1": "T1", "v2": "FLAIR"}
    for seed in range(200):
        view = context.view(scene, random.Random(seed), share=1.0)
        names = [] if view.scene is None else list(view.scene.names)
        assert view.words
        for name in names:
            assert any(word in view.words for word in SPOKEN[kinds[name]])


def test_every_task_that_these_weights_serve_is_drawn() -> None:
    context = make_context(
        (*REGIONS, "left cerebral white matter", "right cerebral white matter", "white matter lesion")
    )
    found = {
        re.findall(r'task\("([^"]+)"', e.program)[0] for e in islice(examples(context, 5), 1500) if "task(" in e.program
    }
    assert found == set(TASKS)


def test_a_change_is_refused_when_there_is_one_session() -> None:
    for example in drawn(1500):
        if example.task in ("volume change", "extent change", "intensity change") and not example.scene.longitudinal:
            assert example.program == 'refuse("missing session")\n'


def test_the_same_seed_draws_the_same_examples() -> None:
    assert drawn(50, seed=9) == drawn(50, seed=9)
    assert drawn(50, seed=9) != drawn(50, seed=10)


def test_unknown_terms_of_both_sets_differ() -> None:
    assert not set(make_context(REGIONS).unknown) & set(make_context(REGIONS, held_out=True).unknown)


def test_sessions_are_in_order_of_their_dates() -> None:
    for example in drawn(200):
        scene: Scene = example.scene
        visits = [volume.visit for volume in scene.volumes]
        assert visits == sorted(visits)
        assert [volume.name for volume in scene.volumes] == [f"v{n}" for n in range(1, len(visits) + 1)]


def test_structures_that_are_asked_for_most_are_drawn_most() -> None:
    structures = load_ontology().structures
    names = ("thalamus", "frontal lobe", "cuneus", "white matter lesion", "glioma")
    chance = random.Random(1)
    counts = Counter(sample_structures([structures[name] for name in names], 1, chance)[0].name for _ in range(4000))
    assert counts["white matter lesion"] > counts["thalamus"] > 2 * counts["cuneus"]
    assert counts["thalamus"] > 2 * counts["glioma"]
    assert abs(counts["thalamus"] - counts["frontal lobe"]) < 0.2 * counts["thalamus"]


def test_structures_that_are_drawn_together_differ() -> None:
    structures = [load_ontology().structures[name] for name in ("thalamus", "cuneus", "brainstem")]
    for seed in range(20):
        drawn_names = [item.name for item in sample_structures(structures, 5, random.Random(seed))]
        assert sorted(drawn_names) == ["brainstem", "cuneus", "thalamus"]


def test_lesions_are_not_asked_for_by_the_structure_that_they_lie_in() -> None:
    context = make_context(WITH_LESIONS)
    for seed in range(30):
        example = lesions_within(context, random.Random(seed))
        assert example.program == 'refuse("not understood")\n'
