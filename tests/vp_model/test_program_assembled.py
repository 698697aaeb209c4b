"""Structures that are put together from their parts: the ventricles, the cerebellum, the basal ganglia."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, ModelIdentity, Step
from vp_model.program.environment import ProgramEnvironment, initial_known, region_targets
from vp_model.program.inspection import inspect_program
from vp_model.program.results import build_outcome

VENTRICLES = ("lateral ventricle", "inferior lateral ventricle", "third ventricle", "fourth ventricle")
REGIONS = (
    *(f"{side} {name}" for name in (*VENTRICLES[:2], "caudate", "putamen") for side in ("left", "right")),
    *VENTRICLES[2:],
)
VOLUMES = (InputVolume("v1", "T1", "2024-03-01", 0),)
SHAPE = (20, 8, 4)
ALL = [f"{side} {name}" for name in VENTRICLES[:2] for side in ("left", "right")] + list(VENTRICLES[2:])


class SlabVision:
    """Each region is a slab of two columns, in the order of `REGIONS`."""

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        mask = np.zeros(SHAPE, np.float32)
        start = 2 * REGIONS.index(name)
        mask[start : start + 2] = 1
        return dict.fromkeys(volumes, mask)

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError


def program(name: str, parts: Sequence[str]) -> str:
    lines = [f'p{number} = segment("{part}", v1<MOD>)' for number, part in enumerate(parts)]
    pieces = ", ".join(f"p{number}" for number in range(len(parts)))
    return "\n".join([*lines, f'roi = assemble("{name}", {pieces})', "show(roi)", 'report("volume", volume(roi))'])


def environment() -> ProgramEnvironment:
    image = Image(np.ones(SHAPE, np.float32), np.eye(4))
    return ProgramEnvironment(VOLUMES, {"v1": image}, SlabVision(), region_targets(load_ontology(), REGIONS))


def test_the_ventricles_are_one_structure_without_sides() -> None:
    code, here = program("ventricular system", ALL), environment()
    result = here.step(code)
    assert result.error == ""
    outcome = build_outcome(here, "prompt", [Step(code)], ModelIdentity("m", "1", "00"))
    (mask,) = outcome.masks
    assert (mask.structure, mask.side) == ("ventricular system", "")
    assert mask.voxels.sum() == 6 * 2 * SHAPE[1] * SHAPE[2]
    assert outcome.measurements[0].value == pytest.approx(mask.voxels.sum() / 1000)
    assert outcome.structures == (("ventricular system", ""),)


def test_a_paired_structure_keeps_its_side() -> None:
    code, here = program("dorsal striatum", ["right caudate", "right putamen"]), environment()
    assert here.step(code).error == ""
    outcome = build_outcome(here, "prompt", [Step(code)], ModelIdentity("m", "1", "00"))
    assert outcome.structures == (("dorsal striatum", "right"),)
    assert {(mask.structure, mask.side) for mask in outcome.masks} == {("dorsal striatum", "right")}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ventricular system", ALL[:-1]),
        ("ventricular system", [*ALL, "left caudate"]),
        ("dorsal striatum", ["left caudate", "right putamen"]),
        ("dorsal striatum", ["left caudate", "left putamen", "right caudate"]),
    ],
)
def test_what_is_not_whole_is_not_called_whole(name: str, parts: Sequence[str]) -> None:
    assert f"The {name} is made of" in environment().step(program(name, parts)).error


def test_a_plan_names_the_whole_not_its_parts() -> None:
    targets = region_targets(load_ontology(), REGIONS)
    code = program("ventricular system", ALL) + '\nother = segment("left caudate", v1<MOD>)\nshow(other)'
    found = inspect_program(code, initial_known(VOLUMES, targets), targets)
    assert found.structures == (("ventricular system", ""), ("caudate", "left"))


def test_only_what_has_all_its_parts_can_be_put_together() -> None:
    ontology = load_ontology()
    assert ontology.assembled({"caudate", "putamen"}) == {"dorsal striatum"}
    assert ontology.assembled({"caudate"}) == frozenset()


def test_parts_exist_and_agree_about_sides() -> None:
    """A paired structure is made of paired ones: on each side it has all its parts."""
    ontology = load_ontology()
    for structure in ontology.structures.values():
        for part in structure.parts:
            assert ontology.structures[part].paired or not structure.paired
            assert not ontology.structures[part].parts, "parts of parts are not followed"
