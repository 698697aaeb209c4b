"""Pictures and pages of two sessions, for who has no viewer: overlays, a value over its dates, SC, PDF and HTML."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.vp_node.results_support.cases import (
    STUDY,
    chosen,
    classic,
    encoded,
    mask_of,
    on_the_left,
    outcome_of,
    volumes_in,
    written,
)
from tests.vp_node.results_support.tools import dciodvfy_errors, program
from vp_model.outcome import Measurement, Outcome
from vp_node.config import Config
from vp_node.results import check_objects
from vp_node.results.codes import structure_codes
from vp_node.results.drawing import draw
from vp_node.results.model import Picture, Wanted
from vp_node.results.webpage import webpage
from vp_node.studies.model import ChosenVolume

DATES = ("2023-01-02", "2024-03-01")


@pytest.fixture(scope="module")
def answered(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[tuple[ChosenVolume, ...], Outcome, tuple[Picture, ...]]:
    folder = tmp_path_factory.mktemp("run")
    classic(folder / "in" / "old", "oblique", study="1.2.3.4.1", attributes={"StudyDate": "20230102"})
    classic(folder / "in" / "new", "oblique", study=STUDY)
    items = chosen(volumes_in(folder / "in"))
    masks = tuple(
        mask_of(item, f"mask-{n}", "hippocampus", "left", on_the_left(item.volume, n)) for n, item in enumerate(items)
    )
    measurements = tuple(
        Measurement("volume", 3.5 - n / 4, "ml", "hippocampus", "left", date, "left hippocampus", (f"mask-{n}",))
        for n, date in enumerate(DATES)
    )
    outcome = outcome_of(items, masks=masks, measurements=measurements)
    (folder / "outcome").mkdir()
    outcome.save(folder / "outcome")
    (folder / "pictures").mkdir()
    return items, outcome, draw(folder / "outcome", items, folder / "pictures", "run", Config().compute)


def test_each_session_has_its_overlay_and_the_values_have_their_curve(
    answered: tuple[tuple[ChosenVolume, ...], Outcome, tuple[Picture, ...]],
) -> None:
    items, _, pictures = answered
    kinds = [item.volume.kind for item in items]
    assert [picture.caption for picture in pictures] == [
        f"left hippocampus on v1 ({kinds[0]}, {DATES[0]})",
        f"left hippocampus on v2 ({kinds[1]}, {DATES[1]})",
        "left hippocampus: volume over time",
    ]
    color = np.asarray(structure_codes("hippocampus", "left").color) / 255
    for picture in pictures[:2]:
        pixels = imread(picture.path)[..., :3]
        assert np.all(np.abs(pixels - color) < 0.02, axis=-1).sum() > 20, "the region's edge has its colour"


def test_sides_have_colours_of_their_own() -> None:
    colors = {structure_codes("hippocampus", side).color for side in ("left", "right")}
    assert len(colors) == 2


def test_pictures_and_report_go_out_as_objects_that_others_accept(
    answered: tuple[tuple[ChosenVolume, ...], Outcome, tuple[Picture, ...]], tmp_path: Path
) -> None:
    items, outcome, pictures = answered
    objects = encoded(outcome, items, wanted=Wanted(capture=True, pdf=True, pictures=pictures))
    assert [item.role for item in objects] == ["seg", "capture", "capture", "capture", "pdf", "sr"]
    paths = written(objects, tmp_path)
    sources = {frame.sop_instance_uid: frame.path for item in items for frame in item.volume.frames}
    assert [finding for found in check_objects(paths, sources).values() for finding in found] == []
    assert [error for path in paths for error in dciodvfy_errors(path)] == []


def test_page_needs_nothing_from_anywhere_and_shows_in_a_browser(
    answered: tuple[tuple[ChosenVolume, ...], Outcome, tuple[Picture, ...]], tmp_path: Path
) -> None:
    _, outcome, pictures = answered
    page = tmp_path / "report.html"
    page.write_text(webpage({"prompt": "<b>p</b>", "run": "r"}, outcome, pictures), encoding="utf-8")
    html = page.read_text(encoding="utf-8")
    assert html.count('src="data:image/png;base64,') == 3 and "://" not in html and "<script" not in html
    assert "&lt;b&gt;p" in html and "Finds the left hippocampus on v1" in html
    picture = tmp_path / "page.png"
    command = [program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,2400"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and picture.is_file(), done.stderr[-500:]
    pixels = imread(picture)[..., :3]
    assert (pixels.max(axis=-1) < 0.02).mean() > 0.1, "the black ground of the overlays"
