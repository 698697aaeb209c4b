"""What of a series of experiments is done: so that one that was interrupted goes on where it was.

Beside a report lies `<name>.asked.json`, written last: what it was asked with. A report without it is not finished.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vp_train.experiments.checkpoint import named


def listing(folder: Path | None) -> list[str]:
    """Names and sizes of the files below a folder, which tell whether it is the same data."""
    if folder is None or not folder.is_dir():
        return []
    return [f"{path.relative_to(folder)} {path.stat().st_size}" for path in sorted(folder.rglob("*")) if path.is_file()]


def is_done(name: str, asked: Mapping[str, Any], out: Path, checkpoint: Path | None) -> bool:
    """Whether the report of an experiment is there, was asked with the same, and judged the same weights where it
    judged any.

    Args:
        asked: scale, settings and data, as JSON holds them.
        checkpoint: folder; the bundled one where None.
    """
    before, report = _read(out / f"{name}.asked.json"), _read(out / f"{name}.json")
    if before is None or report is None or before != json.loads(json.dumps(asked)):
        return False
    judged = report["settings"].get("checkpoint")
    return judged is None or judged == named(checkpoint)["checkpoint"]


def begin(name: str, out: Path) -> None:
    """From now on until `note_done` the experiment counts as not finished."""
    for ending in ("asked.json", "failure.txt"):
        (out / f"{name}.{ending}").unlink(missing_ok=True)


def note_done(name: str, asked: Mapping[str, Any], out: Path) -> None:
    (out / f"{name}.asked.json").write_text(json.dumps(asked) + "\n", encoding="utf-8")


def note_failure(name: str, problem: Exception, out: Path) -> Path:
    """Keeps how an experiment failed, and says where."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.failure.txt"
    path.write_text("".join(traceback.format_exception(problem)), encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any] | None:
    """None where there is no such file, or half of one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return found
