"""An outcome that was saved is the one that is loaded, whatever is in it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vp_model.outcome import (
    ARRAYS_FILE,
    OUTCOME_FILE,
    DerivedVolume,
    InputVolume,
    Mask,
    Measurement,
    ModelIdentity,
    Outcome,
    Side,
    Step,
    Text,
    Transcript,
)

words = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
every_side: tuple[Side, ...] = ("left", "right", "both", "midline", "")
sides = st.sampled_from(every_side)
dates = st.dates().map(str) | st.just("")
finite = st.floats(allow_nan=False, allow_infinity=False)
points = st.tuples(finite, finite, finite)
identifiers = st.lists(words, max_size=3).map(tuple)
shapes = arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
worlds = arrays.arrays(np.float64, (4, 4), elements=st.floats(-1e6, 1e6))
single = st.floats(width=32, allow_nan=True)


@st.composite
def masks(draw: st.DrawFn, number: int) -> Mask:
    return Mask(
        identifier=f"mask-{number}",
        structure=draw(words),
        side=draw(sides),
        visit=draw(dates),
        session=draw(st.integers(0, 9)),
        volume=draw(words),
        label=draw(words),
        voxels=draw(arrays.arrays(np.bool_, draw(shapes))),
        world=draw(worlds),
        experimental=draw(st.booleans()),
    )


@st.composite
def derived(draw: st.DrawFn, number: int) -> DerivedVolume:
    return DerivedVolume(
        identifier=f"image-{number}",
        operation=draw(st.sampled_from(["crop", "remove", "isolate"])),
        source=draw(words),
        label=draw(words),
        voxels=draw(arrays.arrays(np.float32, draw(shapes), elements=single)),
        world=draw(worlds),
        visit=draw(dates),
        masks=draw(identifiers),
    )


measurements = st.builds(
    Measurement,
    name=words,
    value=finite,
    unit=words,
    structure=words,
    side=sides,
    visit=dates,
    label=words,
    masks=identifiers,
    visits=st.lists(dates, max_size=2).map(tuple),
    points=st.lists(points, max_size=2).map(tuple),
    volume=words,
    experimental=st.booleans(),
)
texts = st.builds(Text, text=words, topic=words, structure=words, side=sides, visit=dates, masks=identifiers)
transcripts = st.builds(
    Transcript,
    prompt=words,
    volumes=st.lists(
        st.builds(InputVolume, name=words, kind=words, visit=dates, session=st.integers(0, 9)), max_size=3
    ).map(tuple),
    steps=st.lists(st.builds(Step, code=words, output=words, error=words), max_size=3).map(tuple),
)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    return Outcome(
        status=draw(st.sampled_from(["answered", "refused", "failed"])),
        transcript=draw(transcripts),
        model=draw(st.builds(ModelIdentity, name=words, version=words, content_hash=words)),
        reason=draw(words),
        task=draw(words),
        structures=tuple(draw(st.lists(st.tuples(words, sides), max_size=3))),
        masks=tuple(draw(masks(number)) for number in range(draw(st.integers(0, 3)))),
        measurements=tuple(draw(st.lists(measurements, max_size=3))),
        texts=tuple(draw(st.lists(texts, max_size=3))),
        derived=tuple(draw(derived(number)) for number in range(draw(st.integers(0, 2)))),
        warnings=tuple(draw(st.lists(words, max_size=2))),
    )


def plain(item: Any) -> Any:
    """Without arrays, so that values compare."""
    return {key: value for key, value in vars(item).items() if not isinstance(value, np.ndarray)}


@settings(max_examples=60, deadline=None)
@given(outcomes())
def test_saved_outcomes_load_unchanged(outcome: Outcome) -> None:
    with tempfile.TemporaryDirectory() as name:
        outcome.save(Path(name))
        loaded = Outcome.load(Path(name))
    assert loaded.summary() == outcome.summary()
    for field in ("status", "transcript", "model", "reason", "task", "structures", "measurements", "texts", "warnings"):
        assert getattr(loaded, field) == getattr(outcome, field), field
    pairs: list[tuple[Any, Any]] = [
        *zip(outcome.masks, loaded.masks, strict=True),
        *zip(outcome.derived, loaded.derived, strict=True),
    ]
    for one, other in pairs:
        assert plain(one) == plain(other)
        assert np.array_equal(one.world, other.world)
        assert one.voxels.dtype == other.voxels.dtype
        assert np.array_equal(one.voxels, other.voxels, equal_nan=one.voxels.dtype == np.float32)


def test_a_saved_outcome_is_json_and_arrays_without_pickle(tmp_path: Path) -> None:
    mask = Mask("mask-1", "brainstem", "", "", 0, "v1", "brainstem", np.ones((2, 3, 4), np.bool_), np.eye(4))
    Outcome("answered", Transcript("p", ()), ModelIdentity("m", "1", "h"), masks=(mask,)).save(tmp_path)
    assert json.loads((tmp_path / OUTCOME_FILE).read_text())["masks"][0]["shape"] == [2, 3, 4]
    with np.load(tmp_path / ARRAYS_FILE, allow_pickle=False) as saved:
        assert saved["mask-1.voxels"].dtype == np.uint8


def test_a_mask_is_found_by_its_identifier() -> None:
    mask = Mask("mask-1", "brainstem", "", "", 0, "v1", "brainstem", np.ones((2, 3, 4), np.bool_), np.eye(4))
    outcome = Outcome("answered", Transcript("p", ()), ModelIdentity("m", "1", "h"), masks=(mask,))
    assert outcome.mask("mask-1") is mask
    with pytest.raises(KeyError, match="mask-2"):
        outcome.mask("mask-2")


def test_the_program_of_a_transcript_is_the_code_of_all_its_steps() -> None:
    transcript = Transcript("p", (), (Step("a = 1\n"), Step("b = 2\n\n", "printed")))
    assert transcript.program == "a = 1\nb = 2"
