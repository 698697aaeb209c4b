"""The reading of a prompt: names found by rule, whatever the spelling, and what α cannot know marked."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp_model.language.lexicon import load_lexicon
from vp_model.language.reading import asked_for, marks, names, read, read_all, reading_of, words_of
from vp_model.ontology import load_ontology

KNOWN = frozenset(
    {"hippocampus", "lateral ventricle", "cerebral white matter", "white matter lesion", "cerebral cortex"}
)


@pytest.mark.parametrize(
    ("prompt", "reading"),
    [
        ("Segment the left hippocampus", "segment[segment] the left[left][#1][hippocampus]"),
        ("hippocampal volumes, please", "[#1][hippocampus] volumes[volume] please"),
        ("SEGMENT teh left hipocampus", "segment[segment] teh[_] left[left][#1][hippocampus]"),
        ("how big are the latteral ventricles?", "how big[volume] are the[#1][lateral ventricle]"),
        ("the white mater ofthe left side", "the[#1][cerebral white matter] of the left[left] side"),
        ("white-matter lesions against gray matter", "[#1][white matter lesion] against[compare][#2][cerebral cortex]"),
        ("has the lesion grown?", "has the[#1][white matter lesion] grown[grow]"),
        ("wm hyperintensitues", "[#1][white matter lesion]"),
        ("the plaques", "the[#1][white matter lesion]"),
        ("r/o stroke: hippocampi", "rule out stroke[?][#1][hippocampus]"),
        ("", ""),
    ],
)
def test_names_slips_and_concepts_are_read(prompt: str, reading: str) -> None:
    assert reading_of(prompt, KNOWN, ()).text == reading


@pytest.mark.parametrize(
    ("prompt", "reading"),
    [
        ("cerebrla whtie matter", "[#1][cerebral white matter]"),
        ("lateral vnetrilce", "[#1][lateral ventricle]"),
        ("proton denstiy", "proton density[absent]"),
        ("gedaient echo", "gradient echo[absent]"),
        ("crebrla white matter", "[#1][cerebral white matter]"),
        ("the crebrla", "the crebrla[_]"),
        ("hand me the hippocampus", "hand me the[#1][hippocampus]"),
        ("my hand", "my hand[foreign]"),
        ("scan w/o the hippocampus", "scan[visit] without the[remove][#1][hippocampus]"),
        ("left atrium", "left atrium[foreign]"),
        ("left atrium of the lateral ventricle", "left[left] atrium of the lateral ventricle[?]"),
        ("volume of the tiger", "volume[volume] of the tiger[foreign]"),
        ("signal in the middle temporal gyrus", "signal[intensity] in the middle temporal gyrus[?]"),
        ("for the age-related white matter change", "for the[#1][white matter lesion]"),
        ("right + left hippocampi", "right and left[both][#1][hippocampus]"),
    ],
)
def test_a_word_that_makes_a_name_with_those_beside_it_is_read_as_such(prompt: str, reading: str) -> None:
    assert reading_of(prompt, KNOWN, ()).text == reading


@pytest.mark.parametrize(
    ("prompt", "marked"),
    [
        ("the fimbria beside the hippocampus", "fimbria[?]"),
        ("how much has the glioma grown?", "glioma[?]"),
        ("segment the pancreas", "pancreas[foreign]"),
        ("volume of the zorgluk", "zorgluk[_]"),
        ("train the model", "train[_]"),
    ],
)
def test_what_the_weights_do_not_know_is_marked(prompt: str, marked: str) -> None:
    assert marked in reading_of(prompt, KNOWN, ()).text


def test_a_sequence_type_is_marked_as_there_or_absent() -> None:
    assert "flair[there]" in reading_of("mean on flair", KNOWN, {"FLAIR"}).text
    assert "flair[absent]" in reading_of("mean on flair", KNOWN, {"T1"}).text
    assert "t1[there]" in reading_of("mean on t1", KNOWN, {"T1+C"}).text


def test_the_outline_holds_marks_and_numbers_in_their_order() -> None:
    prompt = "crop the right hippocampus and the gray matter with a 12 mm margin on flair, not the glioma"
    outline = reading_of(prompt, KNOWN, {"T1"}).outline
    assert outline == "[crop][right][#1][hippocampus][#2][cerebral cortex] 12[margin][FLAIR][absent][?]"


@pytest.mark.parametrize(
    ("kind", "kinds", "asked"),
    [
        ("T1", {"T1", "T1+C"}, True),
        ("T1+C", {"T1", "T1+C"}, False),
        ("T1+C", {"T1+C", "FLAIR"}, True),
        ("FLAIR", {"T1+C", "FLAIR"}, False),
    ],
)
def test_a_prompt_about_t1_means_the_plain_one_where_there_is_one(kind: str, kinds: set[str], asked: bool) -> None:
    assert asked_for(kind, ("T1",), kinds) is asked


@pytest.mark.parametrize("name", sorted(load_ontology().structures))
def test_every_name_reads_as_itself(name: str) -> None:
    assert [mention.name for mention in read(f"segment the {name}")] == [name]


def test_all_words_of_a_prompt_are_read_in_order() -> None:
    prompt = "how large is the left inferior lateral ventricle, roughly"
    read_words = [word for mention in read_all(prompt) for word in mention.words]
    assert read_words == words_of(prompt)


def test_in_training_marks_are_forgotten_at_times_and_names_never() -> None:
    prompt = "volume of the left hippocampus against the glioma"
    texts = {reading_of(prompt, KNOWN, (), random.Random(seed)).text for seed in range(60)}
    assert len(texts) > 3
    assert all("[hippocampus]" in text and "glioma[?]" in text for text in texts)


def test_every_mark_of_a_reading_is_a_known_mark() -> None:
    known = set(marks(KNOWN))
    for concept in {*load_lexicon().concepts.exact.values()}:
        assert f"[{concept}]" in known


@given(st.text(max_size=300))
def test_any_text_can_be_read(prompt: str) -> None:
    assert names(read(prompt)) <= set(load_ontology().structures)
    text = reading_of(prompt, KNOWN, ()).text
    assert "<" not in text and "\n" not in text


@pytest.mark.parametrize(
    "term", ["gray matter of the cerebellum", "gray matter of cerebellum", "white-matter hyperintensity"]
)
def test_terms_are_known_without_their_articles_and_hyphens(term: str) -> None:
    assert len(read(term)) == 1
