"""Lobes and territories in words, on a head of boxes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.vp_model.program_cases import BOXES, TARGETS, VOLUMES, Box, BoxVision, make_images
from vp_model.imaging.intensity import Image
from vp_model.ontology import load_ontology
from vp_model.ontology.places import WHITE_MATTER, load_places
from vp_model.outcome import InputVolume
from vp_model.program.environment import ProgramEnvironment
from vp_model.program.places import SCHEMATIC

LOBES: Mapping[str, Box] = {
    "left cerebral white matter": ((-9, -10, -4), (-3, 9, 10)),
    "left frontal lobe": ((-11, 0, -4), (-9, 9, 10)),
    "left parietal lobe": ((-11, -10, -4), (-9, 0, 10)),
    "right occipital lobe": ((9, -10, -4), (11, 9, 10)),
    "brainstem": BOXES["brainstem"],
}
LESION = "white matter lesion"


def said(
    lesion: Box, code: str = "lobe_of(roi)", names: str = "v1<MOD>", landmarks: Mapping[str, Box] = LOBES
) -> tuple[str, str]:
    """(answer, error) of a program on a lesion."""
    images: Mapping[str, Image] = make_images()
    vision = BoxVision(images, {**landmarks, LESION: lesion})
    environment = ProgramEnvironment(VOLUMES, images, vision, TARGETS)
    program = f'task("location")\nroi = segment("{LESION}", {names})\nanswer({code}, roi)\n'
    result = environment.step(program, np.zeros((program.count("<MOD>"), 32), np.float32))
    texts = [text.text for text, _ in environment.findings.texts]
    return "".join(texts), result.error


@pytest.mark.requirement("Characterisation: lobe, with its side, and territory of a lesion in words")
@pytest.mark.parametrize(
    ("lesion", "lobe"),
    [
        (((-8, 3, 0), (-5, 7, 4)), "left frontal lobe"),
        (((-8, -7, 0), (-5, -3, 4)), "left parietal lobe"),
        (((8, -3, 0), (11, 3, 4)), "right occipital lobe"),
        (((-2, -7, -7), (2, -4, -2)), "brainstem"),
    ],
)
def test_white_matter_belongs_to_the_lobe_of_the_nearest_cortex_and_a_structure_to_itself(
    lesion: Box, lobe: str
) -> None:
    assert said(lesion) == (lobe, "")


def test_a_lesion_that_is_mostly_nowhere_is_said_to_lie_in_several_places() -> None:
    landmarks = {
        **LOBES,
        "left parietal lobe": ((-11, -10, -4), (-9, -2, 10)),
        "left frontal lobe": ((-11, -2, -4), (-9, 2, 10)),
        "left temporal lobe": ((-11, 2, -4), (-9, 9, 10)),
    }
    answer, error = said(((-8, -9, 0), (-5, 8, 4)), landmarks=landmarks)
    assert error == ""
    assert answer == "left parietal lobe and left temporal lobe"


def test_a_lesion_of_both_sides_is_given_none() -> None:
    landmarks = {"left frontal lobe": LOBES["left frontal lobe"], "right frontal lobe": LOBES["right occipital lobe"]}
    assert said(((-8, -3, 0), (8, 3, 4)), landmarks=landmarks) == ("frontal lobe", "")


def test_territories_are_told_by_gyri() -> None:
    landmarks = {"left precentral gyrus": LOBES["left frontal lobe"], "left precuneus": LOBES["left parietal lobe"]}
    for lesion, artery in ((((-8, 3, 0), (-5, 7, 4)), "middle"), (((-8, -7, 0), (-5, -3, 4)), "anterior")):
        answer, error = said(lesion, "territory_of(roi)", landmarks=landmarks)
        assert (answer, error) == (f"{artery} cerebral artery territory", "")


@pytest.mark.requirement("What is uncertain about a result is said with it")
def test_a_territory_is_said_to_be_schematic_and_a_lobe_is_not() -> None:
    images = make_images()
    for code, warned in (("territory_of(roi)", [SCHEMATIC]), ("lobe_of(roi)", [])):
        vision = BoxVision(images, {**LOBES, LESION: ((-8, 3, 0), (-5, 7, 4))})
        environment = ProgramEnvironment(VOLUMES, images, vision, TARGETS)
        program = f'task("location")\nroi = segment("{LESION}", v1<MOD>)\nanswer({code}, roi)\n'
        assert environment.step(program, np.zeros((1, 32), np.float32)).error == ""
        assert environment.findings.warnings == warned


def chosen(lobe: str, lesion: Box, names: str = "v1<MOD>", landmarks: Mapping[str, Box] = LOBES) -> tuple[float, str]:
    """(share in % of a lesion that lies in a lobe, error)."""
    environment = ProgramEnvironment(
        VOLUMES, make_images(), BoxVision(make_images(), {**landmarks, LESION: lesion}), TARGETS
    )
    program = (
        f'task("relative volume analysis")\nroi = segment("{LESION}", {names})\npart = in_lobe(roi, "{lobe}")\n'
        "for when in visits(roi):\n"
        '    report("percent of region", percent_of(volume(at(part, when)), volume(at(roi, when))))\n'
    )
    result = environment.step(program, np.zeros((program.count("<MOD>"), 32), np.float32))
    shares = [reported.quantity.value for reported in environment.findings.reported]
    assert len(set(shares)) < 2
    return (shares[0] if shares else 0.0), result.error


@pytest.mark.requirement("Lesions can be selected by side, lobe, size and signal")
def test_lesions_are_chosen_by_lobe_with_or_without_its_side() -> None:
    across: Box = ((-8, -6, 0), (-5, 6, 4))
    assert chosen("left frontal lobe", across)[0] == pytest.approx(50, abs=1)
    assert chosen("frontal lobe", across) == chosen("left frontal lobe", across)
    assert chosen("parietal lobe", across)[0] == pytest.approx(50, abs=1)
    assert chosen("right frontal lobe", across) == (0.0, "")
    assert chosen("supratentorial region", across) == (pytest.approx(100), "")


def test_what_lies_in_the_brainstem_is_infratentorial() -> None:
    within: Box = ((-2, -7, -7), (2, -4, -2))
    assert chosen("brainstem", within) == chosen("infratentorial region", within) == (pytest.approx(100), "")
    assert chosen("supratentorial region", within) == (0.0, "")


def test_a_lobe_is_chosen_from_in_every_session() -> None:
    assert chosen("left frontal lobe", ((-8, 3, 0), (-5, 7, 4)), "v1<MOD>, v3<MOD>") == (pytest.approx(100), "")


def test_nothing_is_chosen_by_a_lobe_where_a_head_cannot_be_made_out() -> None:
    """An empty part would be told as no lesion in the lobe."""
    _, error = chosen("frontal lobe", ((-8, 3, 0), (-5, 7, 4)), landmarks={})
    assert "cannot be told: the anatomy around it was not found" in error


def test_what_is_chosen_by_an_experimental_lobe_is_experimental() -> None:
    for experimental, marked in ((("occipital lobe", "right"), True), (("frontal lobe", "left"), False)):
        vision = BoxVision(make_images(), {**LOBES, LESION: ((8, -3, 0), (11, 3, 4))})
        environment = ProgramEnvironment(VOLUMES, make_images(), vision, TARGETS, experimental=[experimental])  # type: ignore[list-item]
        code = f'task("segmentation")\nroi = segment("{LESION}", v1<MOD>)\nshow(in_lobe(roi, "right occipital lobe"))\n'
        assert environment.step(code, np.zeros((1, 32), np.float32)).error == ""
        (shown,) = environment.findings.shown
        assert shown.roi.experimental is marked


def test_nothing_is_said_of_a_lesion_that_was_not_found_or_a_head_that_cannot_be_made_out() -> None:
    assert "not found" in said(((50, 50, 50), (51, 51, 51)))[0]
    assert said(((-8, 3, 0), (-5, 7, 4)), landmarks={}) == ("the anatomy around it was not found", "")


def test_a_place_is_told_of_one_session_at_a_time() -> None:
    answer, error = said(((-8, 3, 0), (-5, 7, 4)), names="v1<MOD>, v3<MOD>")
    assert answer == "" and "spans 2 sessions" in error


def test_anatomy_is_told_on_the_image_that_shows_it_best() -> None:
    images = make_images()
    asked: list[str] = []

    class Watched(BoxVision):
        def landmarks(self, volume, regions):  # type: ignore[no-untyped-def]
            asked.append(volume)
            return super().landmarks(volume, regions)

    for kinds, best in ((("FLAIR", "T1"), "v2"), (("DWI", "FLAIR"), "v2"), (("ADC", "DWI"), "v1")):
        volumes = [InputVolume(f"v{n}", kind, "2024-03-01", 0) for n, kind in enumerate(kinds, 1)]
        vision = Watched(images, {**LOBES, LESION: ((-8, 3, 0), (-5, 7, 4))})
        environment = ProgramEnvironment(volumes, images, vision, TARGETS)
        code = f'task("location")\nroi = segment("{LESION}", v1<MOD>, v2<MOD>)\nanswer(lobe_of(roi), roi)\n'
        assert environment.step(code, np.zeros((2, 32), np.float32)).error == ""
        assert asked.pop() == best


def test_places_are_told_by_structures_of_the_ontology() -> None:
    structures = load_ontology().structures
    assert WHITE_MATTER in structures
    for aspect, places in load_places().items():
        assert {*places.cortex, *places.structures} <= {*structures}
        assert not {*places.cortex} & {*places.structures}
        for place in {*places.cortex.values(), *places.structures.values()}:
            assert (place if aspect == "lobe" else f"{place} territory") in structures, place
