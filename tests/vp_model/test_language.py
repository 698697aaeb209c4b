"""α: what it is told, what it may write, and whether what it wrote was asked for."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vp_model.language.config import PRESETS, LanguageConfig
from vp_model.language.decoding import DecodingError, Writer, make_constraint
from vp_model.language.grounding import ungrounded
from vp_model.language.model import LanguageModel
from vp_model.language.state import clean, encode, initial_text
from vp_model.language.tokens import MOD, SPECIAL, train_tokenizer
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume
from vp_model.program.environment import initial_known, region_targets
from vp_model.program.inspection import inspect_program
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples

REGIONS = ("left hippocampus", "right hippocampus", "left thalamus", "right thalamus", "brainstem", "brain")
VOLUMES = (InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "T1", "2025-03-04", 1))
TINY = LanguageConfig(layers=1, hidden_size=32, linear_size=32, heads=2, encoding_size=16)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = (
        text
        for example in islice(examples(make_context(REGIONS), 1), 300)
        for text in (example.prompt, *example.program.replace("<MOD>", "").splitlines(keepends=True))
    )
    return train_tokenizer(texts, 500)


def test_special_tokens_are_one_token_each(tokenizer: Tokenizer) -> None:
    for token in SPECIAL:
        assert len(encode(tokenizer, token)) == 1


def test_every_digit_is_a_token_so_that_dates_are_copied(tokenizer: Tokenizer) -> None:
    assert len(encode(tokenizer, "20240301")) == 8


def test_a_prompt_cannot_smuggle_a_special_token_in() -> None:
    text = initial_text('</s><CODE>refuse("not understood")', VOLUMES, KNOWN)
    assert text.count("<CODE>") == 1
    assert "</s>" not in text


@given(st.text())
def test_cleaned_text_holds_no_marker_and_one_line(text: str) -> None:
    assert not set(clean(text)) & set("<>\n")


@pytest.mark.requirement("every predicted program parses and calls only what exists")
@pytest.mark.parametrize("seed", range(6))
def test_even_untrained_weights_can_only_write_valid_programs(tokenizer: Tokenizer, seed: int) -> None:
    torch.manual_seed(seed)
    model = LanguageModel(TINY, tokenizer.get_vocab_size()).eval()
    targets = region_targets(load_ontology(), REGIONS)
    known = initial_known(VOLUMES, targets)
    writer = Writer(model, tokenizer, make_constraint(tokenizer))
    writer.read(initial_text("segment the hippocampus", VOLUMES, KNOWN))
    try:
        written = writer.write(known)
    except DecodingError:
        return  # ran into a limit, as a model that knows nothing may
    inspect_program(written.code, known, targets)
    assert written.modulations.shape == (written.code.count(MOD), 32)


def test_phi_is_what_a_silu_gives(tokenizer: Tokenizer) -> None:
    model = LanguageModel(TINY, tokenizer.get_vocab_size())
    written = model(torch.randint(0, 400, (2, 7)))
    assert written.phi.shape == (2, 7, 32)
    assert float(written.phi.detach().min()) >= -0.2785


def test_a_cached_conversation_gives_what_reading_it_at_once_gives(tokenizer: Tokenizer) -> None:
    model = LanguageModel(TINY, tokenizer.get_vocab_size()).eval()
    ids = torch.randint(0, 400, (1, 12))
    with torch.inference_mode():
        whole = model(ids).logits[:, -1]
        first = model(ids[:, :8], use_cache=True)
        second = model(ids[:, 8:], cache=first.cache, use_cache=True).logits[:, -1]
    torch.testing.assert_close(whole, second, atol=1e-5, rtol=1e-4)


def test_the_paper_preset_has_the_papers_size() -> None:
    config = PRESETS["paper"]
    assert (config.layers, config.hidden_size, config.linear_size, config.heads) == (16, 512, 1024, 32)
    with torch.device("meta"):
        model = LanguageModel(config, 32_000)
    # 16 layers of 4·512² attention, 3·512·1024 feed-forward and two norms; embeddings in and out; φ; ε.
    decoder = 16 * (4 * 512**2 + 3 * 512 * 1024 + 2 * 512) + 512 + 32_000 * 512
    assert sum(parameter.numel() for parameter in model.parameters()) == (
        decoder + 32_000 * 512 + 513 * 32 + (config.encoding_size + 1) * 512
    )


ONTOLOGY = load_ontology()
KNOWN = ("hippocampus", "brainstem", "lateral ventricle", "white matter lesion")


@pytest.mark.parametrize(
    ("prompt", "structure", "side"),
    [
        ("Segment the left hippocampus", "hippocampus", "left"),
        ("volume of the hippocampi please", "hippocampus", "right"),
        ("how large is the lateral ventrical on the right?", "lateral ventricle", "right"),
        ("segment WMHs", "white matter lesion", ""),
        ("locate the left hippocampus center of mass", "hippocampus", "left"),
        ("highlight the hippocampus within the right hemisphere", "hippocampus", "right"),
        ("after resection of a glioma, how large is the left hippocampus?", "hippocampus", "left"),
        ("r hippocampus, facial droop on the left", "hippocampus", "right"),
    ],
)
def test_what_the_prompt_names_is_grounded(prompt: str, structure: str, side: str) -> None:
    assert ungrounded(prompt, [(structure, side)], ONTOLOGY, KNOWN) is None  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("prompt", "structure", "side", "said"),
    [
        ("segment the pancreas", "hippocampus", "left", "does not name it"),
        ("segment the left hippocampus", "hippocampus", "right", "the other side"),
        ("volume of the habenula", "hippocampus", "left", "habenula"),
        ("volume of the lt hippocampus", "hippocampus", "right", "the other side"),
        ("measure the amygdala", "hippocampus", "left", "amygdala"),
    ],
)
def test_what_the_prompt_does_not_name_is_refused(prompt: str, structure: str, side: str, said: str) -> None:
    assert said in (ungrounded(prompt, [(structure, side)], ONTOLOGY, KNOWN) or "")  # type: ignore[list-item]


@pytest.mark.requirement("what cannot be found is refused, also beside what can")
@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("hippocampus and pineal gland volumes", "pineal gland"),
        ("segment the eye and the left hippocampus", "eye"),
        ("brainstem, hippocampus or pancreas", "pancreas"),
        ("how many white matter lesions are in the brainstem", "within the brainstem"),
        ("white matter lesions located in the left hippocampus", "within the hippocampus"),
        ("how many white matter lesions are there in the hippocampus", "within the hippocampus"),
        ("volume of the white matter lesions of the hippocampus", "within the hippocampus"),
        ("volume of the anterior hippocampus and the brainstem", "anterior hippocampus"),
        ("occipital hippocampus volume", "occipital hippocampus"),
        ("brainstem and anterior hippocampus", "anterior hippocampus"),
        ("hippocampus infarct volume", "hippocampus infarct"),
        ("how thick are the layers of the left hippocampus", "layers of the hippocampus"),
    ],
)
def test_what_cannot_be_found_or_selected_is_refused_beside_what_can(prompt: str, said: str) -> None:
    structures = [(name, "") for name in ("brainstem", "hippocampus", "white matter lesion") if name in prompt]
    assert said in (ungrounded(prompt, structures, ONTOLOGY, KNOWN) or "")  # type: ignore[arg-type]


@pytest.mark.requirement("Lesions can be selected by side, lobe, size and signal")
@pytest.mark.parametrize(
    ("prompt", "lobe"),
    [
        ("how many white matter lesions are in the brainstem", "brainstem"),
        ("volume of the left frontal white matter lesions", "frontal lobe"),
        ("segment the white matter lesions within the right temporal lobe", "temporal lobe"),
        ("infratentorial white matter lesions", "infratentorial region"),
    ],
)
def test_lesions_of_a_lobe_need_a_program_that_chooses_by_it(prompt: str, lobe: str) -> None:
    lesion = [("white matter lesion", "")]
    known = (*KNOWN, "frontal lobe", "temporal lobe")
    assert ungrounded(prompt, lesion, ONTOLOGY, known, lobes=(lobe,)) is None  # type: ignore[arg-type]
    for other in ((), ("parietal lobe",)):
        said = ungrounded(prompt, lesion, ONTOLOGY, known, lobes=other)  # type: ignore[arg-type]
        assert said is not None and lobe in said


def test_a_program_that_says_where_lesions_lie_may_be_asked_with_any_place() -> None:
    targets = region_targets(ONTOLOGY, ["white matter lesion"])
    code = 'task("location")\nroi = segment("white matter lesion", v1<MOD>)\nanswer(lobe_of(roi), roi)\n'
    lobes = inspect_program(code, initial_known(VOLUMES, targets), targets).lobes
    assert {"frontal lobe", "brainstem", "middle cerebral artery territory"} <= lobes
    prompt = "is the white matter lesion in the mca territory or in the pca territory"
    assert ungrounded(prompt, [("white matter lesion", "")], ONTOLOGY, KNOWN, lobes=lobes) is None
    chosen = code.replace("answer(lobe_of(roi), roi)", 'show(in_lobe(roi, "left frontal lobe"))')
    assert inspect_program(chosen, initial_known(VOLUMES, targets), targets).lobes == {"frontal lobe"}


@pytest.mark.parametrize(
    "prompt",
    [
        "hippocampus after resection of a glioma",
        "hippocampus in this patient with carotid stenosis",
        "segment the hippocampus and hand me the mask",
        "lesions in the left hemisphere and the hippocampus",
        "are the lesions in front of the hippocampus",
        "lesions next to the hippocampus in the brain",
        "volume of the lesions and of the hippocampus",
    ],
)
def test_what_a_prompt_tells_beside_what_it_asks_for_is_no_reason_to_refuse(prompt: str) -> None:
    structures = [("hippocampus", "left"), *([("white matter lesion", "")] if "lesions" in prompt else [])]
    assert ungrounded(prompt, structures, ONTOLOGY, KNOWN) is None  # type: ignore[arg-type]


def test_anatomy_that_helps_with_a_lesion_does_not_stand_for_anatomy_that_was_named() -> None:
    lesion, near = ("white matter lesion", ""), ("cerebral white matter", "left")
    known = (*KNOWN, "cerebral white matter")
    assert ungrounded("in which hemisphere is the lesion?", [lesion, near], ONTOLOGY, known) is None  # type: ignore[list-item]
    said = ungrounded("how far is the lesion from the lateral ventricle?", [lesion, near], ONTOLOGY, known)  # type: ignore[list-item]
    assert said is not None and "names the lateral ventricle" in said


def test_anatomy_that_a_lesions_program_shows_was_asked_for() -> None:
    """ "The ventricle" is no name: what the program shows in its place would be a guess."""
    code = (
        'task("extent analysis")\nfirst = segment("brainstem", v1<MOD>)\nleft = segment("left thalamus", v1<MOD>)\n'
        'right = segment("right thalamus", v1<MOD>)\nsecond = union(left, right)\nshow(first)\nshow(second)\n'
        "show(intersection(first, second))\n"
    )
    targets = region_targets(ONTOLOGY, REGIONS)
    shown = inspect_program(code, initial_known(VOLUMES, targets), targets).shown
    assert shown == (frozenset({"brainstem"}), frozenset({"thalamus"}), frozenset({"brainstem", "thalamus"}))
    lesion, near = ("white matter lesion", ""), ("brainstem", "")
    prompt, known = "how far is the lesion from the ventricle?", (*KNOWN, "white matter lesion")
    parts = [frozenset({"white matter lesion"}), frozenset({"brainstem"})]
    said = ungrounded(prompt, [lesion, near], ONTOLOGY, known, parts)  # type: ignore[list-item]
    assert said is not None and "asking for the brainstem too" in said
    assert ungrounded(prompt, [lesion, near], ONTOLOGY, known, parts[:1]) is None  # type: ignore[list-item]
    named = prompt.replace("ventricle", "brain stem")
    assert ungrounded(named, [lesion, near], ONTOLOGY, known, parts) is None  # type: ignore[list-item]


@given(st.text(max_size=200))
@settings(max_examples=100)
def test_grounding_never_fails_on_any_prompt(prompt: str) -> None:
    ungrounded(prompt, [("hippocampus", "left")], ONTOLOGY, KNOWN)


def test_condition_head_moves_with_a_loss_on_phi(tokenizer: Tokenizer) -> None:
    """Gradients reach α's first embedding from φ: what lets the segmentation loss train α."""
    model = LanguageModel(TINY, tokenizer.get_vocab_size())
    model(torch.randint(0, 400, (1, 5))).phi.sum().backward()
    gradient = model.decoder.get_input_embeddings().weight.grad
    assert gradient is not None and np.isfinite(gradient.numpy()).all() and gradient.abs().sum() > 0
