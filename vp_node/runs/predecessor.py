"""What a run follows: the latest run before it that left a report, and the regions that it tracked."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy.orm import Session

from vp_model.outcome import OUTCOME_FILE
from vp_node.database.models import Result, Run, RunState
from vp_node.results.model import Predecessor, TrackedRegion
from vp_node.results.tracking import regions_of

LEFT_RESULTS = frozenset({RunState.SENDING, RunState.DONE, RunState.REFUSED})
"""States of a run whose objects passed the check and were put on their way."""
_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


def predecessor_of(session: Session, run: Run, data_folder: Path) -> Predecessor | None:
    """Goes back over runs that failed or had nothing to say: a reference to a report that was never made dangles."""
    seen: set[str] = {run.id}
    earlier_id = run.supersedes_run_id
    while earlier_id is not None and earlier_id not in seen:
        seen.add(earlier_id)
        earlier = session.get(Run, earlier_id)
        if earlier is None:
            return None
        report = _report_of(earlier)
        if report is not None:
            return Predecessor(
                run_id=earlier.id,
                model=_model_words(earlier, data_folder),
                same_model=earlier.model_hash == run.model_hash,
                sop_class_uid=report.sop_class_uid,
                sop_instance_uid=report.sop_instance_uid,
                series_instance_uid=report.series_instance_uid,
                study_instance_uid=earlier.study.study_instance_uid,
                regions=tracked_regions(earlier, data_folder),
            )
        earlier_id = earlier.supersedes_run_id
    return None


def _report_of(run: Run) -> Result | None:
    """The report that refers to the binary segmentations; it is the last that was written."""
    if run.state not in LEFT_RESULTS:
        return None
    reports = [result for result in run.results if result.role == "sr" and result.form in ("", "binary")]
    return max(reports, key=lambda result: result.id, default=None)


def _model_words(run: Run, data_folder: Path) -> str:
    """Name, version and the beginning of the hash."""
    words = ""
    path = data_folder / run.outcome_folder / OUTCOME_FILE
    if run.outcome_folder and path.is_file():
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        words = f"{model['name']} {model['version']}, "
    return f"{words}SHA-256 {run.model_hash[:12]}"


def tracked_regions(run: Run, data_folder: Path) -> tuple[TrackedRegion, ...]:
    """Of its segmentations, as far as their files are still here."""
    paths = [
        data_folder / result.path
        for result in run.results
        if result.role == "seg" and result.sop_class_uid == _SEGMENTATION_STORAGE and result.form in ("", "binary")
    ]
    return tuple(region for path in paths if path.is_file() for region in regions_of(path))
