"""Names of structures that people shorten, turn round or pull apart, and dates as people write them."""

from __future__ import annotations

import pytest

from vp_model.language.dates import with_dates
from vp_model.language.reading import read_all

VISITS = ("2022-05-10", "2024-03-01")


def said(prompt: str) -> list[str]:
    """What is read in order: names of structures, and sides."""
    return [item.name for item in read_all(prompt) if item.sort == "structure" or item.name in ("left", "right")]


@pytest.mark.requirement("names that share their last word are all found")
@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("third vs fourth ventricle, which is bigger", ["third ventricle", "fourth ventricle"]),
        ("lateral, third and fourth ventricles", ["lateral ventricle", "third ventricle", "fourth ventricle"]),
        ("cerebral and cerebellar white matter", ["cerebral white matter", "cerebellar white matter"]),
        ("ratio gray to white matter", ["cerebral cortex", "cerebral white matter"]),
        ("gray and white matter", ["cerebral cortex", "cerebral white matter"]),
        ("volumes of the frontal and the temporal lobes", ["frontal lobe", "temporal lobe"]),
    ],
)
def test_names_that_share_their_last_words_are_completed(prompt: str, names: list[str]) -> None:
    assert said(prompt) == names


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("ventricle, left lateral: volume", ["left", "lateral ventricle"]),
        ("lateral left ventricle size", ["left", "lateral ventricle"]),
        ("white left matter", ["left", "cerebral white matter"]),
        ("VENTRICLE VOLUME LEFT LATERAL", ["left", "lateral ventricle"]),
        ("how much gray matter in the cerebellum", ["cerebellar gray matter"]),
        ("how much gray matter is there in the cerebellum", ["cerebellar gray matter"]),
    ],
)
def test_a_name_is_found_in_another_order_and_with_its_side_within(prompt: str, names: list[str]) -> None:
    assert said(prompt) == names


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("volume third ventricle lateral ventricle", ["third ventricle", "lateral ventricle"]),
        ("hippocampus left and amygdala", ["hippocampus", "left", "amygdala"]),
        ("is the caudate posterior to the left lateral ventricle", ["caudate", "left", "lateral ventricle"]),
        ("is the caudate lateral to the third ventricle", ["caudate", "third ventricle"]),
        ("amygdala on the left side and third ventricle", ["amygdala", "left", "third ventricle"]),
        ("cerebellum, left cortex", ["cerebellum", "left", "cerebral cortex"]),
        ("what is the matter with this white image, is anything wrong with it", []),
    ],
)
def test_names_that_are_whole_stay_as_they_are(prompt: str, names: list[str]) -> None:
    assert said(prompt) == names


def test_a_place_of_lesions_is_no_part_of_their_name() -> None:
    read = [(item.sort, item.name) for item in read_all("number of periventricular lesions")]
    assert read[-2:] == [("concept", "periventricular"), ("structure", "lesion")]
    within = [(item.sort, item.name) for item in read_all("lesions within 5 mm of the ventricles")]
    assert within == [("structure", "lesion"), ("concept", "periventricular")]


@pytest.mark.requirement("a session is found by its date as people write it")
@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("volume on 10 May 2022", "volume on 2022-05-10"),
        ("volume on May 10th, 2022, please", "volume on 2022-05-10, please"),
        ("volume on 10.5.2022", "volume on 2022-05-10"),
        ("volume on 05/10/2022", "volume on 2022-05-10"),
        ("how large was it in May 2022?", "how large was it in 2022-05-10?"),
        ("the 2024 scan", "the 2024-03-01 scan"),
        ("volume (2022/05/10)", "volume (2022-05-10)"),
        ("volume in Mrach 2024", "volume in 2024-03-01"),
    ],
)
def test_the_date_of_a_session_is_written_as_in_the_study(prompt: str, read: str) -> None:
    assert with_dates(prompt, VISITS) == read


@pytest.mark.parametrize(
    "prompt",
    [
        "change since 2022",
        "from 2022 to 2024",
        "on 11 May 2022",
        "lesions above 2022 mm3",
        "in 2023",
        "a 1-2-2022 thing",
    ],
)
def test_other_dates_stay_as_they_are(prompt: str) -> None:
    assert with_dates(prompt, VISITS) == prompt


def test_a_year_with_two_sessions_names_neither() -> None:
    assert with_dates("volume in 2024", (*VISITS, "2024-09-01")) == "volume in 2024"
