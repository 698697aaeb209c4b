"""The report says how sessions were laid on each other, and how well they fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.vp_node.results_support.cases import chosen, classic, encoded, hippocampus, volumes_in, written
from tests.vp_node.results_support.tools import dciodvfy_errors
from vp_model.outcome import Alignment, InputVolume
from vp_node.results import check_objects

PLACE = np.eye(4)
RIGID = Alignment("v1", "v2", "rigid", PLACE, 0.41, 0.63, 0.972, 3.14, 1.26)


@pytest.mark.requirement("registration quality is measured and written into the result")
def test_the_report_says_how_each_volume_was_laid_on_which_and_how_well(tmp_path: Path) -> None:
    classic(tmp_path / "in", "oblique")
    items = chosen(volumes_in(tmp_path / "in"))
    outcome = hippocampus(items)
    volumes = (InputVolume("v1", "FLAIR", "2014-03-05", 0), InputVolume("v2", "T1", "2014-05-25", 1))
    failed = Alignment("v3", "v2", "failed", PLACE, note="Too little of the head is shown.")
    header = Alignment("v4", "v2", "header", PLACE)
    outcome = replace(
        outcome,
        transcript=replace(outcome.transcript, volumes=volumes),
        alignments=(Alignment("v2", "v2", "reference", PLACE), RIGID, failed, header),
    )
    objects = encoded(outcome, items)
    paths = written(objects, tmp_path / "out")
    sources = {str(dcmread(path).SOPInstanceUID): path for path in (tmp_path / "in").glob("*.dcm")}
    found = check_objects(paths, sources)
    assert [item for findings in found.values() for item in findings if item.severity == "error"] == []
    (report,) = [path for path, item in zip(paths, objects, strict=True) if item.role == "sr"]
    assert dciodvfy_errors(report) == []
    said = " ".join(str(item.value) for item in dcmread(report).iterall() if item.keyword == "TextValue")
    assert "v1 (FLAIR, 2014-03-05) on v2 (T1, 2014-05-25): by rigid registration" in said
    assert "by 3.1 mm" in said and "by 1.3°" in said
    assert "(Dice) 0.972; mutual information 0.410 before, 0.630 after" in said
    assert "v3 on v2 (T1, 2014-05-25): registration failed" in said and "Too little of the head" in said
    assert "v4 on v2 (T1, 2014-05-25): as the headers have it." in said
