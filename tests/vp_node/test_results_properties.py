"""Whatever an outcome holds, the node makes no object that its own check or dciodvfy rejects."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.vp_node.results_support.cases import (
    GEOMETRIES,
    PROVENANCE,
    chosen,
    classic,
    encoded,
    enhanced,
    mask_of,
    outcome_of,
    volumes_in,
    written,
)
from tests.vp_node.results_support.tools import dciodvfy_errors, program
from vp_model.outcome import DerivedVolume, Measurement, Outcome, Text
from vp_model.program.vocabulary import measurement_names
from vp_node.results import PromptProvenance, check_objects
from vp_node.results.codes import UNIT_MEANINGS
from vp_node.results.model import Picture, Wanted
from vp_node.studies.model import ChosenVolume

EXAMPLES = int(os.environ.get("VP_EXAMPLES", "3"))
"""Of each geometry; more with the variable."""
STRUCTURES = (
    "hippocampus",
    "white matter lesion",
    "brainstem",
    "resection cavity",
    "tissue around hippocampus",
    "x" * 80,
)
SIDES = ("left", "right", "both", "midline", "")
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=90)
values = st.one_of(
    st.floats(-1e9, 1e9, allow_nan=False),
    st.sampled_from([float("nan"), float("inf"), 1e-300, -0.0, 123456789.123456789]),
)
points = st.lists(st.tuples(*[st.floats(-300, 300, width=32)] * 3), max_size=8).map(tuple)


@st.composite
def outcomes(draw: st.DrawFn, items: tuple[ChosenVolume, ...]) -> Outcome:
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    masks = []
    for number in range(draw(st.integers(0, 4))):
        item = draw(st.sampled_from(items))
        density = draw(st.sampled_from([0.0, 0.002, 0.3, 1.0]))
        voxels = generator.random(item.volume.shape) < density
        structure, side = draw(st.sampled_from(STRUCTURES)), draw(st.sampled_from(SIDES))
        masks.append(mask_of(item, f"mask-{number}", structure, side, voxels, draw(st.booleans())))  # type: ignore[arg-type]
    names = [mask.identifier for mask in masks]
    of_masks = st.lists(st.sampled_from(names), unique=True, max_size=2).map(tuple) if names else st.just(())
    visits = st.sampled_from([(), ("2023-01-02", "2024-03-01")])

    def measurement() -> Measurement:
        return Measurement(
            draw(
                st.sampled_from(
                    [*measurement_names(), "a new measurement of a long name, longer than a code's meaning"]
                )
            ),
            draw(values),
            draw(st.sampled_from([*UNIT_MEANINGS, ""])),
            draw(st.sampled_from((*STRUCTURES, ""))),
            draw(st.sampled_from(SIDES)),  # type: ignore[arg-type]
            draw(st.sampled_from(["", "2024-03-01"])),
            draw(texts),
            draw(of_masks),
            draw(visits),
            draw(points),
            draw(st.sampled_from(["", items[0].name])),
        )

    derived = []
    for number in range(draw(st.integers(0, 1))):
        shape = tuple(draw(st.integers(1, 4)) for _ in range(3))
        voxels = (generator.normal(size=shape) * draw(st.sampled_from([0, 1e-6, 1, 3e4, 1e9]))).astype(np.float32)
        derived.append(
            DerivedVolume(f"image-{number}", "crop", items[0].name, draw(texts), voxels, items[0].volume.world)
        )
    return outcome_of(
        items,
        status=draw(st.sampled_from(["answered", "refused"])),
        reason=draw(texts),
        structures=tuple(
            (draw(st.sampled_from(STRUCTURES)), draw(st.sampled_from(SIDES))) for _ in range(draw(st.integers(0, 2)))
        ),
        masks=tuple(masks),
        measurements=tuple(measurement() for _ in range(draw(st.integers(0, 4)))),
        texts=tuple(
            Text(draw(texts), draw(st.sampled_from(["", "enhancement", "location"])), draw(st.sampled_from(STRUCTURES)))
            for _ in range(draw(st.integers(0, 2)))
        ),
        derived=tuple(derived),
        warnings=tuple(draw(st.lists(texts, max_size=2))),
    )


@pytest.fixture(scope="module", params=[*GEOMETRIES, "enhanced"])
def items(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ChosenVolume, ...]:
    folder = tmp_path_factory.mktemp("source")
    if request.param == "enhanced":
        enhanced(folder / "in", "oblique")
    else:
        attributes: dict[str, Any] = {"PatientSex": "", "PatientName": "Ä^Ö", "SpecificCharacterSet": "ISO_IR 100"}
        classic(folder / "in", request.param, "CT" if request.param == "tilted" else "MR", attributes=attributes)
    return chosen(volumes_in(folder / "in"))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # an example costs a second: what fails is told as it is
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:Glyph")  # the font of the PDF has not every script
def test_no_outcome_makes_an_object_that_is_rejected(items: tuple[ChosenVolume, ...], data: st.DataObject) -> None:
    program("dciodvfy")
    outcome = data.draw(outcomes(items))
    provenance = PromptProvenance(
        data.draw(texts), 1, data.draw(texts), data.draw(texts), data.draw(texts), PROVENANCE.requested_at
    )
    forms = data.draw(st.sampled_from([("binary",), ("labelmap",), ("fractional",)]))
    sources = {frame.sop_instance_uid: frame.path for item in items for frame in item.volume.frames}
    with TemporaryDirectory() as folder:
        picture = Picture(Path(folder) / "overlay.png", data.draw(texts))
        Image.new("RGB", (31, 17), (200, 10, 10)).save(picture.path)
        wanted = Wanted(forms, data.draw(st.booleans()), data.draw(st.booleans()), (picture,))
        objects = encoded(outcome, items, provenance=provenance, wanted=wanted)
        paths = written(objects, Path(folder))
        for path, found in check_objects(paths, sources).items():
            assert [finding for finding in found if finding.severity == "error"] == [], path.name
        for path, item in zip(paths, objects, strict=True):
            if item.sop_class_uid != LABEL_MAP:  # unknown to dciodvfy of 2022
                assert dciodvfy_errors(path) == [], item.role
        again = encoded(outcome, items, provenance=provenance, wanted=wanted)
        for path, other in zip(paths, written(again, Path(folder) / "again"), strict=True):
            assert path.read_bytes() == other.read_bytes()
