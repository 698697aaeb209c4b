"""A lesion keeps its identity by its place, whatever becomes of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.vp_node.results_support.cases import chosen, classic, encoded, mask_of, outcome_of, volumes_in, written
from vp_model.outcome import Mask
from vp_node.results.numbers import SeriesNumbers
from vp_node.results.sources import read_sources
from vp_node.results.tracking import Tracking, regions_of, track
from vp_node.results.uids import tracking_uid
from vp_node.studies.model import ChosenVolume

LESION = "white matter lesion"


@pytest.fixture
def items(tmp_path: Path) -> tuple[ChosenVolume, ...]:
    classic(tmp_path / "in", "oblique")
    return chosen(volumes_in(tmp_path / "in"))


def box(item: ChosenVolume, *corner: int, size: int = 3) -> np.ndarray:
    voxels = np.zeros(item.volume.shape, bool)
    voxels[tuple(slice(start, start + size) for start in corner)] = True
    return voxels


def lesions(item: ChosenVolume, *corners: tuple[int, int, int], size: int = 3) -> tuple[Mask, ...]:
    return tuple(
        mask_of(item, f"mask-{n}", LESION, "", box(item, *corner, size=size)) for n, corner in enumerate(corners, 1)
    )


def tracked(items: tuple[ChosenVolume, ...], masks: tuple[Mask, ...], known: tuple = ()) -> list[Tracking]:  # type: ignore[type-arg]
    (source,) = read_sources(items)
    found = track([(source, mask) for mask in masks], known)
    return [found[mask.identifier] for mask in masks]


def test_lesions_are_named_by_their_place_not_by_their_order(items: tuple[ChosenVolume, ...]) -> None:
    first, second = (1, 1, 1), (10, 8, 4)
    forwards = tracked(items, lesions(items[0], first, second))
    backwards = tracked(items, lesions(items[0], second, first))
    assert [item.uid for item in forwards] == [item.uid for item in reversed(backwards)]
    assert forwards[0].uid != forwards[1].uid


def test_lesion_keeps_its_uid_when_another_vanishes_and_it_grows(
    items: tuple[ChosenVolume, ...], tmp_path: Path
) -> None:
    before = lesions(items[0], (1, 1, 1), (10, 8, 4))
    objects = encoded(outcome_of(items, masks=before), items)
    path = written(objects, tmp_path / "out")[0]
    known = regions_of(path)
    (kept,) = tracked(items, lesions(items[0], (10, 8, 4), size=4), known)
    segments = objects[0].dataset.SegmentSequence
    assert kept == Tracking(segments[1].TrackingID, segments[1].TrackingUID)
    three = tracked(items, lesions(items[0], (15, 1, 1), (10, 8, 4), (1, 1, 1)), known)
    assert [item.uid for item in three[1:]] == [segments[1].TrackingUID, segments[0].TrackingUID]
    assert three[0].uid not in {segment.TrackingUID for segment in segments}
    assert len({item.identifier for item in three}) == 3


def test_new_lesion_elsewhere_is_not_the_old_one(items: tuple[ChosenVolume, ...], tmp_path: Path) -> None:
    objects = encoded(outcome_of(items, masks=lesions(items[0], (1, 1, 1))), items)
    known = regions_of(written(objects, tmp_path / "out")[0])
    (other,) = tracked(items, lesions(items[0], (12, 9, 5)), known)
    assert other.uid != known[0].tracking_uid


def test_anatomy_is_the_same_wherever_it_is_found(items: tuple[ChosenVolume, ...], tmp_path: Path) -> None:
    def hippocampus(*corner: int) -> tuple[Mask, ...]:
        return (mask_of(items[0], "mask-1", "hippocampus", "left", box(items[0], *corner)),)

    objects = encoded(outcome_of(items, masks=hippocampus(1, 1, 1)), items)
    known = regions_of(written(objects, tmp_path / "out")[0])
    (other,) = tracked(items, hippocampus(12, 9, 5), known)
    assert other.uid == known[0].tracking_uid == tracking_uid(items[0].volume.patient_key, "hippocampus", "left")


def test_regions_are_read_where_they_are(items: tuple[ChosenVolume, ...], tmp_path: Path) -> None:
    masks = lesions(items[0], (1, 1, 1), (10, 8, 4))
    path = written(encoded(outcome_of(items, masks=masks), items), tmp_path / "out")[0]
    for mask, region in zip(masks, regions_of(path), strict=True):
        expected = np.argwhere(mask.voxels) @ mask.world[:3, :3].T + mask.world[:3, 3]
        assert np.allclose(np.sort(region.points, axis=0), np.sort(expected, axis=0), atol=1e-3)


def test_one_lesion_on_two_volumes_has_one_uid(tmp_path: Path) -> None:
    common = {"frame_of_reference": "1.2.3.4", "study": "1.2.3.5"}
    classic(tmp_path / "in" / "a", "oblique", **common)
    classic(tmp_path / "in" / "b", "oblique", **common)
    items = chosen(volumes_in(tmp_path / "in"))
    assert len(items) == 2
    masks = tuple(
        mask_of(item, f"{item.name}-{n}", LESION, "", box(item, *corner))
        for item, order in zip(items, (((1, 1, 1), (10, 8, 4)), ((10, 8, 4), (1, 1, 1))), strict=True)
        for n, corner in enumerate(order)
    )
    sources = {source.chosen.name: source for source in read_sources(items)}
    found = track([(sources[mask.volume], mask) for mask in masks])
    one, two, two_again, one_again = (found[mask.identifier] for mask in masks)
    assert (one, two) == (one_again, two_again)


def test_more_than_ten_segmentations_and_derived_series_have_numbers_of_their_own() -> None:
    numbers = SeriesNumbers([9001])
    taken = [
        numbers.take(9002),
        *(numbers.take(9001 + 10 * k) for k in range(30)),
        *(numbers.take(9100) for _ in range(5)),
    ]
    assert len(set(taken)) == len(taken) and 9001 not in taken
